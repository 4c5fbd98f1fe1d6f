"""categorical_sample: integer levels drawn from softmaxes of logits."""

from typing import Any

import torch
from torch import Generator, Tensor

from pygen import _checks
from pygen._layout import empty_levels
from pygen.ops._sampler import Sampler
from pygen.ops.categorical_nll import MOST_LEVELS

_OP = "categorical_sample"


def categorical_sample(
    logits: Tensor,
    *,
    channels: int = 1,
    temperature: float = 1.0,
    seed: int | Tensor | None = None,
    generator: Generator | None = None,
    backend: str | None = None,
) -> Tensor:
    """Draws integer levels independently, each with the probabilities softmax(block / temperature) of its L logits.

    What torch.distributions.Categorical(logits=...).sample() draws of the same logits as [N, C, ..., L], in one pass
    over them: nothing of their size is written. The levels' distribution is exp(-categorical_nll). A level of logit
    -inf is never drawn. Where logits are NaN or +inf, or all -inf, the level is 0. Not differentiable; what comes out
    does not require grad.

    Each level takes one uniform number, a pure function of the seed, its image and its place p C + c in it (position p,
    channel c), and is the first whose cumulated probability reaches that number. So draws do not depend on the batch,
    the layout, threads or the backend, but for numbers that lie within the rounding of the sums of a boundary: in
    float32 about one in a million, in float64 practically none.

    Args:
        logits: [N, C * L, ...], float64, float32, bfloat16 or float16; computed in float32 (float64). As categorical_nll takes
            them: along dim 1 L logits for each channel, one channel after the other; L is 2 .. 2^24. Any strides.
        channels: C.
        temperature: logits are divided by it; towards 0 the likeliest level comes always.
        seed: an int, or a 0-dim int64 tensor on logits' device.
        generator: on logits' device, draws the seed (torch.compile(fullgraph=True) cannot trace one: use seed=). Without both
            the seed comes from torch's default generator.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        Levels 0 .. L - 1, [N, C, ...], what categorical_nll takes as x: torch.uint8 up to 256 levels, else torch.int64.
        channels_last where logits are, else contiguous.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> logits = torch.randn(4, 3 * 16, 8, 8)  # 16 levels of each of 3 channels
        >>> levels = pygen.functional.categorical_sample(logits, channels=3, seed=0)
        >>> levels.shape, levels.dtype
        (torch.Size([4, 3, 8, 8]), torch.uint8)
    """
    _check(logits, channels)
    _checks.check_temperature(_OP, temperature)
    return _sampler(logits, (channels, float(temperature)), seed, generator, backend)


def _check(logits: Any, channels: Any) -> None:
    _checks.check_tensor(_OP, "logits", logits)
    _checks.check_floating(_OP, "logits", logits)
    if logits.dim() < 2:
        raise _checks.fail(_OP, "logits", "at least two dims [N, C * L, ...]", list(logits.shape))
    if isinstance(channels, bool) or not isinstance(channels, (int, torch.SymInt)):
        raise _checks.fail(_OP, "channels", "an int", type(channels).__name__, kind=TypeError)
    if channels < 1:
        raise _checks.fail(_OP, "channels", "at least 1", channels)
    numbers = logits.shape[1]
    if numbers % channels or not 2 <= numbers // channels <= MOST_LEVELS:
        expected = f"2 .. {MOST_LEVELS} logits for each of {channels} channel(s) along dim 1"
        raise _checks.fail(_OP, "logits", expected, f"{numbers} in {list(logits.shape)}")


def _fake(logits: Tensor, channels: int, temperature: float) -> Tensor:
    return empty_levels(logits, channels, logits.shape[1] // channels)


_sampler = Sampler(_OP, "SymInt channels, float temperature", _fake)
