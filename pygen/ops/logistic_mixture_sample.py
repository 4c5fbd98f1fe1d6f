"""logistic_mixture_sample: levels drawn from mixtures of discretised logistics."""

from typing import Any

import torch
from torch import Generator, Tensor

from pygen import _checks
from pygen._layout import empty_levels
from pygen.ops._sampler import Sampler
from pygen.ops.logistic_mixture_nll import check_components, check_mixture

_OP = "logistic_mixture_sample"


def logistic_mixture_sample(
    params: Tensor,
    *,
    channels: int = 3,
    num_levels: int = 256,
    min_log_scale: float = -7.0,
    temperature: float = 1.0,
    seed: int | Tensor | None = None,
    generator: Generator | None = None,
    backend: str | None = None,
) -> Tensor:
    """Draws each pixel's integer levels from its mixture of discretised logistics: a component, then channel by channel.

    The distribution is exp(-logistic_mixture_nll) of the same parameters, the open bins at both ends included; green
    and blue have the means that the levels drawn before give them. (The sampler that comes with PixelCNN++ draws
    numbers between the levels, cuts their noise at 1e-5 and clamps.) Where a pixel's weights or its component's numbers
    are NaN, the level is 0. Not differentiable; what comes out does not require grad. Salimans et al. 2017,
    "PixelCNN++", equations 1 to 3.

    Each pixel takes 1 + C uniform numbers, a pure function of the seed, its image and its position. So draws do not
    depend on the batch, the layout, threads or the backend, but for numbers within rounding of a boundary: in float32
    about one in a hundred thousand, in float64 practically none. They are others than PixelCNNPP.sample makes of such
    parameters, which bisects the whole mixture's distribution function; the distribution is the same.

    Args:
        params: [N, P, ...], float64, float32, bfloat16 or float16; computed in float32 (float64). As logistic_mixture_nll takes
            them: P is 3 K for one channel and 10 K for three. Any strides.
        channels: 1 or 3.
        num_levels: 2 .. 65536.
        min_log_scale: log scales count as at least this much; -80 .. 80.
        temperature: the weights' logits are divided by it, the scales multiplied, as by PixelCNNPP.sample.
        seed: an int, or a 0-dim int64 tensor on params' device.
        generator: on params' device, draws the seed (torch.compile(fullgraph=True) cannot trace one: use seed=). Without both
            the seed comes from torch's default generator.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        Levels 0 .. num_levels - 1, [N, C, ...], what logistic_mixture_nll takes as x: torch.uint8 up to 256 levels, else
        torch.int64. channels_last where params are, else contiguous.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> params = torch.randn(2, 10 * 5, 8, 8)  # 5 components, 3 channels
        >>> x = pygen.functional.logistic_mixture_sample(params, seed=0)
        >>> x.shape, x.dtype
        (torch.Size([2, 3, 8, 8]), torch.uint8)
    """
    _check(params, channels, num_levels, min_log_scale)
    _checks.check_temperature(_OP, temperature)
    options = (channels, num_levels, float(min_log_scale), float(temperature))
    return _sampler(params, options, seed, generator, backend)


def _check(params: Any, channels: Any, num_levels: Any, min_log_scale: Any) -> None:
    _checks.check_tensor(_OP, "params", params)
    _checks.check_floating(_OP, "params", params)
    if params.dim() < 2:
        raise _checks.fail(_OP, "params", "at least two dims [N, P, ...]", list(params.shape))
    if isinstance(channels, bool) or not isinstance(channels, (int, torch.SymInt)):
        raise _checks.fail(_OP, "channels", "an int", type(channels).__name__, kind=TypeError)
    if channels not in (1, 3):
        raise _checks.fail(_OP, "channels", "1 or 3", channels)
    check_mixture(_OP, num_levels, min_log_scale)
    check_components(_OP, params, channels)


_sampler = Sampler(
    _OP,
    "int channels, int num_levels, float min_log_scale, float temperature",
    lambda params, channels, num_levels, *rest: empty_levels(params, channels, num_levels),
)
