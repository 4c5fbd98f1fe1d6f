"""A pixel model's sampling program: what has to be computed per row and per pixel, stated once for every engine.

A program is a list of stages. Stage s makes stream s + 1, a map [n, channels, H, W], out of earlier streams; stream 0 is the
scaled image; the last stream holds the levels' logits, channel after channel, or a mixture's parameters. A stream is *early* if
row y of it depends on the pixels of rows before y alone: an engine makes it a row at a time, before the row's first pixel. The
others are *late*: at each pixel, colour group after colour group. The channels of a late stream are `groups` contiguous blocks,
and block g of a pixel depends on blocks 0 .. g of it at most. A late stage reads its sources in the present row only, at and left
of the pixel: `Builder.conv` splits a convolution into what it takes from rows above, an early stage, and the rest.

Streams of stride t have a pixel for every t-th row and column of the image alone: pixel (y, x) of theirs is made with the
image's (t y, t x), and stands for it. A program with such streams is a `MultiScaleProgram`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
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
    """bias + sum over taps t of weight[t] @ (relu of) source[y + dy, x + dx], plus the stream `add` at the same place.

    Where the source's stride is half of this stream's, it reads source[2 y + dy, 2 x + dx].
    """

    source: int
    taps: tuple[Tap, ...]
    weight: Tensor  # [T, Cout, Cin], any strides: mostly a view of the parameter; dead entries are exactly zero
    bias: Tensor | None  # [Cout]
    relu: bool = False
    add: int | None = None
    strict: bool = False  # with groups: at tap (0, 0) block g reads blocks before g, not itself


@dataclass(frozen=True)
class Gate:
    """tanh(a) * sigmoid(b), the two halves of each of `groups` blocks of the source, after `cond` was added.

    linear: a * sigmoid(b), plus the stream `add` at the same place.
    """

    source: int
    groups: int
    cond: Tensor | None  # [n, C, 1, 1] or [n, C, H, W] of the stream's pixels
    linear: bool = False
    add: int | None = None


@dataclass(frozen=True)
class Elu:
    """elu(source); if `concat` elu(-source) behind its channels."""

    source: int
    concat: bool


@dataclass(frozen=True)
class Up:
    """From a source of twice the stride: bias + sum over taps t of weight[t] @ source[y // 2 + dy, x // 2 + dx].

    phases: taps and weight [T, Cout, Cin] of pixels with (y % 2, x % 2) = (0, 0), (0, 1), (1, 0), (1, 1).
    """

    source: int
    phases: tuple[tuple[tuple[Tap, ...], Tensor], ...]
    bias: Tensor | None


Stage = Conv | Gate | Elu | Up


@dataclass(frozen=True)
class Program:
    """What the engines run.

    channels, early, strides: of each stream.  groups: colour groups.  in_channels: of the image.  num_levels: L.
    """

    stages: tuple[Stage, ...]
    channels: tuple[int, ...]
    early: tuple[bool, ...]
    strides: tuple[int, ...]  # powers of two
    groups: int
    in_channels: int
    num_levels: int

    @property
    def like(self) -> Tensor:
        """Of the weights' dtype and device."""
        return next(stage.weight for stage in self.stages if isinstance(stage, Conv))

    def plain_stages(self) -> tuple[Conv | Gate, ...]:
        """Of an engine that knows no others. Raises Unsupported."""
        plain = tuple(stage for stage in self.stages if isinstance(stage, Conv | Gate))
        if len(plain) < len(self.stages) or any(isinstance(stage, Gate) and stage.linear for stage in plain):
            raise Unsupported("a network of several resolutions")
        return plain

    def rows_back(self) -> tuple[int, ...]:
        """Of each stream, how many of its rows before the present one are still read: the depth of an engine's ring of rows."""
        back = [0] * len(self.channels)
        for stage in self.stages:
            if isinstance(stage, Conv) and stage.taps:
                back[stage.source] = max(back[stage.source], -min(dy for dy, _ in stage.taps))
        return tuple(back)


@dataclass(frozen=True)
class MultiScaleProgram(Program):
    """Of a network that looks at the image in several resolutions and ends in a mixture of logistics (`_mixture`).

    num_mixtures: K.  min_log_scale: the floor of log-scales.

    Stream 0 has one channel more than the image: ones, which tell the image from the zeros around it. Colour groups are 1: the
    last stream knows the pixels before alone, and the mixture brings in the channels that were drawn before in the same pixel.
    """

    num_mixtures: int
    min_log_scale: float


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
    ones: bool = False  # a channel of ones behind the image's
    stages: list[Stage] = field(default_factory=list)
    channels: list[int] = field(init=False)
    early: list[bool] = field(default_factory=lambda: [False])
    strides: list[int] = field(default_factory=lambda: [1])

    def __post_init__(self) -> None:
        self.channels = [self.in_channels + self.ones]

    def conv(self, layer: Any, source: int, *, relu: bool = False, add: int | None = None) -> int:
        """Of a MaskedConv2d, or of an nn.Conv2d of kernel 1x1."""
        masked = hasattr(layer, "live_mask")
        mask, groups = (layer.mask_type, layer.color_groups) if masked else ("B", 1)
        split = _taps(mask, groups, layer.kernel_size, layer.dilation[0])
        weight, bias = _detached(layer.weight), _detached(layer.bias)
        assert weight is not None
        if split.partly:  # dead entries at live taps
            live = layer.live_mask().to(weight.device)
            weight = torch.where(live, weight, torch.zeros((), dtype=weight.dtype, device=weight.device))
        return self._split(split, Conv(source, (), weight, bias, relu, add, mask == "A"), 1)

    def shifted(
        self, layer: Any, source: int, *, add: int | None = None, then: Callable[[int], int] | None = None
    ) -> int:
        """Of a ShiftedConv2d. add: an early stream.  then: adds a late one to what was made of the rows above."""
        weight = _detached(layer.weight)
        assert weight is not None
        split = _shifted_taps(layer.kernel_size, layer.offset)
        return self._split(split, Conv(source, (), weight, _detached(layer.bias), False, add), layer.stride[0], then)

    def _split(self, split: _Split, conv: Conv, stride: int, then: Callable[[int], int] | None = None) -> int:
        """conv: with the whole kernel [Cout, Cin, kH, kW], and no taps yet."""
        rest, bias, add = split.rest, conv.bias, conv.add
        if split.above.taps and not self.early[conv.source]:
            above = replace(conv, taps=split.above.taps, weight=split.above.of(conv.weight), add=None, strict=False)
            if add is not None:
                if not self.early[add]:
                    raise NotImplementedError("a convolution over several rows of a late stream, with another to add")
                above = replace(above, add=add)
            add, bias = self._conv(split.above, above, stride), None
            if then is not None:
                add = then(add)
            if not rest.taps:
                return add
        elif split.above.taps:
            rest = split.together
        stage = replace(conv, taps=rest.taps, weight=rest.of(conv.weight), bias=bias, add=add)
        return self._conv(rest, stage, stride)

    def _conv(self, taps: _Taps, stage: Conv, stride: int) -> int:
        early = self.early[stage.source] or taps.all_above
        early = early and (stage.add is None or self.early[stage.add])
        return self._append(stage, stage.weight.shape[1], early, stride * self.strides[stage.source])

    def pointwise(
        self, layer: Any, source: int, columns: Tensor | None = None, *, bias: bool = True, add: int | None = None
    ) -> int:
        """Of a 1x1 convolution, or of some of its inputs, where columns of the weight are given."""
        weight = _detached(layer.weight)
        assert weight is not None
        weight = weight[:, :, 0, 0] if columns is None else weight[:, columns, 0, 0]
        early = self.early[source] and (add is None or self.early[add])
        stage = Conv(source, ((0, 0),), weight.unsqueeze(0), _detached(layer.bias) if bias else None, add=add)
        return self._append(stage, weight.shape[0], early, self.strides[source])

    def gate(self, source: int, cond: Tensor | None = None, *, linear: bool = False, add: int | None = None) -> int:
        """cond: [n, C] or [n, C, H, W]."""
        early = self.early[source] and (add is None or self.early[add])
        cond = None if cond is None else cond.detach().reshape(*cond.shape, *(1,) * (4 - cond.dim()))
        gate = Gate(source, 1 if early else self.groups, cond, linear, add)
        return self._append(gate, self.channels[source] // 2, early, self.strides[source])

    def elu(self, source: int, *, concat: bool) -> int:
        channels = self.channels[source] * (1 + concat)
        return self._append(Elu(source, concat), channels, self.early[source], self.strides[source])

    def up(self, layer: Any, source: int) -> int:
        """Of an nn.ConvTranspose2d of stride 2 and kernel (2, 3) with padding (0, 1), or (2, 2)."""
        weight = _detached(layer.weight)  # [Cin, Cout, 2, kW]
        assert weight is not None
        columns = (((0, 1),), ((0, 2), (1, 0))) if weight.shape[3] == 3 else (((0, 0),), ((0, 1),))  # dx, where
        phases = []
        for row in range(2):
            for reads in columns:
                matrices = torch.stack([weight[:, :, row, column].T for _, column in reads])
                phases.append((tuple((0, dx) for dx, _ in reads), matrices))
        stage = Up(source, tuple(phases), _detached(layer.bias))
        return self._append(stage, weight.shape[1], self.early[source], self.strides[source] // 2)

    def _append(self, stage: Stage, channels: int, early: bool, stride: int = 1) -> int:
        self.stages.append(stage)
        self.channels.append(channels)
        self.early.append(early)
        self.strides.append(stride)
        return len(self.channels) - 1

    def program(self) -> Program:
        return Program(**self._parts())

    def multi_scale_program(self, num_mixtures: int, min_log_scale: float) -> MultiScaleProgram:
        return MultiScaleProgram(**self._parts(), num_mixtures=num_mixtures, min_log_scale=min_log_scale)

    def _parts(self) -> dict[str, Any]:
        streams = {name: tuple(getattr(self, name)) for name in ("stages", "channels", "early", "strides")}
        return streams | {name: getattr(self, name) for name in ("groups", "in_channels", "num_levels")}


def _detached(t: Tensor | None) -> Tensor | None:
    """Views of it know of no gradient."""
    return t if t is None or not torch.is_grad_enabled() else t.detach()


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


@dataclass(frozen=True)
class _Split:
    """The taps with a live weight in the rows above, the others, all, and whether dead ones are among their weights."""

    above: _Taps
    rest: _Taps
    together: _Taps
    partly: bool

    @classmethod
    def of(cls, taps: dict[int, Tap], partly: bool) -> _Split:
        """taps: of each place in the kernel that is live, in raster order."""
        above, rest = (tuple(i for i, (dy, _) in taps.items() if (dy < 0) == up) for up in (True, False))

        def some(at: tuple[int, ...]) -> _Taps:
            return _Taps(tuple(taps[i] for i in at), at, all(taps[i][0] < 0 for i in at))

        return cls(some(above), some(rest), some(above + rest), partly)


@cache
def _taps(mask_type: MaskType, groups: int, kernel_size: Tap, dilation: int) -> _Split:
    height, width = kernel_size
    live = dense_mask(mask_type, groups, (groups, groups, height, width)).flatten(2)
    used = live.flatten(0, 1).any(0).nonzero()[:, 0].tolist()
    taps = {i: ((i // width - height // 2) * dilation, (i % width - width // 2) * dilation) for i in used}
    return _Split.of(taps, not bool(live[:, :, used].all()))


@cache
def _shifted_taps(kernel_size: Tap, offset: Tap) -> _Split:
    width = kernel_size[1]
    places = range(kernel_size[0] * width)
    return _Split.of({i: (offset[0] + i // width, offset[1] + i % width) for i in places}, False)
