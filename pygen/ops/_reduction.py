"""Reductions of losses that come one a sample, and what they do to gradients."""

from torch import Tensor

from pygen._sums import total


def reduced(each: Tensor, reduction: str) -> Tensor:
    """One number a sample [N], its sum, or that over N."""
    if reduction == "none":
        return each
    return total(each) / each.shape[0] if reduction == "batchmean" else total(each)


def over_samples(
    grad: Tensor,  # []
    samples: Tensor,  # [N, ..]
) -> Tensor:
    """The gradient of each sample's under a mean, []; 0 of no samples: infinity times no terms' sum would be NaN."""
    return grad / samples.shape[0] if samples.shape[0] else grad.new_zeros(())


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
