"""How fuzz.py moves numbers by their last bits."""

import torch
from torch import Tensor


def nudged(t: Tensor, eps: float, g: torch.Generator) -> Tensor:
    """t in float64, each stored number moved by eps up or down; of an expanded dim all together."""
    stored = [n if stride else 1 for n, stride in zip(t.shape, t.stride(), strict=True)]
    return t.double() * (1 + eps * (torch.randint(2, stored, generator=g).double() * 2 - 1))


class _Rounded(torch.autograd.Function):
    """Each element, or each of its gradient, moved by eps up or down."""

    @staticmethod
    def forward(ctx, x, gradient, eps, g):
        ctx.gradient, ctx.eps, ctx.g = gradient, eps, g
        return x.clone() if gradient else nudged(x, eps, g)

    @staticmethod
    def backward(ctx, grad):
        return nudged(grad, ctx.eps, ctx.g) if ctx.gradient else grad, None, None, None


def move_rounded(x: Tensor, *, eps: float, g: torch.Generator, gradient: bool = False) -> Tensor:
    return _Rounded.apply(x, gradient, eps, g)
