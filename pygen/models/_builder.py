"""How the pixel models state their sampling programs: layer by layer, convolutions cut into rows above and the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pygen._taps import MaskType, dense_mask

from ._levels import INPUT_RANGE, InputRange
from ._program import Conv, Elu, Gate, Lstm, MultiScaleProgram, Program, RecurrentProgram, Stage, Sum, Tap, Up
from ._shifted import weight_of


@dataclass
class Builder:
    """Collects a program. Each method returns the number of the stream that it makes."""

    in_channels: int
    num_levels: int
    groups: int
    input_range: InputRange = INPUT_RANGE
    ones: bool = False  # a channel of ones behind the image's
    stages: list[Stage] = field(default_factory=list)
    channels: list[int] = field(init=False)
    early: list[bool] = field(default_factory=lambda: [False])
    strides: list[int] = field(default_factory=lambda: [1])

    def __post_init__(self) -> None:
        self.channels = [self.in_channels + self.ones]

    def conv(self, layer: Any, source: int, *, relu: bool = False, add: int | None = None) -> int:
        """Of a MaskedConv2d, or of an nn.Conv2d of kernel 1x1."""
        split, strict = _taps_of(layer)
        return self._split(split, Conv(source, (), _live(layer, split), _detached(layer.bias), relu, add, strict), 1)

    def shifted(
        self, layer: Any, source: int, *, add: int | None = None, then: Callable[[int], int] | None = None
    ) -> int:
        """Of a ShiftedConv2d. add: an early stream.  then: adds a late one to what was made of the rows above."""
        weight = _detached(weight_of(layer))
        assert weight is not None
        split = _shifted_taps(layer.kernel_size, layer.offset)
        return self._split(split, Conv(source, (), weight, _detached(layer.bias), False, add), layer.stride[0], then)

    def _split(self, split: _Split, conv: Conv, stride: int, then: Callable[[int], int] | None = None) -> int:
        """conv: with the whole kernel [Cout, Cin, kH, kW], and no taps yet."""
        rest, bias, add = split.rest, conv.bias, conv.add
        if split.above.taps and not self.early[conv.source]:
            if add is not None and not self.early[add]:
                raise NotImplementedError("a convolution over several rows of a late stream, with another to add")
            weight = split.above.of(conv.weight)
            above = Conv(conv.source, split.above.taps, weight, conv.bias, conv.relu, add)
            add, bias = self._conv(split.above, above, stride), None
            if then is not None:
                add = then(add)
            if not rest.taps:
                return add
        elif split.above.taps:
            rest = split.together
        stage = Conv(conv.source, rest.taps, rest.of(conv.weight), bias, conv.relu, add, conv.strict)
        return self._conv(rest, stage, stride)

    def _conv(self, taps: _Taps, stage: Conv, stride: int) -> int:
        early = self.early[stage.source] or taps.all_above
        early = early and (stage.add is None or self.early[stage.add])
        return self._append(stage, stage.weight.shape[1], early, stride * self.strides[stage.source])

    def pointwise(
        self, layer: Any, source: int, part: tuple[int, int] = (0, 1), *, bias: bool = True, add: int | None = None
    ) -> int:
        """Of a 1x1 convolution, or of some of its inputs. part: (i, S), the i-th of S streams of which it reads concat_elu."""
        weight = _detached(weight_of(layer))
        assert weight is not None
        weight = weight[:, :, 0, 0]
        if part[1] > 1:
            weight = weight.unflatten(1, (2, part[1], -1))[:, :, part[0]].flatten(1)
        early = self.early[source] and (add is None or self.early[add])
        stage = Conv(source, ((0, 0),), weight.unsqueeze(0), _detached(layer.bias) if bias else None, add=add)
        return self._append(stage, weight.shape[0], early, self.strides[source])

    def gate(self, source: int, cond: Tensor | None = None, *, linear: bool = False, add: int | None = None) -> int:
        """cond: [n, C] or [n, C, H, W]."""
        early = self.early[source] and (add is None or self.early[add])
        cond = None if cond is None else cond.detach().reshape(*cond.shape, *(1,) * (4 - cond.dim()))
        gate = Gate(source, 1 if early else self.groups, cond, linear, add)
        return self._append(gate, self.channels[source] // 2, early, self.strides[source])

    def lstm(self, layer: Any, source: int) -> int:
        """Of a RowLSTM, or of one direction of a DiagonalBiLSTM: "left" moved down by a row, and so early."""
        weight = _detached(layer.state_to_state)
        assert weight is not None
        gates, hidden, kernel = weight.shape
        down, left = layer.direction == "down", layer.direction == "left"
        weight = weight.permute(2, 0, 1)  # [k, 4 H, H]
        above = tuple((-1, tap - kernel // 2) for tap in range(kernel)) if down else ((-1, 0),)
        h = len(self.channels) + 2  # what it reads of itself, and its sums, come before it
        own = self._append(Conv(h, above, weight[: len(above)], None), gates, True)
        given = layer.input_to_state
        if left:
            split, _ = _taps_of(given)
            weights, bias = split.together.of(_live(given, split)), _detached(given.bias)
            sums = self._append(Conv(source, ((-1, 0),), weights, bias, add=own), gates, True)
        else:
            sums = self.conv(given, source, add=own)
        before = (-1, 0) if down else (0, 1) if left else (0, -1)
        stage = Lstm(sums, layer.color_groups, before, None if down else weight[1], int(left))
        made = self._append(stage, hidden, left)
        assert made == h
        return made

    def sum(self, source: int, add: int) -> int:
        return self._append(Sum(source, add), self.channels[source], self.early[source] and self.early[add])

    def elu(self, source: int, *, concat: bool) -> int:
        channels = self.channels[source] * (1 + concat)
        return self._append(Elu(source, concat), channels, self.early[source], self.strides[source])

    def up(self, layer: Any, source: int) -> int:
        """Of an nn.ConvTranspose2d of stride 2 and kernel (2, 3) with padding (0, 1), or (2, 2)."""
        weight = _detached(weight_of(layer))  # [Cin, Cout, 2, kW]
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

    def recurrent_program(self) -> RecurrentProgram:
        return RecurrentProgram(**self._parts())

    def multi_scale_program(self, num_mixtures: int, min_log_scale: float) -> MultiScaleProgram:
        return MultiScaleProgram(**self._parts(), num_mixtures=num_mixtures, min_log_scale=min_log_scale)

    def _parts(self) -> dict[str, Any]:
        streams = {name: tuple(getattr(self, name)) for name in ("stages", "channels", "early", "strides")}
        return streams | {name: getattr(self, name) for name in ("groups", "in_channels", "num_levels", "input_range")}


def _detached(t: Tensor | None) -> Tensor | None:
    """Views of it know of no gradient."""
    return t if t is None or not torch.is_grad_enabled() else t.detach()


def _taps_of(layer: Any) -> tuple[_Split, bool]:
    """Of a MaskedConv2d, or of an nn.Conv2d of kernel 1x1; and whether its mask is strict."""
    mask, groups = (layer.mask_type, layer.color_groups) if hasattr(layer, "live_mask") else ("B", 1)
    return _taps(mask, groups, layer.kernel_size, layer.dilation[0]), mask == "A"


def _live(layer: Any, split: _Split) -> Tensor:
    """Its weight, without the dead entries at live taps."""
    weight = _detached(layer.weight)
    assert weight is not None
    if not split.partly:
        return weight
    live = layer.live_mask().to(weight.device)
    return torch.where(live, weight, torch.zeros((), dtype=weight.dtype, device=weight.device))


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
