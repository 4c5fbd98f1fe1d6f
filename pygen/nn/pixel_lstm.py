"""The recurrent layers of PixelRNN over pixel_lstm."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygen import _checks, _dispatch, _taps
from pygen.functional import pixel_lstm
from pygen.nn._pointwise import PointwiseConv2d
from pygen.nn.masked_conv2d import MaskedConv2d


class _PixelLSTM(nn.Module):
    """The input-to-state convolution and the state-to-state weight of one direction."""

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int,
        direction: str,
        color_groups: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        backend: str | None,
    ) -> None:
        super().__init__()
        self.direction, self.color_groups, self.backend = direction, color_groups, backend
        gates = 4 * hidden_channels
        width = kernel_size if direction == "down" else 1
        if width == 1 and color_groups == 1:
            self.input_to_state: nn.Conv2d = PointwiseConv2d(in_channels, gates, device, dtype)
        else:
            self.input_to_state = MaskedConv2d(
                in_channels,
                gates,
                (1, width),
                "B",
                color_groups=color_groups,
                device=device,
                dtype=dtype,
                backend=backend,
            )
        self.state_to_state = nn.Parameter(
            torch.empty((gates, hidden_channels, kernel_size), device=device, dtype=dtype)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As nn.Conv2d does."""
        self.input_to_state.reset_parameters()
        fan_in = self.state_to_state[0].numel()
        nn.init.uniform_(self.state_to_state, -(fan_in**-0.5), fan_in**-0.5)

    def forward(self, input: Tensor) -> Tensor:  # [N, Cin, R, W] -> [N, H, R, W]
        return pixel_lstm(
            self.input_to_state(input),
            self.state_to_state,
            direction=self.direction,
            color_groups=self.color_groups,
            backend=self.backend,
        )


def _check(name: str, in_channels: Any, hidden_channels: Any, color_groups: Any, backend: Any) -> None:
    for argument, value in (("in_channels", in_channels), ("hidden_channels", hidden_channels)):
        _checks.check_size(name, argument, value)
    _taps.check_color_groups(name, color_groups)
    for argument, value in (("in_channels", in_channels), ("hidden_channels", hidden_channels)):
        if value % color_groups:
            raise _checks.fail(name, argument, f"a multiple of color_groups, {color_groups}", value)
    _dispatch.checked(name, backend)


class RowLSTM(_PixelLSTM):
    """PixelRNN's Row LSTM, which scans an image row by row: maps [N, Cin, R, W] -> h [N, H, R, W].

    The input-to-state convolution is 1 x kernel_size, masked "B"; the state-to-state one, of the row above, is
    kernel_size wide: a pixel sees a triangle above it. See pygen.functional.pixel_lstm. Van den Oord et al. 2016,
    "Pixel Recurrent Neural Networks", section 3.1.

    Args:
        in_channels: Cin.
        hidden_channels: H.
        kernel_size: odd.
        color_groups: the channels, in and out, are that many contiguous blocks in order, such as R|G|B.
        backend: as in the function.

    Example:
        >>> layer = pygen.nn.RowLSTM(3, 8)
        >>> layer(torch.randn(2, 3, 6, 6)).shape
        torch.Size([2, 8, 6, 6])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int = 3,
        *,
        color_groups: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str | None = None,
    ) -> None:
        _check("RowLSTM", in_channels, hidden_channels, color_groups, backend)
        if isinstance(kernel_size, (tuple, list)):
            raise _checks.fail("RowLSTM", "kernel_size", "an int", repr(kernel_size), kind=TypeError)
        _taps.kernel_sides("RowLSTM", kernel_size)
        super().__init__(in_channels, hidden_channels, kernel_size, "down", color_groups, device, dtype, backend)


class DiagonalBiLSTM(nn.Module):
    """PixelRNN's Diagonal BiLSTM, which scans an image along its diagonals: maps [N, Cin, R, W] -> h [N, H, R, W].

    Two LSTMs, each with a 1 x 1 input-to-state convolution (masked "B" with colour groups): one from the upper left
    corner, and one from the upper right, whose result is moved down by one row before both are added, so that a pixel
    sees all pixels before it in raster order and none behind. See pygen.functional.pixel_lstm. Van den Oord et al.
    2016, "Pixel Recurrent Neural Networks", section 3.2.

    Args:
        in_channels: Cin.
        hidden_channels: H.
        color_groups: the channels, in and out, are that many contiguous blocks in order, such as R|G|B.
        backend: as in the function.

    Example:
        >>> layer = pygen.nn.DiagonalBiLSTM(3, 8)
        >>> layer(torch.randn(2, 3, 6, 6)).shape
        torch.Size([2, 8, 6, 6])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        *,
        color_groups: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        _check("DiagonalBiLSTM", in_channels, hidden_channels, color_groups, backend)
        options = (color_groups, device, dtype, backend)
        self.right = _PixelLSTM(in_channels, hidden_channels, 2, "right", *options)
        self.left = _PixelLSTM(in_channels, hidden_channels, 2, "left", *options)

    def forward(self, input: Tensor) -> Tensor:  # [N, Cin, R, W] -> [N, H, R, W]
        later = self.left(input[:, :, : max(1, input.shape[2] - 1)])  # nobody sees the last row's
        return self.right(input) + F.pad(later, (0, 0, 1, 0))[:, :, : input.shape[2]]
