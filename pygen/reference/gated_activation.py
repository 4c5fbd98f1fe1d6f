"""The gate of Gated PixelCNN in plain PyTorch: tanh(a) * sigmoid(b), a and b the halves of each colour group's channels.

Van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", equation 2. Computed in float32 (float64 for
float64), rounded once.
"""

import torch
from torch import Tensor


def compose(input: Tensor, cond: Tensor | None, color_groups: int) -> Tensor:
    """input [N, C, ...], cond [N, C] or like input -> [N, C / 2, ...]; differentiable to any order."""
    wide = torch.promote_types(input.dtype, torch.float32)
    x = input.to(wide)
    if cond is not None:
        x = x + cond.to(wide).reshape(*cond.shape, *[1] * (input.dim() - cond.dim()))
    a, b = x.unflatten(1, (color_groups, 2, -1)).unbind(2)
    return (torch.tanh(a) * torch.sigmoid(b)).flatten(1, 2).to(input.dtype)
