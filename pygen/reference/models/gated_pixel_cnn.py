"""Gated PixelCNN as people usually write it in plain PyTorch: oracle and baseline of `pygen.models.GatedPixelCNN`.

Van den Oord et al., "Conditional Image Generation with PixelCNN Decoders" (2016). Same constructor, `state_dict`, methods.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._autoregressive import PixelModel
from ._masked import MaskedConv2d, rows_above_mask
from .pixel_cnn import default_width, pointwise


class GatedPixelCNN(PixelModel):
    """A vertical stack that sees the rows above and a horizontal one that sees the current row and the vertical stack."""

    def __init__(
        self,
        in_channels: int = 1,
        *,
        hidden_channels: int | None = None,
        num_blocks: int = 7,
        num_levels: int = 2,
        color_groups: int = 1,
        kernel_size: int = 3,
        first_kernel_size: int = 7,
        num_classes: int | None = None,
        cond_channels: int | None = None,
        input_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        super().__init__(in_channels, num_levels, color_groups, input_range)
        self.num_classes, self.cond_channels = num_classes, cond_channels
        width, cond = hidden_channels or default_width(color_groups), num_classes or cond_channels
        self.first = GatedLayer(in_channels, width, first_kernel_size, "A", color_groups, cond)
        self.blocks = nn.ModuleList(
            GatedLayer(width, width, kernel_size, "B", color_groups, cond) for _ in range(num_blocks)
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            pointwise(MaskedConv2d, width, width, color_groups),
            nn.ReLU(),
            pointwise(MaskedConv2d, width, in_channels * num_levels, color_groups),
        )

    def _logits(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        if cond is not None:
            cond = F.one_hot(cond, self.num_classes).to(x.dtype) if self.num_classes else cond.to(x.dtype)
        vertical, horizontal = self.first(x, x, cond)
        for block in self.blocks:
            vertical, horizontal = block(vertical, horizontal, cond)
        return self.head(horizontal)


class GatedLayer(nn.Module):
    """tanh times sigmoid in both stacks; the horizontal one has a residual connection, except with type A."""

    def __init__(
        self, ins: int, outs: int, kernel_size: int, mask_type: str, color_groups: int, cond_channels: int | None
    ) -> None:
        super().__init__()
        self.mask_type, self.color_groups = mask_type, color_groups
        self.vertical = MaskedConv2d(ins, 2 * outs, kernel_size, rows_above_mask(kernel_size, mask_type))
        self.vertical_to_horizontal = nn.Conv2d(2 * outs, 2 * outs, 1)
        self.horizontal = MaskedConv2d(ins, 2 * outs, (1, kernel_size), mask_type, color_groups)
        self.out = pointwise(MaskedConv2d, outs, outs, color_groups)
        self.cond = nn.Linear(cond_channels, 4 * outs, bias=False) if cond_channels else None

    def forward(self, v: Tensor, h: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] of either stack, cond [N, K] or [N, K, H, W]."""
        v_in = self.vertical(v)
        h_in = self.horizontal(h) + self.vertical_to_horizontal(v_in)
        if self.cond is not None and cond is not None:
            of_map = cond if cond.dim() == 4 else cond[:, :, None, None]
            to_v, to_h = F.conv2d(of_map, self.cond.weight[:, :, None, None]).chunk(2, dim=1)
            v_in, h_in = v_in + to_v, h_in + to_h
        out = self.out(gate(h_in, self.color_groups))
        return gate(v_in, 1), out if self.mask_type == "A" else h + out


def gate(x: Tensor, color_groups: int) -> Tensor:
    """Inside each colour group the first half goes through tanh, the second through sigmoid."""
    halves = [group.chunk(2, dim=1) for group in x.chunk(color_groups, dim=1)]
    return torch.cat([torch.tanh(a) * torch.sigmoid(b) for a, b in halves], dim=1)
