"""The gate of Gated PixelCNN in plain PyTorch: tanh(a) * sigmoid(b), a and b the halves of each colour group's channels.

Van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", equation 2. Computed in float32 (float64 for
float64), rounded once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen.reference._layout import in_layout_of


def _halves(input: Tensor, cond: Tensor | None, color_groups: int) -> tuple[Tensor, Tensor]:
    """a and b in the dtype computed in, [N, color_groups, C / 2 / color_groups, ...]"""
    wide = torch.promote_types(input.dtype, torch.float32)
    x = input.to(wide)
    if cond is not None:
        x = x + cond.to(wide).reshape(*cond.shape, *[1] * (input.dim() - cond.dim()))
    batch, channels, *pixels = x.shape
    a, b = x.reshape(batch, color_groups, 2, channels // (2 * color_groups), *pixels).unbind(2)
    return a, b


def forward(input: Tensor, cond: Tensor | None, color_groups: int) -> Tensor:
    """input [N, C, ...], cond [N, C] or like input -> [N, C / 2, ...], channels_last iff the input is."""
    return in_layout_of(compose(input, cond, color_groups), input)


def compose(input: Tensor, cond: Tensor | None, color_groups: int) -> Tensor:
    """`forward` in whatever layout comes; differentiable to any order, and torch.func can transform it."""
    a, b = _halves(input, cond, color_groups)
    return torch.cat((torch.tanh(a) * torch.sigmoid(b)).unbind(1), dim=1).to(input.dtype)


def backward(
    grad: Tensor,  # [N, C / 2, ...]
    input: Tensor,  # [N, C, ...]
    cond: Tensor | None,  # [N, C] or like input
    color_groups: int,
    needs: Sequence[bool],
    more: Tensor | None = None,  # [N, C, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of input, `more` added, and of cond; None where needs is False; differentiable to any order."""
    a, b = _halves(input, cond, color_groups)
    tanh, sigmoid, g = torch.tanh(a), torch.sigmoid(b), grad.to(a.dtype).reshape(a.shape)
    # Not 1 - tanh^2 and 1 - sigmoid, which have no digits left in the tails.
    slope = 4 * torch.sigmoid(2 * a) * torch.sigmoid(-2 * a)
    halves = (g * sigmoid * slope, g * tanh * sigmoid * torch.sigmoid(-b))
    both = torch.cat([half for pair in zip(*(h.unbind(1) for h in halves), strict=True) for half in pair], dim=1)
    grad_input = (both if more is None else both + more.to(both.dtype)).to(input.dtype) if needs[0] else None
    if cond is None or not needs[1]:
        return grad_input, None
    grad_cond = both.clone() if cond.dim() == input.dim() else both.contiguous().sum(tuple(range(2, input.dim())))
    return grad_input, grad_cond.to(cond.dtype)
