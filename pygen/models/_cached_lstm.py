"""The LSTM stages of the engine "cached": the calls of a pixel, on fixed views."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ._program import Lstm, Program


class LstmCells:
    """One stage's c, and room for a pixel's gates, both at least in float32.

    c: [W, n, groups, H / groups], of the row above as far as the present one has not come; of a stage that goes along its row one
    pixel's alone.
    """

    def __init__(self, program: Program, s: int, n: int, width: int) -> None:
        stage = program.stages[s - 1]
        assert isinstance(stage, Lstm)
        self.along_row, self.width = stage.before[0] == 0, width
        self.from_right = stage.before[1] > 0
        like, each = program.like, program.channels[s] // stage.groups
        dtype = torch.promote_types(like.dtype, torch.float32)
        self.c = like.new_zeros(1 if self.along_row else width, n, stage.groups, each, dtype=dtype)
        self.gates = like.new_empty(n, stage.groups, 4, each, dtype=dtype)
        self.weight = None if stage.weight is None else stage.weight.unflatten(0, (stage.groups, -1))
        self.matrices: dict[tuple[int, int], Tensor] = {}

    def columns(self) -> range:
        """In the order in which the stage goes through a row."""
        return range(self.width - 1, -1, -1) if self.from_right else range(self.width)

    def first(self, x: int) -> bool:
        """Whether no pixel lies before x along the row."""
        return self.along_row and x == (self.width - 1 if self.from_right else 0)

    def pixel(
        self, x: int, groups: range, sums: Tensor, before: Tensor | None, out: Tensor
    ) -> Iterator[Callable[[], object]]:
        """h of some groups into out [n, c] from sums [n, 4 c].  before: h [n, H] of the pixel before, if there is one."""
        some = slice(groups.start, groups.stop)
        gates = self.gates[:, some]  # [n, g, 4, H / groups]
        c = self.c[0 if self.along_row else x][:, some]
        added, same = gates.flatten(1), gates.dtype is out.dtype
        if self.weight is None or before is None:
            yield partial(added.copy_, sums)
        else:
            made = added if same else torch.empty_like(sums)
            yield partial(torch.addmm, sums, before, self._matrix(groups), out=made)
            if not same:
                yield partial(added.copy_, made)
        o, f, i, g = gates.unbind(2)
        yield gates[:, :, :3].sigmoid_
        yield g.tanh_
        if self.first(x):
            yield partial(torch.mul, i, g, out=c)
        else:
            yield partial(c.mul_, f)
            yield partial(c.addcmul_, i, g)
        yield partial(torch.tanh, c, out=g)
        h = out.unflatten(1, (len(groups), -1))
        yield partial(torch.mul, o, g, out=h if same else o)
        if not same:
            yield partial(h.copy_, o)

    def _matrix(self, groups: range) -> Tensor:
        """[H, 4 c]"""
        key = groups.start, groups.stop
        if key not in self.matrices:
            assert self.weight is not None
            self.matrices[key] = self.weight[groups.start : groups.stop].flatten(0, 1).T.contiguous()
        return self.matrices[key]
