"""The engine "cached", in plain PyTorch on any device: each activation is computed once.

MADE has its own way, `_cached_made`. Of the pixel models early streams are made a row at a time, with one matrix product a
stage over the row's gathered taps, late ones pixel by pixel and colour group by colour group, by `_cached_late`.
"""

from __future__ import annotations

import torch

from . import _cached_made
from ._cached_late import Late
from ._program import Conv, DenseProgram, Gate, Program
from ._rows import Ring, row_of
from ._task import Task, Watch


def draw(task: Task, watch: Watch) -> None:
    program, levels = task.program(), task.drawing.levels
    if isinstance(program, DenseProgram):
        _cached_made.draw(program, task.drawing, watch)
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
            s: stage.weight.transpose(1, 2).flatten(0, 1) for s, stage in self.stages if isinstance(stage, Conv)
        }
        margins: dict[int, int] = {}
        for s, stage in self.stages:
            taps = stage.taps if isinstance(stage, Conv) else ()
            margins.setdefault(s, 0)
            margins[stage.source] = max([margins.get(stage.source, 0), *(abs(dx) for _, dx in taps)])
        back, like = program.rows_back(), program.like
        self.rings = {s: Ring(like, n, width, program.channels[s], back[s], m) for s, m in margins.items()}

    def make_row(self, y: int) -> None:
        for s, stage in self.stages:
            if isinstance(stage, Conv):
                self._conv(s, stage, y)
            else:
                self._gate(s, stage, y)

    def _conv(self, s: int, stage: Conv, y: int) -> None:
        out = self.rings[s].row(y).flatten(0, 1)  # [W * n, C]
        start = stage.bias
        if stage.add is not None:
            start = self.rings[stage.add].row(y).flatten(0, 1)
            start = start if stage.bias is None else start + stage.bias
        if not stage.taps:
            out.copy_(torch.zeros_like(out) if start is None else start)
            return
        source = self.rings[stage.source]
        taps = torch.cat([source.row(y + dy, dx) for dy, dx in stage.taps], dim=-1).flatten(0, 1)
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
        self.rings[s].row(y).copy_((torch.tanh(a) * torch.sigmoid(b)).flatten(2))
