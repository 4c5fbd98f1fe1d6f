"""Reductions of losses that come one a sample, and what they do to gradients."""

from torch import Tensor

from pygen._sums import total


def reduced(each: Tensor, reduction: str) -> Tensor:
    """One number a sample [N], its sum, or that over N."""
    if reduction == "none":
        return each
    return total(each) / each.shape[0] if reduction == "batchmean" else total(each)


def spread(
    grad: Tensor,  # [N] or []
    samples: Tensor,  # [N, ..]
    reduction: str,
) -> Tensor:
    """The gradient of each sample's, [N]."""
    if reduction == "none":
        return grad
    n = samples.shape[0]
    return (grad / n if reduction == "batchmean" else grad).expand(n)
