"""Masked layers as people usually write them: a `mask` buffer beside the weight, and a dense product with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def raster_mask(kernel_size: tuple[int, int], mask_type: str) -> Tensor:
    """[kH, kW]: 1 for the pixels before the centre in raster order, with type "B" for the centre too."""
    height, width = kernel_size
    mask = torch.zeros(height, width)
    mask[: height // 2] = 1
    mask[height // 2, : width // 2 + (mask_type == "B")] = 1
    return mask


def rows_above_mask(kernel_size: int, mask_type: str) -> Tensor:
    """[k, k]: 1 for all columns of the rows above the centre, with type "B" for the centre's row too."""
    mask = torch.zeros(kernel_size, kernel_size)
    mask[: kernel_size // 2 + (mask_type == "B")] = 1
    return mask


class MaskedConv2d(nn.Conv2d):
    """conv2d(x, weight * mask).

    Args:
        mask_type: "A", "B", or the live taps themselves [kH, kW].
        color_groups: the centre tap joins input group i to output group o where i < o ("A") or i <= o ("B").
    """

    mask: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        mask_type: str | Tensor,
        color_groups: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding="same")
        height, width = self.kernel_size
        taps = raster_mask((height, width), mask_type) if isinstance(mask_type, str) else mask_type
        mask = taps.repeat(out_channels, in_channels, 1, 1)
        if color_groups > 1:
            group_out = torch.arange(out_channels) * color_groups // out_channels
            group_in = torch.arange(in_channels) * color_groups // in_channels
            centre = group_in < group_out[:, None] if mask_type == "A" else group_in <= group_out[:, None]
            mask[:, :, height // 2, width // 2] = centre.to(mask.dtype)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class DataMaskedConv2d(MaskedConv2d):
    """The other idiom: overwrites the weight through `.data` before each call."""

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data *= self.mask
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)


class MaskedLinear(nn.Linear):
    """linear(x, weight * mask), the mask [out, in] given with each call, as MADE changes it with its orderings."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return F.linear(x, self.weight * mask, self.bias)


def degrees_mask(in_degrees: Sequence[int], out_degrees: Sequence[int], *, strict: bool) -> Tensor:
    """[out, in]: 1 where out_degree > in_degree (strict) or >=."""
    ins, outs = torch.tensor(in_degrees), torch.tensor(out_degrees)[:, None]
    return (outs > ins if strict else outs >= ins).float()
