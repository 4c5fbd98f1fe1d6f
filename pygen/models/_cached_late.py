"""The late half of the engine "cached": a pixel's chain of calls, colour group after colour group.

The buffers hold one row and never move. So each pixel column has its list of calls on fixed views, made once, and a pixel costs
little more than its kernels. Where streams have strides, the lists differ from row to row, and begin again after the largest one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ._cached_lstm import LstmCells
from ._decision import decision_of
from ._program import Conv, Elu, Gate, Lstm, Program, Stage, Sum, Up
from ._rows import Ring, Row, row_of
from ._sampling import Drawing

Calls = Iterator[Callable[[], object]]


class Late:
    """The late stages of some images, and the decisions.

    rows: the present row of each stream that a late stage makes or reads; rectified: those that are read through a ReLU.
    base: of a late stage, what is known when the row begins, [W or 1, n or 1, C].
    """

    def __init__(self, program: Program, drawing: Drawing, rings: dict[int, Ring]) -> None:
        self.program, self.rings = program, rings
        self.n, _, _, self.width = drawing.levels.shape
        self.strides = program.strides
        self.stages = [(s, stage) for s, stage in enumerate(program.stages, start=1) if not program.early[s]]
        self.readers = Counter(t for stage in program.stages for t in (stage.source, getattr(stage, "add", None)))
        self.folded = {
            stage.source: stage for _, stage in self.stages if isinstance(stage, Gate) and self._folds(stage)
        }
        self.rows, self.rectified = self._make_rows()
        self.base: dict[int, Tensor] = {}
        self.of_row: dict[int, list[Callable[[int], Tensor]]] = {}
        self.cells = {
            s: LstmCells(program, s, self.n, self.width) for s, stage in self.stages if isinstance(stage, Lstm)
        }
        for s, stage in self.stages:
            if not isinstance(stage, Lstm | Sum):
                self._make_base(s, stage)
        self.matrices = {
            (s, g): self._matrix(s, stage, g)
            for s, stage in self.stages
            if isinstance(stage, Conv)
            for g in range(program.groups)
        }
        self.matrices_up = {
            (s, phase): self.rows[stage.source].matrix(weight, None, taps, program.channels[stage.source])
            for s, stage in self.stages
            if isinstance(stage, Up)
            for phase, (taps, weight) in enumerate(stage.phases)
        }
        last = len(program.stages)
        self.decision = decision_of(program, drawing, self.rows[0], self.rows[last])
        self.calls = [
            [list(self._pixel(y, x)) for x in range(self.width)]
            for y in range(min(max(self.strides), drawing.levels.shape[2]))
        ]

    def draw_row(self, y: int) -> None:
        """Once the row's early streams are made."""
        self._begin(y)
        for calls in self.calls[y % len(self.calls)]:
            for call in calls:
                call()
        self.decision.end_row(y)
        for s, ring in self.rings.items():
            if not self.program.early[s] and self._has_row(s, y):
                ring.row(y // self.strides[s]).copy_(self.rows[s].pixels)

    def _has_row(self, s: int, y: int) -> bool:
        """Whether stream s has one with the image's row y."""
        return y % self.strides[s] == 0

    def _begin(self, y: int) -> None:
        early = [s for s in self.rows if self.program.early[s] and self._has_row(s, y)]
        for s in early:
            row = self.rings[s].row(y // self.strides[s])
            self.rows[s].pixels.copy_(row)
            if s in self.rectified:
                self.rectified[s].pixels.copy_(row.relu())
        for s, of_row in self.of_row.items():
            if not self._has_row(s, y):
                continue
            self.base[s].copy_(of_row[0](y // self.strides[s]))
            for term in of_row[1:]:
                self.base[s].add_(term(y // self.strides[s]))
        self.decision.begin_row(y)

    # Buffers

    def _make_rows(self) -> tuple[dict[int, Row], dict[int, Row]]:
        program, last = self.program, len(self.program.stages)
        left, lead = Counter[int](), Counter[int]()
        read, rectified = {0, last} | {s for s, _ in self.stages}, set()
        for _, stage in self.stages:
            read.add(stage.source)
            if isinstance(stage, Gate | Sum) and stage.add is not None:
                read.add(stage.add)
            if isinstance(stage, Conv):
                left[stage.source] = max([left[stage.source], *(-dx for _, dx in stage.taps)])
                lead[stage.source] |= self._bias_is_a_weight(stage)
                if stage.relu:
                    rectified.add(stage.source)

        def row(s: int) -> Row:
            width = -(-self.width // self.strides[s])
            return Row(program.like, self.n, width, program.channels[s], left[s], lead[s])

        return {s: row(s) for s in sorted(read)}, {s: row(s) for s in sorted(rectified)}

    def _adds_late(self, stage: Conv) -> bool:
        return stage.add is not None and not self.program.early[stage.add]

    def _bias_is_a_weight(self, stage: Conv) -> bool:
        """Where a matrix product's one addend is taken, the bias needs another way in."""
        return self._adds_late(stage) and stage.bias is not None and len(stage.taps) > 0

    def _folds(self, gate: Gate) -> bool:
        """Whether its condition can be added where its source is made: by a late convolution, for this gate alone."""
        maker = self.program.stages[gate.source - 1] if gate.source else None
        makes = isinstance(maker, Conv) and not self._adds_late(maker)
        return gate.cond is not None and makes and self.readers[gate.source] == 1

    def _make_base(self, s: int, stage: Stage) -> None:
        """The sum of constants, [1 or W, n or 1, C], and of what each row brings, of_row[s]: y -> [W or 1, n, C]."""
        channels = self.program.channels[s] * (2 if isinstance(stage, Gate) else 1)
        constant, of_row = self.program.like.new_zeros(1, 1, channels), []
        gate = stage if isinstance(stage, Gate) and stage.source not in self.folded else self.folded.get(s)
        if isinstance(stage, Up) and stage.bias is not None:
            constant = constant + stage.bias
        if isinstance(stage, Conv):
            if stage.bias is not None and not self._bias_is_a_weight(stage):
                constant = constant + stage.bias
            if stage.add is not None and not self._adds_late(stage):
                of_row.append(self.rings[stage.add].row)
        if gate is not None and gate.cond is not None:
            if gate.cond.shape[2] > 1:
                of_row.append(partial(row_of, gate.cond))
            else:
                constant = constant + row_of(gate.cond, 0)
        self.base[s] = constant
        if of_row:
            self.base[s] = constant.new_empty(-(-self.width // self.strides[s]), self.n, channels)
            self.of_row[s] = [*of_row, lambda y: constant]

    def _block(self, s: int, g: int, factor: int = 1) -> slice:
        """The channels of group g in a late stream."""
        size = factor * self.program.channels[s] // self.program.groups
        return slice(g * size, (g + 1) * size)

    # Calls

    def _pixel(self, y: int, x: int) -> Calls:
        """Of a pixel of row y and of those that come again."""
        for g in range(self.program.groups):
            for s, stage in self.stages:
                stride = self.strides[s]
                if y % stride or x % stride:
                    continue
                yield from self._stage(s, stage, y // stride, x // stride, g)
                yield from self._rectify(s, x // stride, g)
            yield from self.decision.calls(x, g)
            yield from self._rectify(0, x, g)

    def _stage(self, s: int, stage: Stage, y: int, x: int, g: int) -> Calls:
        """Of the stream's own pixel (y, x)."""
        if isinstance(stage, Conv):
            return self._conv(s, stage, x, g)
        if isinstance(stage, Gate):
            return self._gate(s, stage, x, g)
        if isinstance(stage, Up):
            return self._up(s, stage, y, x)
        if isinstance(stage, Lstm):
            sums, h = self.rows[stage.source].pixel(x, self._block(s, g, 4)), self.rows[s]
            before = None if self.cells[s].first(x) else h.pixel(x + stage.before[1], slice(None))
            return self.cells[s].pixel(x, range(g, g + 1), sums, before, h.pixel(x, self._block(s, g)))
        if isinstance(stage, Sum):
            source, add, out = (self.rows[t].pixel(x, self._block(s, g)) for t in (stage.source, stage.add, s))
            return iter([partial(torch.add, source, add, out=out)])
        return self._elu(s, stage, x)

    def _rectify(self, s: int, x: int, g: int) -> Calls:
        if s in self.rectified:
            block = self._block(s, g)
            yield partial(torch.clamp_min, self.rows[s].pixel(x, block), 0, out=self.rectified[s].pixel(x, block))

    def _base_of(self, s: int, x: int, block: slice) -> Tensor:
        """[n or 1, c]"""
        return self.base[s][x % len(self.base[s]), :, block]

    def _conv(self, s: int, stage: Conv, x: int, g: int) -> Calls:
        block = self._block(s, g)
        out, start = self.rows[s].pixel(x, block), self._base_of(s, x, block)
        source = (self.rectified if stage.relu else self.rows)[stage.source]
        present = self._present(stage, g)
        at = x * self.strides[s] // self.strides[stage.source]
        pieces = [piece for piece in source.window(at, stage.taps, present) if piece.shape[1]]
        if stage.add is not None and self._adds_late(stage):
            added = self.rows[stage.add].pixel(x, block)
            if not pieces:
                yield partial(torch.add, added, start, out=out)
            start = added
        elif not pieces:
            yield partial(out.copy_, start)
        if not pieces:
            return
        taps = pieces[0]
        if len(pieces) > 1:
            taps = torch.cat(pieces, 1)
            yield partial(torch.cat, pieces, 1, out=taps)
        yield partial(torch.addmm, start, taps, self.matrices[s, g], out=out)

    def _present(self, stage: Conv, g: int) -> int:
        """How many channels of the present pixel group g reads: later groups are not drawn yet."""
        if self.program.early[stage.source]:
            return self.program.channels[stage.source]
        return self._block(stage.source, g).start if stage.strict else self._block(stage.source, g).stop

    def _matrix(self, s: int, stage: Conv, g: int) -> Tensor:
        weight = stage.weight[:, self._block(s, g)]
        bias = stage.bias[self._block(s, g)] if stage.bias is not None and self._bias_is_a_weight(stage) else None
        return self.rows[stage.source].matrix(weight, bias, stage.taps, self._present(stage, g))

    def _gate(self, s: int, stage: Gate, x: int, g: int) -> Calls:
        out = self.rows[s].pixel(x, self._block(s, g))
        block = self._block(s, g, 2)
        source = self.rows[stage.source].pixel(x, block)
        conditioned = stage.cond is not None and stage.source not in self.folded
        if conditioned or self.readers[stage.source] > 1:
            given, source = source, source.clone()
            yield partial(torch.add, given, self._base_of(s, x, block), out=source)
        if not stage.linear:
            yield source[:, : source.shape[1] // 2].tanh_
        yield partial(torch._C._nn.glu, source, 1, out=out)  # type: ignore[call-arg]
        if stage.add is not None:
            yield partial(out.add_, self.rows[stage.add].pixel(x, self._block(s, g)))

    def _elu(self, s: int, stage: Elu, x: int) -> Calls:
        channels = self.program.channels[stage.source]
        source, out = (self.rows[t].pixel(x, slice(None)) for t in (stage.source, s))
        yield partial(out[:, :channels].copy_, source)
        if stage.concat:
            yield partial(torch.neg, source, out=out[:, channels:])
        yield partial(torch._C._nn.elu_, out)

    def _up(self, s: int, stage: Up, y: int, x: int) -> Calls:
        block = slice(0, self.program.channels[s])
        phase = 2 * (y % 2) + x % 2
        reads, _ = stage.phases[phase]
        (pieces,) = self.rows[stage.source].window(x // 2, reads, self.program.channels[stage.source])
        matrix = self.matrices_up[s, phase]
        yield partial(torch.addmm, self._base_of(s, x, block), pieces, matrix, out=self.rows[s].pixel(x, block))
