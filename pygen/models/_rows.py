"""Where the engine "cached" keeps streams: rings of rows for early stages, the present row for late ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._program import Tap


class Ring:
    """The last rows of a stream, [slots, margin + W + margin, n, C]; zero wherever the image is not.

    Pixel-major, so that a row shifted by a tap is one contiguous matrix [W * n, C].
    """

    def __init__(self, like: Tensor, n: int, width: int, channels: int, rows_back: int, margin: int) -> None:
        self.data = like.new_zeros(rows_back + 1, margin + width + margin, n, channels)
        self.slots, self.width, self.margin = rows_back + 1, width, margin
        self._views: dict[tuple[int, int, int], Tensor] = {}

    def row(self, y: int, dx: int = 0, step: int = 1) -> Tensor:
        """[W / step, n, C], pixel step x + dx at x. Rows before the first lie in slots that nothing was written to yet."""
        key = (y % self.slots, dx, step)
        if key not in self._views:
            self._views[key] = self.data[key[0], self.margin + dx : self.margin + dx + self.width : step]
        return self._views[key]


class Row:
    """The present row of a stream, [n, left + W, lead + C], with `left` zero pixels before it and `lead` ones in each pixel.

    Image-major, so that a pixel and its neighbours on the left are one row [K] of a matrix; where a one is beside them a bias
    is a weight. Right of the present pixel lies what the row before has left, and nobody reads it.
    """

    def __init__(self, like: Tensor, n: int, width: int, channels: int, left: int, lead: int) -> None:
        self.data = like.new_zeros(n, left + width, lead + channels)
        self.data[:, :, :lead] = 1
        self.channels, self.left, self.lead = channels, left, lead

    @property
    def pixels(self) -> Tensor:
        """[W, n, C]"""
        return self.data[:, self.left :, self.lead :].transpose(0, 1)

    def pixel(self, x: int, channels: slice) -> Tensor:
        """[n, c]"""
        return self.data[:, self.left + x, self.lead :][:, channels]

    def window(self, x: int, taps: Sequence[Tap], present: int) -> list[Tensor]:
        """The pixels at taps (0, dx), dx <= 0, as [n, K] in pieces: all channels on the left, the first `present` of x itself."""
        flat, per_pixel = self.data.flatten(1), self.data.shape[2]
        pieces: list[Tensor] = []
        first = 0
        for i, (_, dx) in enumerate(taps):
            if i + 1 == len(taps) or taps[i + 1][1] != dx + 1:
                stop = (self.left + x + dx) * per_pixel + self.lead + (present if dx == 0 else self.channels)
                pieces.append(flat[:, (self.left + x + taps[first][1]) * per_pixel : stop])
                first = i + 1
        return pieces

    def matrix(self, weight: Tensor, bias: Tensor | None, taps: Sequence[Tap], present: int) -> Tensor:
        """[K, Cout], what `window` is multiplied by, of weight [T, Cout, C] and, with a lead, bias [Cout]."""
        parts = [weight.new_zeros(0, weight.shape[1])]
        for i, (_, dx) in enumerate(taps):
            ones = weight.new_zeros(self.lead, weight.shape[1])
            if bias is not None and i == 0:
                ones[0] = bias
            parts += [ones, weight[i, :, : present if dx == 0 else self.channels].T]
        return torch.cat(parts)


def row_of(cond: Tensor, y: int) -> Tensor:
    """[W or 1, n, C] of a condition [n, C, H, W] or [n, C, 1, 1]."""
    return cond[:, :, y if cond.shape[2] > 1 else 0].permute(2, 0, 1)
