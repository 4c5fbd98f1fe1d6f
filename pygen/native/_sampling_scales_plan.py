"""Plans the program of a network of several resolutions for the kernel of csrc/cuda/sampling_scales.cuh: its steps, what is
pushed from one to another, and where streams, bases and weights lie."""

from __future__ import annotations

from collections.abc import Iterator

from pygen.models._program import Conv, MultiScaleProgram, Stage, Tap, Unsupported, Up
from pygen.native._sampling_cluster_plan import MOST_WIDTH, SENT, TILE, round_up
from pygen.native._sampling_scales_streams import Streams
from pygen.native._sampling_scales_tables import Maker, Plan, Row

_MOST_MIXTURES = 32  # kMostMixtures


def make_plan(program: MultiScaleProgram, width: int) -> Plan:
    """Of all but the addresses. Raises Unsupported."""
    if width > MOST_WIDTH:
        raise Unsupported(f"images wider than {MOST_WIDTH} pixels")
    if program.num_mixtures > _MOST_MIXTURES:
        raise Unsupported(f"more than {_MOST_MIXTURES} mixtures")
    return _Planner(program, width).plan


class _Planner:
    def __init__(self, program: MultiScaleProgram, width: int) -> None:
        self.program, self.streams = program, Streams(program)
        self.plan = Plan(program, width, self.streams)
        self.size = program.like.element_size()
        self.places: dict[int, tuple[int, int, int]] = {}  # stream -> at, rows, pitch in an image's memory
        self.bases: dict[int, tuple[int, int]] = {}  # the stream of a convolution -> at, pitch of its base
        self.late_makers: list[Maker] = []
        self.runs: list[
            tuple[int, int, int]
        ] = []  # of each late step the stride's log2 and its levels of rows: from, to
        self.columns: list[tuple[int, int]] = []  # and of columns
        self.step_of: dict[int, list[int]] = {}  # stream -> late steps that make it
        self.left: list[tuple[int, int, Row]] = []  # source stream, maker of the target's convolution, the push
        self._memory()
        written: set[int] = set()  # since the blocks last waited for each other
        for out, stage in enumerate(program.stages, start=1):
            for row, maker, reads, writes in self._early(out, stage):
                waits = bool(written & reads)
                written = (set() if waits else written) | writes
                self.plan.early.append(row | {"wait": int(waits)})
                self.plan.step_makers.append(maker)
            self._late(out, stage)
        self.plan.step_makers += self.late_makers
        self._order()
        self._pushes()
        self.plan.place_buffers()

    # Memory

    def _memory(self) -> None:
        plan, streams = self.plan, self.streams
        for s, rows in sorted(streams.rows.items()):
            pitch = streams.pitch(s) * self.size
            self.places[s] = (plan.image_bytes // 16, rows, pitch)
            plan.image_bytes += rows * self._width(s) * pitch
        plan.pixel = self.places[0]
        for s in sorted(streams.bases):
            pitch = self._tiles(s) * 16 * 4
            self.bases[s] = (plan.image_bytes // 16, pitch)
            plan.image_bytes += self._width(s) * pitch

    def _width(self, s: int) -> int:
        return -(-self.plan.width // self.program.strides[s])

    def _outs(self, s: int) -> int:
        """Of a convolution's stream: half as many as rows where a gate is behind it, or behind the sum that it begins."""
        return self.program.channels[s] // (2 if self.streams.goal(s) in self.streams.gates else 1)

    def _tiles(self, s: int) -> int:
        return -(-self._outs(s) // (8 if self.streams.goal(s) in self.streams.gates else 16))

    # Rows of tables

    def _matrix(self, weight_of: Maker, s: int, source: int, taps: dict[int, Tap]) -> tuple[int, int, int, int]:
        """Appends the packing of those taps, number -> place, for the convolution of stream s: (weight, blocks, first segment,
        segments)."""
        plan, (_, channels, group) = self.plan, self.streams.read(source)
        stage = self.program.stages[weight_of.conv]
        weight = stage.weight if isinstance(stage, Conv) else stage.phases[weight_of.phase][1]  # type: ignore[union-attr]
        first, block = len(plan.segments), 0
        for tap, place in taps.items():
            plan.segments.append((tap, *place, channels, block))
            block += -(-channels * self.size // 64)
        at, tiles = plan.weight_bytes, self._tiles(s)
        row = {"weight": at, "group": group, "filled_group": round_up(group, SENT), "outs": self._outs(s)}
        row |= dict(zip(("kernel_tap", "kernel_out", "kernel_in"), weight.stride(), strict=True))
        row |= {"gate": int(self.streams.goal(s) in self.streams.gates), "tiles": tiles, "blocks": block}
        if block:
            plan.matrices.append(row | {"segments": first, "num_segments": len(taps)})
            plan.matrix_makers.append(weight_of)
            plan.weight_bytes += tiles * block * TILE
        return at, block, first, len(taps)

    def _common(self, s: int, out: int, weight: int, blocks: int) -> Row:
        """Of a step whose convolution makes stream s and which itself makes `out`."""
        gate = self.streams.gates.get(self.streams.goal(s))
        row = {"weight": weight, "blocks": blocks, "outs": self._outs(s), "tiles": self._tiles(s)}
        row |= {"gate": int(gate is not None), "linear": int(s in self.streams.gates)}
        row |= {"log2": _log2(self.program.strides[out]), "width": self._width(out)}
        row |= {"forms": self.streams.forms.get(out, 0), "form_bytes": self.streams.form(out) * self.size}
        row |= {"base_at": -1, "add_at": -1, "out_at": -1, "sum_at": -1, "out": -1, "add": -1, "source": -1}
        if s in self.streams.gates:
            stage, _ = self.streams.gates[s]
            if stage.cond is not None:
                strides = (0 if n == 1 else t for n, t in zip(stage.cond.shape, stage.cond.stride(), strict=True))
                row |= dict(zip(("cond_image", "cond_channel", "cond_row", "cond_column"), strides, strict=True))
            if stage.add is not None:
                row["add_minus"] = self.streams.given(stage.add)[1] * self.size
        if out in self.places and out not in self.streams.sums:
            row |= dict(zip(("out_at", "out_rows", "out_pitch"), self.places[out], strict=True))
        return row

    def _base(self, s: int, name: str = "base") -> Row:
        at, pitch = self.bases[self.streams.goal(s)]
        return {f"{name}_at": at, f"{name}_pitch": pitch}

    def _early(self, out: int, stage: Stage) -> Iterator[tuple[Row, Maker, set[int], set[int]]]:
        """Rows of the table, and which streams and bases they read and write."""
        program, streams = self.program, self.streams
        if isinstance(stage, Conv) and program.early[out]:
            gate = streams.gates.get(out)
            made = gate[1] if gate else out
            step = program.strides[out] // program.strides[stage.source]
            shape = {"count": self._width(out), "in_step": step, "out_step": 1, "row_mask": program.strides[out] - 1}
            shape["beside"] = _beside(stage.taps) if step == 1 else 1
            maker = Maker(out - 1, made - 1 if gate else -1)
            row, reads, writes = self._early_row(maker, stage.source, dict(enumerate(stage.taps)), out, made)
            if stage.add is not None:
                row |= self._base(stage.add)
                reads.add(-1 - streams.goal(stage.add))
            if gate is not None and gate[0].add is not None:
                add = gate[0].add
                at, rows, pitch = self.places[add]
                row |= {"add_at": at + streams.given(add)[0] * self.size // 16, "add_rows": rows, "add_pitch": pitch}
                reads.add(add)
            yield row | shape, maker, reads, writes
        if isinstance(stage, Up):
            # Where what it reads is late, of every other row: its pixels are the row's own in the others.
            for phase, (taps, _) in enumerate(stage.phases):
                y, x = divmod(phase, 2)
                if y == 0 and not program.early[out]:
                    continue
                stride = program.strides[out]
                shape = {"count": -(-(self._width(out) - x) // 2), "in_step": 1, "out_step": 2, "out_first": x}
                shape |= {"row_mask": 2 * stride - 1, "row_is": y * stride, "beside": _beside(taps)}
                maker = Maker(out - 1, -1, phase)
                row, reads, writes = self._early_row(maker, stage.source, dict(enumerate(taps)), out, out)
                yield row | shape, maker, reads, writes

    def _early_row(
        self, maker: Maker, source: int, taps: dict[int, Tap], s: int, out: int
    ) -> tuple[Row, set[int], set[int]]:
        weight, blocks, first, segments = self._matrix(maker, s, source, taps)
        row = self._common(s, out, weight, blocks) | {"segments": first, "num_segments": segments}
        stream, _, _ = self.streams.read(source)
        if taps:
            at, rows, pitch = self.places[stream]
            at += self.streams.offset(source) * self.size // 16
            row |= {"source_at": at, "source_rows": rows, "source_pitch": pitch, "source_width": self._width(stream)}
            row["source_log2"] = _log2(self.program.strides[stream])
        base = out in self.streams.sums or not self.program.early[out]
        if base:
            row |= self._base(s, "sum") | {"out_at": -1}
        return row, {stream} if taps else set(), {-1 - self.streams.goal(s) if base else out}

    def _late(self, out: int, stage: Stage) -> None:
        program, streams = self.program, self.streams
        if isinstance(stage, Up) and not program.early[out]:
            level = _log2(program.strides[out])
            for x in range(2):
                self._late_row(Maker(out - 1, -1, x), stage.source, {0: (0, 0)}, out, out, {})
                self.runs[-1], self.columns[-1] = (level, level + 1, 99), (level, level) if x else (level + 1, 99)
            self._late_row(Maker(out - 1, -1, 2), stage.source, {}, out, out, self._base(out))
            self.runs[-1] = (level, level, level)
            self.late_makers[-1] = Maker(-1)  # its bias is in the base
        if not isinstance(stage, Conv) or program.early[out] or out in streams.sums:
            return
        gate = streams.gates.get(out)
        centre = {tap: place for tap, place in enumerate(stage.taps) if place == (0, 0) or stage.source == 0}
        base = {} if stage.add is None else self._base(stage.add)
        made = gate[1] if gate else out
        self._late_row(Maker(out - 1, made - 1 if gate else -1), stage.source, centre, out, made, base)
        row = self.plan.late[-1]
        if gate is not None and gate[0].add is not None:
            row["add"] = gate[0].add  # its place is not known yet
        for tap, (_, dx) in enumerate(stage.taps):
            if tap not in centre:
                self._push(Maker(out - 1), stage.source, tap, -dx, out)
        for side in streams.sides(out):
            self._push(Maker(side - 1), program.stages[side - 1].source, 0, 0, out)

    def _late_row(self, maker: Maker, source: int, taps: dict[int, Tap], s: int, out: int, base: Row) -> None:
        weight, blocks, _, _ = self._matrix(maker, s, source, taps)
        row = self._common(s, out, weight, blocks) | base
        stream, channels, _ = self.streams.read(source)
        if taps:
            row |= {"source": stream, "centre_bytes": channels * self.size, "centre_blocks": blocks}
            row["source_part"] = self.streams.offset(source) * self.size
        row["logits"] = int(out == len(self.program.stages))
        if not row["logits"]:
            row["out"] = out
        if len(taps) == 0 and not isinstance(self.program.stages[maker.conv], Up):
            raise Unsupported("a late convolution without its own pixel")
        self.step_of.setdefault(out, []).append(len(self.plan.late))
        self.plan.late.append(row)
        self.late_makers.append(maker)
        level = _log2(self.program.strides[out])
        self.runs.append((level, level, 99))
        self.columns.append((level, 99))

    def _push(self, maker: Maker, source: int, tap: int, right: int, target: int) -> None:
        stream, channels, _ = self.streams.read(source)
        weight, blocks, _, _ = self._matrix(maker, target, source, {tap: (0, -right)})
        stride = self.program.strides[stream]
        push = {"weight": weight, "blocks": blocks, "source": stream, "bytes": channels * self.size, "right": right}
        push |= {"source_part": self.streams.offset(source) * self.size, "target": len(self.plan.late) - 1}
        push |= {"log2": _log2(stride), "ratio_log2": _log2(self.program.strides[target] // stride)}
        self.left.append((stream, target, push))

    # What is known when all steps are

    def _order(self) -> None:
        scales = _log2(max(self.program.strides)) + 1
        for y in range(scales):
            self.plan.order.append([])
            for x in range(scales):
                runs = zip(self.runs, self.columns, strict=True)
                here = [s for s, ((_, a, b), (c, d)) in enumerate(runs) if a <= y <= b and c <= x <= d]
                if not here or here[0] != 0:
                    raise Unsupported("a first step that some pixels do not have")
                self.plan.order[-1].append(here)

    def _pushes(self) -> None:
        """In the order of their makers; those of one maker lie together."""
        for s, steps in self.step_of.items():
            own = [push for stream, _, push in self.left if stream == s]
            for step in steps:
                self.plan.late[step] |= {"pushes": len(self.plan.pushes), "num_pushes": len(own)}
            self.plan.pushes += own
        if self.plan.late[-1]["num_pushes"] or len(self.plan.pushes) != len(self.left):
            raise Unsupported("a push from what no step makes, or from the last one")


def _log2(n: int) -> int:
    return n.bit_length() - 1


def _beside(taps: tuple[Tap, ...]) -> int:
    """How many taps of each row share their pixels: all of them if they are the same neighbours in all rows; else 1."""
    columns: dict[int, list[int]] = {}
    for dy, dx in taps:
        columns.setdefault(dy, []).append(dx)
    rows = list(columns.values())
    if not rows or list(taps) != [(dy, dx) for dy in columns for dx in rows[0]]:
        return 1
    first, count = rows[0][0], len(rows[0])
    return count if rows[0] == list(range(first, first + count)) and -count <= first <= 1 else 1
