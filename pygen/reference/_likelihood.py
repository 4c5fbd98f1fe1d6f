"""What the references of likelihoods share."""

import torch
import torch.nn.functional as F
from torch import Tensor


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), exact for every x, where F.softplus turns into x at 20; derivatives of every order too, at 0 as well."""
    return -F.logsigmoid(-x)


def reduced(nll: Tensor, reduction: str) -> Tensor:
    """Of losses [N, ...]: [N] or a scalar."""
    if reduction == "none":
        return nll.flatten(1).sum(1) if nll.dim() > 1 else nll
    return nll.sum() / nll.shape[0] if reduction == "batchmean" else nll.sum()


def laid_out(t: Tensor, like: Tensor) -> Tensor:
    """`t` with the strides of torch.empty_like(like), by steps that transforms know."""
    strides = torch.empty_like(like).stride()
    order = sorted(range(t.dim()), key=lambda dim: -strides[dim])
    return t.permute(order).contiguous().permute([order.index(dim) for dim in range(t.dim())])
