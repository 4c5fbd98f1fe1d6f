"""PixelCNN as people usually write it in plain PyTorch: oracle and baseline of `pygen.models.PixelCNN`.

Van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel Recurrent Neural Networks" (2016). Same constructor, `state_dict`, methods.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ._autoregressive import PixelModel
from ._masked import DataMaskedConv2d, MaskedConv2d


class PixelCNN(PixelModel):
    """Type A, then residual blocks of type B, in which a mask multiplies the weights at every call."""

    conv: type[MaskedConv2d] = MaskedConv2d

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
        input_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        super().__init__(in_channels, num_levels, color_groups, input_range)
        width = hidden_channels or default_width(color_groups)
        self.first = self.conv(in_channels, width, first_kernel_size, "A", color_groups)
        self.blocks = nn.Sequential(*(_Block(self.conv, width, kernel_size, color_groups) for _ in range(num_blocks)))
        self.head = nn.Sequential(
            nn.ReLU(),
            pointwise(self.conv, width, width, color_groups),
            nn.ReLU(),
            pointwise(self.conv, width, in_channels * num_levels, color_groups),
        )

    def _logits(self, x: Tensor, cond: None = None) -> Tensor:
        return self.head(self.blocks(self.first(x)))


class DataPixelCNN(PixelCNN):
    """The same model in the other common idiom, `weight.data *= mask`: for comparison."""

    conv = DataMaskedConv2d


class _Block(nn.Module):
    def __init__(self, conv: type[MaskedConv2d], width: int, kernel_size: int, color_groups: int) -> None:
        super().__init__()
        self.narrow = pointwise(conv, width, width // 2, color_groups)
        self.masked = conv(width // 2, width // 2, kernel_size, "B", color_groups)
        self.widen = pointwise(conv, width // 2, width, color_groups)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.widen(F.relu(self.masked(F.relu(self.narrow(F.relu(x))))))


def default_width(color_groups: int) -> int:
    """The first number from 64 on whose half divides into the groups: 64, and 66 for three."""
    return -(-64 // (2 * color_groups)) * 2 * color_groups


def pointwise(conv: type[MaskedConv2d], ins: int, outs: int, color_groups: int) -> nn.Conv2d:
    """A 1x1 convolution, which must be masked where the channels of a pixel are ordered."""
    return nn.Conv2d(ins, outs, 1) if color_groups == 1 else conv(ins, outs, 1, "B", color_groups)
