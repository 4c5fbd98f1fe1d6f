"""The engine "cached", in plain PyTorch on any device: each activation is computed once.

MADE and NADE have ways of their own, `_cached_made` and `_cached_nade`. Of the pixel models early streams are made a row at a
time, with one matrix product a stage over the row's gathered taps, late ones pixel by pixel and colour group by colour group, by
`_cached_late`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _cached_made, _cached_nade
from ._cached_late import Late
from ._cached_lstm import LstmCells
from ._program import Conv, DenseProgram, Elu, Gate, Lstm, NadeProgram, Program, Stage, Sum, Tap, Up
from ._rows import Ring, row_of
from ._task import Task, Watch


def draw(task: Task, watch: Watch) -> None:
    program, levels = task.program(), task.drawing.levels
    if isinstance(program, DenseProgram):
        _cached_made.draw(program, task.drawing, watch)
        return
    if isinstance(program, NadeProgram):
        _cached_nade.draw(program, task.drawing, watch)
        return
    early = _Early(program, len(levels), levels.shape[3])
    late = Late(program, task.drawing, early.rings)
    for y in range(levels.shape[2]):
        early.make_row(y)
        late.draw_row(y)
        watch(levels[:, :, y].numel())


class _Early:
    """The early stages; rings: of every stream that they make or read."""

    def __init__(self, program: Program, n: int, width: int) -> None:
        self.stages = [(s, stage) for s, stage in enumerate(program.stages, start=1) if program.early[s]]
        self.matrices = {  # [T * Cin, Cout]
            s: _matrix(stage.weight) for s, stage in self.stages if isinstance(stage, Conv)
        } | {
            (s, phase): _matrix(weight)
            for s, stage in self.stages
            if isinstance(stage, Up)
            for phase, (_, weight) in enumerate(stage.phases)
        }
        margins: dict[int, int] = {}
        for s, stage in self.stages:
            margins.setdefault(s, 0)
            margins[stage.source] = max([margins.get(stage.source, 0), *(abs(dx) for _, dx in _taps(stage))])
        back, like, self.strides = program.rows_back(), program.like, program.strides
        self.rings = {
            s: Ring(like, n, -(-width // self.strides[s]), program.channels[s], back[s], m) for s, m in margins.items()
        }
        self.cells = {s: LstmCells(program, s, n, width) for s, stage in self.stages if isinstance(stage, Lstm)}
        self.calls: dict[tuple[int, int, int], list[Callable[[], object]]] = {}

    def make_row(self, y: int) -> None:
        """Of every stream that has one with the image's row y."""
        for s, stage in self.stages:
            if y % self.strides[s]:
                continue
            row = y // self.strides[s]
            if isinstance(stage, Conv):
                self._conv(s, stage, row)
            elif isinstance(stage, Gate):
                self._gate(s, stage, row)
            elif isinstance(stage, Up):
                self._up(s, stage, row)
            elif isinstance(stage, Lstm):
                self._lstm(s, stage, row)
            elif isinstance(stage, Sum):
                torch.add(*(self.rings[t].row(row) for t in (stage.source, stage.add)), out=self.rings[s].row(row))
            else:
                self._elu(s, stage, row)

    def _conv(self, s: int, stage: Conv, y: int) -> None:
        out = self.rings[s].row(y).flatten(0, 1)  # [W * n, C]
        start = stage.bias
        if stage.add is not None:
            start = self.rings[stage.add].row(y).flatten(0, 1)
            start = start if stage.bias is None else start + stage.bias
        if not stage.taps:
            out.copy_(torch.zeros_like(out) if start is None else start)
            return
        source, step = self.rings[stage.source], self.strides[s] // self.strides[stage.source]
        taps = torch.cat([source.row(step * y + dy, dx, step) for dy, dx in stage.taps], dim=-1).flatten(0, 1)
        taps = taps.relu_() if stage.relu else taps
        if start is None:
            torch.mm(taps, self.matrices[s], out=out)
        else:
            torch.addmm(start, taps, self.matrices[s], out=out)

    def _gate(self, s: int, stage: Gate, y: int) -> None:
        source = self.rings[stage.source].row(y)
        if stage.cond is not None:
            source = source + row_of(stage.cond, y)
        a, b = source.unflatten(2, (stage.groups, -1)).chunk(2, dim=3)
        out = ((a if stage.linear else torch.tanh(a)) * torch.sigmoid(b)).flatten(2)
        self.rings[s].row(y).copy_(out if stage.add is None else out.add_(self.rings[stage.add].row(y)))

    def _elu(self, s: int, stage: Elu, y: int) -> None:
        source, out = self.rings[stage.source].row(y), self.rings[s].row(y)
        channels = source.shape[2]
        out[..., :channels] = source
        if stage.concat:
            torch.neg(source, out=out[..., channels:])
        F.elu_(out)

    def _lstm(self, s: int, stage: Lstm, y: int) -> None:
        """Its calls are made once for the places that the rows have in the rings."""
        if y < stage.first_row:
            return
        source, own, cells = self.rings[stage.source], self.rings[s], self.cells[s]
        key = (s, y % source.slots, y % own.slots)
        if key not in self.calls:
            sums, h = source.row(y), own.row(y)
            self.calls[key] = [
                call
                for x in cells.columns()
                for call in cells.pixel(
                    x, range(stage.groups), sums[x], None if cells.first(x) else h[x + stage.before[1]], h[x]
                )
            ]
        for call in self.calls[key]:
            call()

    def _up(self, s: int, stage: Up, y: int) -> None:
        row = self.rings[s].row(y)
        for column in range(2):
            phase, out = 2 * (y % 2) + column, row[column::2]
            reads, _ = stage.phases[phase]
            taps = torch.cat([self.rings[stage.source].row(y // 2 + dy, dx) for dy, dx in reads], dim=-1)
            made = taps[: len(out)] @ self.matrices[s, phase]
            out.copy_(made if stage.bias is None else made.add_(stage.bias))


def _matrix(weight: Tensor) -> Tensor:
    """[T * Cin, Cout] of [T, Cout, Cin]."""
    return weight.transpose(1, 2).flatten(0, 1)


def _taps(stage: Stage) -> list[Tap]:
    if isinstance(stage, Up):
        return [tap for taps, _ in stage.phases for tap in taps]
    return list(stage.taps) if isinstance(stage, Conv) else []
