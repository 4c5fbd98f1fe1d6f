"""logistic_mixture_nll: the discretised logistic mixture likelihood of integer levels, its gradient by the same arithmetic."""

from typing import Any

from torch import Tensor

from pygen import _checks
from pygen.ops._likelihood import MOST_LEVELS, Likelihood, check_level_values, check_levels
from pygen.reference import logistic_mixture_nll as reference

_OP = "logistic_mixture_nll"
_WIDEST = 80.0  # e^80 and what is multiplied by it fit float32


def logistic_mixture_nll(
    params: Tensor,
    x: Tensor,
    *,
    num_levels: int = 256,
    min_log_scale: float = -7.0,
    reduction: str = "batchmean",
    backend: str | None = None,
) -> Tensor:
    """The negative log-likelihood, in nats, of integer levels under a mixture of logistics for each pixel: PixelCNN++'s loss.

    Level x stands at v = 2 x / (num_levels - 1) - 1 and has the mass of its bin, of half a width h = 1 / (num_levels -
    1), the outer two bins open: log sigma(a) + log sigma(-b) + log(1 - e^(b - a)), a and b = (v +- h - mean)
    e^-log_scale, which is exact in the tails too, as are the gradients. Of a pixel the log-sum-exp over the components
    of their log weight plus the log-probabilities of all channels. Salimans et al. 2017, "PixelCNN++", equations 1 to
    3.

    Differentiable to any order in params (first order under torch.compile); torch.func transforms run the reference
    composition. On a CPU the pass that sums the loss also makes the gradient for an upstream gradient of 1, which is
    held until backward hands it out (not under saved-tensor hooks such as checkpointing's).

    Args:
        params: [N, P, ...], float64, float32, bfloat16 or float16; computed in float32 (float64). P is 3 K for one channel
            and 10 K for three. Along P: the logits of K components; then for each channel K means, K log scales and, for
            three channels, K coefficients c: green's mean is its own + tanh(c_red) red, blue's its own + tanh(c_green) red +
            tanh(c_blue) green, with red and green as observed, in [-1, 1].
        x: levels 0 .. num_levels - 1, [N, C, ...] with C = 1 or 3 and the other dims of params; torch.uint8 or torch.int64.
            A wrong level raises on a CPU; on a GPU, where a check would have to synchronise, it makes the loss NaN.
        num_levels: 2 .. 65536.
        min_log_scale: log scales count as at least this much, without a gradient below it; -80 .. 80.
        reduction: "none" gives [N], summed over the positions; "sum" the total; "batchmean" the total over N.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        float32 (float64 for float64), [N] or 0-dim. Bits a dimension: over C times the positions, and over log 2.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> params = torch.randn(2, 10 * 5, 8, 8)  # 5 components, 3 channels
        >>> x = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
        >>> pygen.functional.logistic_mixture_nll(params, x).shape
        torch.Size([])
        >>> pygen.functional.logistic_mixture_nll(params, x, reduction="none").shape
        torch.Size([2])
    """
    _check(params, x, num_levels, min_log_scale)
    _checks.check_reduction(_OP, reduction)
    return _likelihood(params, x, (num_levels, float(min_log_scale), reduction), backend)


def _check(params: Any, x: Any, num_levels: Any, min_log_scale: Any) -> None:
    _checks.check_tensor(_OP, "params", params)
    _checks.check_floating(_OP, "params", params)
    if params.dim() < 2:
        raise _checks.fail(_OP, "params", "at least two dims [N, P, ...]", list(params.shape))
    check_mixture(_OP, num_levels, min_log_scale)
    check_levels(_OP, x, num_levels, "params", params)
    channels = x.shape[1]
    if channels != 1 and channels != 3:
        raise _checks.fail(_OP, "x", "1 or 3 channels", f"{channels} in {list(x.shape)}")
    check_components(_OP, params, channels)


def check_components(op: str, params: Tensor, channels: Any) -> None:
    each = reference.params_per_component(channels)
    if params.shape[1] == 0 or params.shape[1] % each:
        expected = f"a multiple of {each} numbers a pixel, {each} for each component of {channels} channel(s)"
        raise _checks.fail(op, "params", expected, f"{params.shape[1]} in {list(params.shape)}")


def check_mixture(op: str, num_levels: Any, min_log_scale: Any) -> None:
    if isinstance(num_levels, bool) or not isinstance(num_levels, int):
        raise _checks.fail(op, "num_levels", "an int", type(num_levels).__name__, kind=TypeError)
    if not 2 <= num_levels <= MOST_LEVELS:
        raise _checks.fail(op, "num_levels", f"2 <= num_levels <= {MOST_LEVELS}", num_levels)
    if isinstance(min_log_scale, bool) or not isinstance(min_log_scale, (int, float)):
        raise _checks.fail(op, "min_log_scale", "a number", type(min_log_scale).__name__, kind=TypeError)
    if not -_WIDEST <= min_log_scale <= _WIDEST:
        raise _checks.fail(op, "min_log_scale", f"-{_WIDEST:g} <= min_log_scale <= {_WIDEST:g}", min_log_scale)


_likelihood = Likelihood(
    _OP,
    reference,
    "Tensor params, Tensor x, int num_levels, float min_log_scale",
    lambda params, x, num_levels, *rest: check_level_values(_OP, x, num_levels),
)
