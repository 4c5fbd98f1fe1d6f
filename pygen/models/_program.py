"""A pixel model's sampling program: what has to be computed per row and per pixel, stated once for every engine.

A program is a list of stages. Stage s makes stream s + 1, a map [n, channels, H, W], out of earlier streams; stream 0 is the
scaled image; the last stream holds the levels' logits, channel after channel. A stream is *early* if row y of it depends on
the pixels of rows before y alone: an engine makes it a row at a time, before the row's first pixel. The others are *late*: at
each pixel, colour group after colour group. The channels of a late stream are `groups` contiguous blocks, and block g of a
pixel depends on blocks 0 .. g of it at most. A late stage reads its sources in the present row only, at and left of the pixel:
`Builder.conv` splits a convolution into what it takes from rows above, an early stage, and the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pygen._taps import MaskType, dense_mask

Tap = tuple[int, int]  # (dy, dx): reads source[y + dy, x + dx], zero outside the image


class Unsupported(Exception):
    """A program that an engine, whose models it knows, does not run after all: it is too large, or of an unknown form."""


@dataclass(frozen=True)
class Conv:
    """bias + sum over taps t of weight[t] @ (relu of) source[y + dy, x + dx], plus the stream `add` at the same place."""

    source: int
    taps: tuple[Tap, ...]
    weight: Tensor  # [T, Cout, Cin], any strides: mostly a view of the parameter; dead entries are exactly zero
    bias: Tensor | None  # [Cout]
    relu: bool = False
    add: int | None = None
    strict: bool = False  # with groups: at tap (0, 0) block g reads blocks before g, not itself


@dataclass(frozen=True)
class Gate:
    """tanh(a) * sigmoid(b), the two halves of each of `groups` blocks of the source, after `cond` was added."""

    source: int
    groups: int
    cond: Tensor | None  # [n, C, 1, 1] or [n, C, H, W]


@dataclass(frozen=True)
class Program:
    """What the engines run.

    channels, early: of each stream.  groups: colour groups.  in_channels: of the image.  num_levels: L.
    """

    stages: tuple[Conv | Gate, ...]
    channels: tuple[int, ...]
    early: tuple[bool, ...]
    groups: int
    in_channels: int
    num_levels: int

    @property
    def like(self) -> Tensor:
        """Of the weights' dtype and device."""
        return next(stage.weight for stage in self.stages if isinstance(stage, Conv))

    def rows_back(self) -> tuple[int, ...]:
        """Of each stream, how many rows before the present one are still read: the depth of an engine's ring of rows."""
        back = [0] * len(self.channels)
        for stage in self.stages:
            if isinstance(stage, Conv) and stage.taps:
                back[stage.source] = max(back[stage.source], -min(dy for dy, _ in stage.taps))
        return tuple(back)


@dataclass(frozen=True)
class DenseProgram:
    """MADE's: ReLU layers over flat inputs, of which each unit sees those of a degree up to its own, and each output below it.

    degrees: of the inputs, when each one is drawn, 0 .. D - 1; of each hidden layer's units, from 0 on.
    """

    weights: tuple[Tensor, ...]  # [out, in] each; dead ones may be anything
    biases: tuple[Tensor, ...]  # [out] each; the last layer has num_levels outputs for each input in turn
    degrees: tuple[tuple[int, ...], ...]
    num_levels: int

    @property
    def like(self) -> Tensor:
        """Of the weights' dtype and device."""
        return self.weights[0]


