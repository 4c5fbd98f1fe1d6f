"""bernoulli_nll: the likelihood of binary data under logits, its gradient by the same pass."""

from typing import Any

from torch import Tensor

from pygen import _checks
from pygen._sums import sum_to
from pygen.ops._likelihood import LEVEL_DTYPES, Likelihood, check_level_values
from pygen.reference import bernoulli_nll as reference
from pygen.reference._likelihood import laid_out

_OP = "bernoulli_nll"


def bernoulli_nll(logits: Tensor, x: Tensor, *, reduction: str = "batchmean", backend: str | None = None) -> Tensor:
    """The negative log-likelihood, in nats, of binary x under independent Bernoullis: the reconstruction term of a VAE.

    The same as F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / N, in one pass: softplus(l) - x l for
    each element, accurate for any l. An infinite logit on the right side of x = 0 or 1 costs 0, on the wrong side
    infinity, with gradients 0 and +-1. Kingma and Welling 2014, "Auto-Encoding Variational Bayes", appendix C.1.

    Differentiable to any order in logits and in a floating x, whose gradient is -l, summed back where x was broadcast
    (first order under torch.compile); torch.func transforms run the reference composition. On a CPU the pass that sums
    the loss also makes the gradient for an upstream gradient of 1, which is held until backward hands it out (not under
    saved-tensor hooks such as checkpointing's).

    Args:
        logits: [N, ...], float64, float32, bfloat16 or float16; computed in float32 (float64).
        x: broadcasts to logits' shape, never the reverse. torch.bool, torch.uint8 or torch.int64 levels {0, 1}: another
            level raises on a CPU; on a GPU, where a check would have to synchronise, it makes the loss NaN. Or floating, of
            logits' dtype, in [0, 1]: between the ends the result is no likelihood but the cross entropy of Bernoulli(x) and
            the model. As by F.binary_cross_entropy_with_logits floating values are not checked: beyond [0, 1] the formula
            goes on, NaN gives NaN.
        reduction: "none" gives [N], summed over the other dims; "sum" the total; "batchmean" the total over N.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        float32 (float64 for float64), [N] or 0-dim. Bits a dimension: over the elements of a sample, and over log 2.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> logits = torch.zeros(4, 1, 8, 8, requires_grad=True)
        >>> x = torch.randint(2, (4, 1, 8, 8), dtype=torch.uint8)
        >>> pygen.functional.bernoulli_nll(logits, x).shape
        torch.Size([])
        >>> pygen.functional.bernoulli_nll(logits, x, reduction="none").shape
        torch.Size([4])
    """
    if _checks.autocast_enabled() and isinstance(x, Tensor) and x.is_floating_point():
        logits, x = _checks.promote_under_autocast(logits, x)
    _check(logits, x)
    _checks.check_reduction(_OP, reduction)
    return _likelihood(logits, x, (reduction,), backend)


def _check(logits: Any, x: Any) -> None:
    _checks.check_tensor(_OP, "logits", logits)
    _checks.check_floating(_OP, "logits", logits)
    if logits.dim() == 0:
        raise _checks.fail(_OP, "logits", "at least one dim, [N, ...]", "a 0-dim tensor")
    _checks.check_tensor(_OP, "x", x)
    if x.dtype != logits.dtype and x.dtype not in reference.LEVELS:
        expected = f"{logits.dtype}, the dtype of logits, or torch.bool, torch.uint8 or torch.int64"
        raise _checks.fail(_OP, "x", expected, x.dtype, kind=TypeError)
    if x.device != logits.device:
        raise _checks.fail(_OP, "x", f"a tensor on {logits.device}, where logits is", x.device)
    if x.dim() != logits.dim() or x.shape != logits.shape:
        _checks.check_broadcasts(_OP, "x", x, "logits", logits.shape)


def _check_values(logits: Tensor, x: Tensor, reduction: str) -> None:
    if x.dtype in LEVEL_DTYPES:
        check_level_values(_OP, x, 2)


def _x_gradient(grad_nll: Tensor, logits: Tensor, x: Tensor, reduction: str) -> Tensor:
    """-l of each element, summed back to x's shape."""
    full = sum_to(-logits.to(grad_nll.dtype) * reference.upstream(grad_nll, logits, reduction), x)
    return laid_out(full, x) if x.shape == logits.shape else full


_likelihood = Likelihood(_OP, reference, "Tensor logits, Tensor x", _check_values, _x_gradient)
