"""Sums of products over all dims but the first, in plain PyTorch: x, y [N, ...] -> [N]; with y = x squared norms."""

import torch
from torch import Tensor


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def forward(
    x: Tensor,  # [N, ...]
    y: Tensor | None,  # the same; None: x
) -> Tensor:
    """[N], in float32 (float64 for float64)."""
    wide = x.to(compute_dtype(x.dtype))
    products = wide * (wide if y is None else y.to(wide.dtype))
    return products.reshape(len(x), -1).sum(1) if products.numel() else products.new_zeros(len(x))


def backward(
    factor: Tensor,  # [N], in compute dtype
    x: Tensor,  # [N, ...]
) -> Tensor:
    """Each sample times its factor: [N, ...], x's dtype and the strides of torch.empty_like(x)."""
    wide = x.to(compute_dtype(x.dtype))
    product = (factor.view(-1, *[1] * (x.dim() - 1)) * wide).to(x.dtype)
    out = torch.empty_like(x)
    return product if product.stride() == out.stride() else out.copy_(product)
