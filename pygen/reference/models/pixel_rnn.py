"""PixelRNN as people usually write it in plain PyTorch: oracle and baseline of `pygen.models.PixelRNN`.

Van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel Recurrent Neural Networks" (2016). Same constructor, `state_dict`, methods.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._autoregressive import PixelModel
from ._masked import MaskedConv2d
from .pixel_cnn import pointwise


class PixelRNN(PixelModel):
    """Type A, then residual blocks of LSTMs, a convolution for every row or diagonal."""

    def __init__(
        self,
        in_channels: int = 1,
        *,
        hidden_channels: int | None = None,
        num_blocks: int = 7,
        num_levels: int = 2,
        color_groups: int = 1,
        kind: str = "diagonal",
        first_kernel_size: int = 7,
        input_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        super().__init__(in_channels, num_levels, color_groups, input_range)
        hidden = hidden_channels or -(-64 // color_groups) * color_groups
        layer = {"diagonal": DiagonalBiLSTM, "row": RowLSTM}[kind]
        self.first = MaskedConv2d(in_channels, 2 * hidden, first_kernel_size, "A", color_groups)
        self.blocks = nn.Sequential(*(_Block(layer, hidden, color_groups) for _ in range(num_blocks)))
        self.head = nn.Sequential(
            nn.ReLU(),
            pointwise(MaskedConv2d, 2 * hidden, 2 * hidden, color_groups),
            nn.ReLU(),
            pointwise(MaskedConv2d, 2 * hidden, in_channels * num_levels, color_groups),
        )

    def _logits(self, x: Tensor, cond: None = None) -> Tensor:
        return self.head(self.blocks(self.first(x)))


class _Block(nn.Module):
    def __init__(self, layer: type[nn.Module], hidden: int, color_groups: int) -> None:
        super().__init__()
        self.lstm = layer(2 * hidden, hidden, color_groups)
        self.widen = pointwise(MaskedConv2d, hidden, 2 * hidden, color_groups)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.widen(self.lstm(x))


class RowLSTM(nn.Module):
    """[N, C, R, W] -> [N, H, R, W], row after row; taps are the pixels around each one in the row above."""

    def __init__(
        self, in_channels: int, hidden: int, color_groups: int = 1, kernel_size: int = 3, width: int = 3
    ) -> None:
        super().__init__()
        self.hidden, self.color_groups = hidden, color_groups
        if width == 1:
            self.input_to_state = pointwise(MaskedConv2d, in_channels, 4 * hidden, color_groups)
        else:
            self.input_to_state = MaskedConv2d(in_channels, 4 * hidden, (1, width), "B", color_groups)
        bound = (hidden * kernel_size) ** -0.5
        self.state_to_state = nn.Parameter(torch.empty(4 * hidden, hidden, kernel_size).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        padding = self.state_to_state.shape[2] // 2
        return self.scan(self.input_to_state(x), lambda h: F.conv1d(h, self.state_to_state, padding=padding))

    def scan(self, gates: Tensor, convolve: Callable[[Tensor], Tensor]) -> Tensor:
        """gates [N, 4 H, R, W] -> h [N, H, R, W], along the rows."""
        h = c = gates.new_zeros(len(gates), self.hidden, gates.shape[3])
        rows = []
        for row in gates.unbind(2):
            parts = (row + convolve(h)).unflatten(1, (self.color_groups, 4, -1)).unbind(2)
            o, f, i, g = (part.flatten(1, 2) for part in parts)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            rows.append(h)
        return torch.stack(rows, 2)


class DiagonalLSTM(RowLSTM):
    """From the upper left corner: rows of the skewed map, whose columns are diagonals, turned; taps are above and to the left."""

    def __init__(self, in_channels: int, hidden: int, color_groups: int = 1) -> None:
        super().__init__(in_channels, hidden, color_groups, kernel_size=2, width=1)

    def forward(self, x: Tensor) -> Tensor:
        gates = skew(self.input_to_state(x)).transpose(2, 3)
        h = self.scan(gates, lambda h: F.conv1d(F.pad(h, (1, 0)), self.state_to_state))
        return unskew(h.transpose(2, 3))


class MirroredLSTM(DiagonalLSTM):
    """From the upper right corner, and moved down by one row."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(super().forward(x.flip(3)).flip(3), (0, 0, 1, 0))[:, :, :-1]


class DiagonalBiLSTM(nn.Module):
    """From both upper corners."""

    def __init__(self, in_channels: int, hidden: int, color_groups: int = 1) -> None:
        super().__init__()
        self.right = DiagonalLSTM(in_channels, hidden, color_groups)
        self.left = MirroredLSTM(in_channels, hidden, color_groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.right(x) + self.left(x)


def skew(x: Tensor) -> Tensor:
    """[N, C, R, W] -> [N, C, R, W + R - 1], row r moved to the right by r, zeros around it."""
    rows = x.shape[2]
    return torch.stack([F.pad(row, (r, rows - 1 - r)) for r, row in enumerate(x.unbind(2))], 2)


def unskew(x: Tensor) -> Tensor:
    """The inverse."""
    rows = x.shape[2]
    width = x.shape[3] - rows + 1
    return torch.stack([row[..., r : r + width] for r, row in enumerate(x.unbind(2))], 2)
