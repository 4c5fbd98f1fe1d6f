"""The Bernoulli likelihood by logits in plain PyTorch (Kingma and Welling 2014, appendix C.1; nats).

    -log p(x) = softplus(l) - x l = x softplus(-l) + (1 - x) softplus(l)

The second form is the one that is computed: one factor is 0 for x in {0, 1}, so nothing cancels and infinite logits have a loss;
x between them makes it the cross entropy of Bernoulli(x) and Bernoulli(sigmoid(l)). softplus(y) is -log sigmoid(-y):
F.softplus gives up the exponential at 20.

`forward` differentiates by autograd; `backward` is the closed form, itself differentiable, so it serves second order. Both
compute in float32 (float64 for float64) and round once.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pygen.reference._likelihood import compute_dtype, laid_out, reduced

LEVELS = (torch.bool, torch.uint8, torch.int64)  # dtypes of x; else that of logits


def targets(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x as `dtype`; NaN of integers other than 0 and 1."""
    if x.dtype not in LEVELS or x.dtype == torch.bool:
        return x.to(dtype)
    return x.to(dtype).masked_fill((x != 0) & (x != 1), math.nan)


def _share(weight: Tensor, nll: Tensor) -> Tensor:
    """weight * nll, 0 of nothing times infinity."""
    return weight * nll.masked_fill((weight == 0) & nll.isinf(), 0)


def forward(
    logits: Tensor,  # [N, ...]
    x: Tensor,  # broadcasts to logits; bool, uint8, int64 or logits' dtype
    reduction: str,
) -> Tensor:
    """The negative log-likelihood, [N] or a scalar."""
    wide = compute_dtype(logits.dtype)
    y, t = logits.to(wide), targets(x, wide)
    nll = _share(1 - t, -F.logsigmoid(-y)) - _share(t, F.logsigmoid(y))
    return reduced(nll, reduction)


def upstream(grad_nll: Tensor, logits: Tensor, reduction: str) -> Tensor:
    """The gradient of the sum that each element is in; broadcasts to logits."""
    if reduction == "none":
        return grad_nll.reshape(-1, *[1] * (logits.dim() - 1))
    return grad_nll / logits.shape[0] if reduction == "batchmean" else grad_nll


def backward(
    grad_nll: Tensor,  # [N] or []
    logits: Tensor,  # [N, ...]
    x: Tensor,  # broadcasts to logits
    reduction: str,
) -> Tensor:
    """The gradient of logits: sigmoid(l) - x in a form that loses no digits where x is 0 or 1. That of x is -l."""
    wide = compute_dtype(logits.dtype)
    y, t = logits.to(wide), targets(x, wide)
    slope = (1 - t) * y.sigmoid() - t * (-y).sigmoid()
    return laid_out((slope * upstream(grad_nll, logits, reduction)).to(logits.dtype), logits)
