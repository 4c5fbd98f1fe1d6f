"""categorical_nll: the likelihood of integer levels by their logits, its gradient by the same pass."""

from typing import Any

from torch import Tensor

from pygen import _checks
from pygen.ops._likelihood import Likelihood, check_level_values, check_levels
from pygen.reference import categorical_nll as reference

_OP = "categorical_nll"
MOST_LEVELS = 1 << 24  # float32 counts so far one by one


def categorical_nll(logits: Tensor, x: Tensor, *, reduction: str = "batchmean", backend: str | None = None) -> Tensor:
    """The negative log-likelihood, in nats, of integer levels under softmaxes of logits: the loss of PixelCNN and its kin.

    -log softmax(block)[level] for each channel and position, summed over them: what F.cross_entropy(reduction="sum") /
    N gives of the same logits as [N * C, L, ...], from one pass over them. A logit of -inf makes its level impossible:
    its gradient is 0, and the loss is +inf where x has that level. Van den Oord et al. 2016, "Pixel Recurrent Neural
    Networks", section 3.4.

    Differentiable to any order in logits (first order under torch.compile); torch.func transforms run the reference
    composition. On a CPU the pass that sums the loss also makes the gradient for an upstream gradient of 1, which is
    held until backward hands it out (not under saved-tensor hooks such as checkpointing's).

    Args:
        logits: [N, C * L, ...], float64, float32, bfloat16 or float16; computed in float32 (float64). Along dim 1 L logits for
            each channel of x, one channel after the other; L, 2 .. 2^24, follows from x. Any strides.
        x: levels 0 .. L - 1, [N, C, ...] with the other dims of logits; torch.uint8 or torch.int64. A wrong level raises on a
            CPU; on a GPU, where a check would have to synchronise, it makes the loss NaN.
        reduction: "none" gives [N], summed over channels and positions; "sum" the total; "batchmean" the total over N.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        float32 (float64 for float64), [N] or 0-dim. Bits a dimension: over C times the positions, and over log 2.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> logits = torch.randn(4, 3 * 16, 8, 8)  # 16 levels of each of 3 channels
        >>> x = torch.randint(16, (4, 3, 8, 8))
        >>> pygen.functional.categorical_nll(logits, x).shape
        torch.Size([])
        >>> pygen.functional.categorical_nll(logits, x, reduction="none").shape
        torch.Size([4])
    """
    _check(logits, x)
    _checks.check_reduction(_OP, reduction)
    return _likelihood(logits, x, (reduction,), backend)


def _check(logits: Any, x: Any) -> None:
    _checks.check_tensor(_OP, "logits", logits)
    _checks.check_floating(_OP, "logits", logits)
    if logits.dim() < 2:
        raise _checks.fail(_OP, "logits", "at least two dims [N, C * L, ...]", list(logits.shape))
    check_levels(_OP, x, None, "logits", logits)
    channels, numbers = x.shape[1], logits.shape[1]
    if channels == 0:
        raise _checks.fail(_OP, "x", "at least one channel", f"none in {list(x.shape)}")
    if numbers % channels or not 2 <= numbers // channels <= MOST_LEVELS:
        expected = f"2 .. {MOST_LEVELS} logits for each of {channels} channel(s) along dim 1"
        raise _checks.fail(_OP, "logits", expected, f"{numbers} in {list(logits.shape)}")


_likelihood = Likelihood(
    _OP,
    reference,
    "Tensor logits, Tensor x",
    lambda logits, x, reduction: check_level_values(_OP, x, logits.shape[1] // x.shape[1]),
)
