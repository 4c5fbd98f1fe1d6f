"""Lowers a sampling program for the kernel of csrc/cuda/sampling.cuh."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pygen.models._program import Conv, Gate, Lstm, Program, Sum, Unsupported

_CONV, _GATE, _CONV_GATE, _LSTM, _SUM = range(5)


class Stream(NamedTuple):
    """Of SamplingStream in csrc/cuda/sampling.h."""

    channels: int
    rows: int
    cols: int
    in_shared: int
    offset: int


@dataclass(frozen=True)
class Lowered:
    """A program as the kernel reads it, on the device of its weights."""

    stages: Tensor  # int64 [stages, fields]
    streams: Tensor  # int64 [streams, fields]
    taps: Tensor  # int32 [taps, 2]
    weights: Tensor
    shared_weights: int
    ring_size: int
    shared_ring_size: int


def lower(compiled: Any, program: Program, width: int, images_per_block: int, shared_bytes: int) -> Lowered:
    """Fuses late gates into their convolutions, packs the weights, and shares out a block's fast memory: what a late
    stage reads at every pixel first, then its weights, then rows."""
    program, own = _with_own_streams(program)
    steps = list(_fused(program, own))
    packed = _Weights(compiled.sampling_parts)
    late_first = sorted(range(len(steps)), key=lambda i: program.early[steps[i].out])
    stages: dict[int, dict[str, int]] = {}
    for i in late_first:
        stages[i] = packed.stage(program, steps[i])
        if not program.early[steps[i].out]:
            late_weights = packed.size
    room = shared_bytes // packed.like.element_size()
    made = {0, *(step.out for step in steps)}
    made.update(s for streams in own.values() for s in streams)
    cols = _columns(program, own, width)
    streams, ring_size, shared_ring_size = _streams(program, made, cols, images_per_block, room, late_weights)
    taken = images_per_block * shared_ring_size
    fields = compiled.sampling_stage_fields.split()
    device = packed.like.device
    table = [[stages[i].get(name, 0) for name in fields] for i in range(len(steps))]
    return Lowered(
        torch.tensor(table, dtype=torch.int64, device=device),
        torch.tensor(streams, dtype=torch.int64, device=device),
        torch.tensor(packed.taps or [(0, 0)], dtype=torch.int32, device=device),
        torch.cat(packed.parts),
        late_weights if taken + late_weights <= room else 0,
        ring_size,
        shared_ring_size,
    )


class _Own(NamedTuple):
    """Streams of an LSTM's own: its sums, if it has a weight of its own, else those that it is given; and its c."""

    sums: int
    c: int


class _Step(NamedTuple):
    conv: Conv | None
    gate: Gate | None
    source: int
    out: int
    recurrent: Lstm | Sum | None = None  # of a convolution: the LSTM along the row behind it
    cells: int = 0


def _with_own_streams(program: Program) -> tuple[Program, dict[int, _Own]]:
    """The program with more streams behind the last stage's, and which ones are whose, by the LSTM's stream."""
    channels, early, own = list(program.channels), list(program.early), {}
    for out, stage in enumerate(program.stages, start=1):
        if isinstance(stage, Lstm):
            sums = len(channels) if stage.weight is not None else stage.source
            more = [program.channels[stage.source]] if stage.weight is not None else []
            channels += [*more, program.channels[out]]
            early += [program.early[out]] * (len(more) + 1)
            own[out] = _Own(sums, len(channels) - 1)
    return dataclasses.replace(program, channels=tuple(channels), early=tuple(early)), own


def _columns(program: Program, own: dict[int, _Own], width: int) -> list[int]:
    """How many pixels of a row each stream keeps."""
    beside = {
        stage.source for stage in program.stages if isinstance(stage, Conv) and any(tap != (0, 0) for tap in stage.taps)
    }
    cols = [width if early or s in beside else 1 for s, early in enumerate(program.early)]
    for out, (sums, c) in own.items():
        stage = program.stages[out - 1]
        assert isinstance(stage, Lstm)
        if stage.weight is None:
            cols[c] = width
        else:
            cols[sums] = cols[c] = 1
            cols[out] = width
    return cols


def _fused(program: Program, own: dict[int, _Own]) -> Iterator[_Step]:
    """The stages in order; a late convolution that only a gate reads is joined with it."""
    readers = Counter(s for stage in program.stages for s in (stage.source, getattr(stage, "add", None)))
    waiting: Conv | None = None
    for out, stage in enumerate(program.stages, start=1):
        if isinstance(stage, Lstm):
            sums, c = own[out]
            if stage.weight is not None:
                beside = Conv(out, (stage.before,), stage.weight.unsqueeze(0), None, add=stage.source)
                yield _Step(beside, None, out, sums, stage)
            yield _Step(None, None, sums, out, stage, c)
        elif isinstance(stage, Sum):
            yield _Step(None, None, stage.source, out, stage)
        elif isinstance(stage, Conv):
            following = program.stages[out] if out < len(program.stages) else None
            gated = isinstance(following, Gate) and following.source == out
            if gated and readers[out] == 1 and not program.early[out]:
                waiting = stage
                continue
            yield _Step(stage, None, stage.source, out)
        elif not isinstance(stage, Gate) or stage.linear:
            raise Unsupported("a network of several resolutions")
        else:
            yield _Step(waiting, stage, waiting.source if waiting else stage.source, out)
            waiting = None