@dataclass
class Builder:
    """Collects a program. Each method returns the number of the stream that it makes."""

    in_channels: int
    num_levels: int
    groups: int
    stages: list[Conv | Gate] = field(default_factory=list)
    channels: list[int] = field(init=False)
    early: list[bool] = field(default_factory=lambda: [False])

    def __post_init__(self) -> None:
        self.channels = [self.in_channels]

    def conv(self, layer: Any, source: int, *, relu: bool = False, add: int | None = None) -> int:
        """Of a MaskedConv2d, or of an nn.Conv2d of kernel 1x1."""
        masked = hasattr(layer, "live_mask")
        mask, groups = (layer.mask_type, layer.color_groups) if masked else ("B", 1)
        above, rest, together, partly = _taps(mask, groups, layer.kernel_size, layer.dilation[0])
        weight, bias = layer.weight, layer.bias
        if torch.is_grad_enabled():  # else the views below know of no gradient
            weight, bias = weight.detach(), None if bias is None else bias.detach()
        if partly:  # dead entries at live taps
            live = layer.live_mask().to(weight.device)
            weight = torch.where(live, weight, torch.zeros((), dtype=weight.dtype, device=weight.device))
        if above.taps and not self.early[source]:
            if add is not None:
                raise NotImplementedError("a convolution over several rows of a late stream, with add")
            add = self._conv(above, Conv(source, above.taps, above.of(weight), bias, relu))
            if not rest.taps:
                return add
            bias = None
        elif above.taps:
            rest = together
        return self._conv(rest, Conv(source, rest.taps, rest.of(weight), bias, relu, add, mask == "A"))

    def _conv(self, taps: _Taps, stage: Conv) -> int:
        early = self.early[stage.source] or taps.all_above
        return self._append(stage, stage.weight.shape[1], early and (stage.add is None or self.early[stage.add]))

    def gate(self, source: int, cond: Tensor | None = None) -> int:
        """cond: [n, C] or [n, C, H, W]."""
        early = self.early[source]
        cond = None if cond is None else cond.detach().reshape(*cond.shape, *(1,) * (4 - cond.dim()))
        return self._append(Gate(source, 1 if early else self.groups, cond), self.channels[source] // 2, early)

    def _append(self, stage: Conv | Gate, channels: int, early: bool) -> int:
        self.stages.append(stage)
        self.channels.append(channels)
        self.early.append(early)
        return len(self.channels) - 1

    def program(self) -> Program:
        return Program(
            tuple(self.stages), tuple(self.channels), tuple(self.early), self.groups, self.in_channels, self.num_levels
        )


@dataclass(frozen=True)
class _Taps:
    """Live taps and where their weights are among a kernel's, in raster order."""

    taps: tuple[Tap, ...]
    at: tuple[int, ...]
    all_above: bool

    def of(self, weight: Tensor) -> Tensor:
        """[T, Cout, Cin] of weight [Cout, Cin, kH, kW]; taps that lie together, as those of masks A and B do, need no copy."""
        outs, ins, row, tap = weight.stride()
        if self.at and self.at[-1] - self.at[0] == len(self.at) - 1 and row == tap * weight.shape[3]:
            shape = (len(self.at), weight.shape[0], weight.shape[1])
            return weight.as_strided(shape, (tap, outs, ins), weight.storage_offset() + self.at[0] * tap)
        return weight.flatten(2).permute(2, 0, 1)[list(self.at)]


@cache
def _taps(mask_type: MaskType, groups: int, kernel_size: Tap, dilation: int) -> tuple[_Taps, _Taps, _Taps, bool]:
    """The taps with a live weight in the rows above, the others, all, and whether dead ones are among their weights."""
    height, width = kernel_size
    live = dense_mask(mask_type, groups, (groups, groups, height, width)).flatten(2)
    used = live.flatten(0, 1).any(0).nonzero()[:, 0].tolist()
    taps = {i: ((i // width - height // 2) * dilation, (i % width - width // 2) * dilation) for i in used}
    above, rest = (tuple(i for i in used if (taps[i][0] < 0) == up) for up in (True, False))
    partly = not bool(live[:, :, used].all())

    def some(at: tuple[int, ...]) -> _Taps:
        return _Taps(tuple(taps[i] for i in at), at, all(taps[i][0] < 0 for i in at))

    return some(above), some(rest), some(above + rest), partly