class _Weights:
    """Packs the stages' weights and biases one after the other, and their taps."""

    like: Tensor

    def __init__(self, parts: int) -> None:
        self.lanes, self.size = parts, 0
        self.parts: list[Tensor] = []
        self.taps: list[tuple[int, int]] = []

    def stage(self, program: Program, step: _Step) -> dict[str, int]:
        """The fields of SamplingStage; what is left out is 0."""
        conv, gate = step.conv, step.gate
        early = program.early[step.out]
        fields = {"kind": _GATE if conv is None else _CONV if gate is None else _CONV_GATE, "early": int(early)}
        fields |= {"source": step.source, "out": step.out, "add": -1, "groups": 1 if early else program.groups}
        if conv is not None:
            fields |= self._conv(conv)
        if isinstance(step.recurrent, Lstm):
            fields["along"] = -step.recurrent.before[1]
        if conv is None and isinstance(step.recurrent, Lstm):
            lstm = step.recurrent
            fields |= {"kind": _LSTM, "groups": lstm.groups, "cells": step.cells, "first_row": lstm.first_row}
        elif isinstance(step.recurrent, Sum):
            fields |= {"kind": _SUM, "add": step.recurrent.add}
        if gate is not None and gate.cond is not None:
            fields["cond"] = gate.cond.data_ptr()
            strides = (0 if size == 1 else s for size, s in zip(gate.cond.shape, gate.cond.stride(), strict=True))
            fields |= dict(zip(("cond_image", "cond_channel", "cond_row", "cond_column"), strides, strict=True))
        return fields

    def _conv(self, conv: Conv) -> dict[str, int]:
        self.like = weight = conv.weight
        taps, outs, ins = weight.shape
        each = -(-ins // self.lanes)
        # Lanes that sum different parts read different banks: rows of 8 outputs, parts 8 elements apart modulo 32.
        part_size = each * outs + (8 - each * outs) % 32
        packed = weight.new_zeros(taps, self.lanes, part_size)
        by_input = weight.new_zeros(taps, self.lanes * each, outs)
        by_input[:, :ins] = weight.transpose(1, 2)
        packed[:, :, : each * outs] = by_input.view(taps, self.lanes, each * outs)
        first_tap = len(self.taps)
        self.taps += conv.taps
        bias = conv.bias if conv.bias is not None else weight.new_zeros(outs)
        return {
            "taps": first_tap,
            "num_taps": taps,
            "weight": self._append(packed),
            "bias": self._append(bias),
            "computed": outs,
            "channels_per_part": each,
            "part_size": part_size,
            "relu": int(conv.relu),
            "strict": int(conv.strict),
            "add": -1 if conv.add is None else conv.add,
        }

    def _append(self, t: Tensor) -> int:
        self.parts.append(t.reshape(-1))
        offset, self.size = self.size, self.size + t.numel()
        return offset


def _streams(
    program: Program, made: set[int], cols: list[int], images: int, room: int, late_weights: int
) -> tuple[list[Stream], int, int]:
    """Each stream's ring, and the sizes of an image's rings in device and in shared memory. room: elements a block."""
    rows = {s: back + 1 for s, back in enumerate(program.rows_back())}
    size = {s: rows[s] * cols[s] * program.channels[s] for s in made}
    at_pixels = [s for s in made if cols[s] == 1]
    in_rows = sorted((s for s in made if s not in at_pixels), key=lambda s: (program.early[s], size[s]))
    shared: dict[int, int] = {}
    taken = 0
    for s in at_pixels:
        if images * (taken + size[s]) <= room:
            shared[s], taken = taken, taken + size[s]
    kept_free = late_weights if images * taken + late_weights <= room else 0
    for s in in_rows:
        if images * (taken + size[s]) + kept_free <= room:
            shared[s], taken = taken, taken + size[s]
    streams, elsewhere = [], 0
    for s in range(len(program.channels)):
        if s not in made:
            streams.append(Stream(0, 1, 1, 0, 0))
            continue
        streams.append(Stream(program.channels[s], rows[s], cols[s], int(s in shared), shared.get(s, elsewhere)))
        elsewhere += 0 if s in shared else size[s]
    return streams, elsewhere, taken
