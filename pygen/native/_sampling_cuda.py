"""Lowers a sampling program for the kernel of csrc/cuda/sampling.cuh and launches it. Not yet run on a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pygen import _backends
from pygen.models._program import Conv, DenseProgram, Gate, MultiScaleProgram, NadeProgram, Program, Unsupported
from pygen.native import _sampling_cluster, _sampling_dense_cuda, _sampling_scales, nade_nll
from pygen.native._arguments import DTYPE_NAMES, draws

THREADS = 256
_MOST_IMAGES = 16  # a block
_CONV, _GATE, _CONV_GATE = range(3)


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


def target(t: Tensor) -> tuple[Any, int, int]:
    """The compiled module for t's device, the device and its stream."""
    index = t.get_device()
    return _backends.compiled("_cuda"), index, torch.cuda.current_stream(index).cuda_stream


def draw(
    program: Program | DenseProgram | NadeProgram,
    levels: Tensor,  # [n, C, H, W], of a dense program [n, D]; uint8 or int64, contiguous: written
    u: Tensor,  # float32 [n, H, W, C] or [n, D], contiguous
    known: Tensor | None,  # as levels
    known_mask: Tensor | None,  # bool, as levels
    temperature: float,
    *,
    threads: int | None = None,
    images_per_block: int | None = None,
) -> None:
    """Draws all images in one launch. The program's tables are copied before it, from memory that is not pinned: that waits
    for the stream, and a call cannot be captured in a graph."""
    if isinstance(program, NadeProgram):
        nade_nll.draw(program, levels, u, known, known_mask, temperature)
        return
    if isinstance(program, DenseProgram):
        _sampling_dense_cuda.draw(program, levels, u, known, known_mask, temperature)
        return
    if not levels.numel():
        return
    compiled, device, stream = target(levels)
    drawn = draws(program.num_levels, levels, u, known, known_mask, temperature)
    if isinstance(program, MultiScaleProgram):
        if program.like.dtype is torch.float64:
            raise Unsupported("a network of several resolutions in float64")
        _sampling_scales.draw(compiled, device, stream, program, levels, drawn)
        return
    if program.like.dtype is not torch.float64:
        try:
            _sampling_cluster.draw(compiled, device, stream, program, levels, drawn)
            return
        except Unsupported:
            if program.like.dtype is not torch.float32:
                raise
            # The kernel below runs any program, slowly.
    processors, shared_bytes = compiled.sampling_limits(device)
    n, _, _, width = levels.shape
    if images_per_block is None:
        images_per_block = max(1, min(_MOST_IMAGES, -(-n // processors)))
    low = lower(compiled, program, width, images_per_block, shared_bytes)
    rings = torch.empty(n * low.ring_size, dtype=low.weights.dtype, device=levels.device)
    compiled.sampling_draw(
        DTYPE_NAMES[low.weights.dtype],
        tuple(levels.shape),
        program.groups,
        drawn,
        (low.stages.data_ptr(), low.streams.data_ptr(), low.taps.data_ptr(), len(low.stages)),
        low.weights.data_ptr(),
        low.shared_weights,
        rings.data_ptr(),
        low.ring_size,
        low.shared_ring_size,
        images_per_block,
        threads or THREADS,
        device,
        stream,
    )


def lower(compiled: Any, program: Program, width: int, images_per_block: int, shared_bytes: int) -> Lowered:
    """Fuses late gates into their convolutions, packs the weights, and shares out a block's fast memory: what a late
    stage reads at every pixel first, then its weights, then rows."""
    steps = list(_fused(program))
    packed = _Weights(compiled.sampling_parts)
    late_first = sorted(range(len(steps)), key=lambda i: program.early[steps[i].out])
    stages: dict[int, dict[str, int]] = {}
    for i in late_first:
        stages[i] = packed.stage(program, steps[i])
        if not program.early[steps[i].out]:
            late_weights = packed.size
    room = shared_bytes // packed.like.element_size()
    made = {0, *(step.out for step in steps)}
    streams, ring_size, shared_ring_size = _streams(program, made, width, images_per_block, room, late_weights)
    taken = images_per_block * shared_ring_size
    fields = compiled.sampling_stage_fields.split()
    device = packed.like.device
    table = [[stages[i].get(name, 0) for name in fields] for i in range(len(steps))]
    return Lowered(
        torch.tensor(table, dtype=torch.int64).to(device),
        torch.tensor(streams, dtype=torch.int64).to(device),
        torch.tensor(packed.taps or [(0, 0)], dtype=torch.int32).to(device),
        torch.cat(packed.parts),
        late_weights if taken + late_weights <= room else 0,
        ring_size,
        shared_ring_size,
    )


class _Step(NamedTuple):
    conv: Conv | None
    gate: Gate | None
    source: int
    out: int


def _fused(program: Program) -> Iterator[_Step]:
    """The stages in order; a late convolution that only a gate reads is joined with it."""
    readers = Counter(s for stage in program.stages for s in (stage.source, getattr(stage, "add", None)))
    waiting: Conv | None = None
    for out, stage in enumerate(program.plain_stages(), start=1):
        if isinstance(stage, Conv):
            following = program.stages[out] if out < len(program.stages) else None
            gated = isinstance(following, Gate) and following.source == out
            if gated and readers[out] == 1 and not program.early[out]:
                waiting = stage
                continue
            yield _Step(stage, None, stage.source, out)
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
    program: Program, made: set[int], width: int, images: int, room: int, late_weights: int
) -> tuple[list[Stream], int, int]:
    """Each stream's ring, and the sizes of an image's rings in device and in shared memory. room: elements a block."""
    back, beside = program.rows_back(), set()
    for stage in program.stages:
        if isinstance(stage, Conv) and any(tap != (0, 0) for tap in stage.taps):
            beside.add(stage.source)
    rows, cols = {}, {}
    for s in made:
        rows[s], cols[s] = back[s] + 1, width if program.early[s] or s in beside else 1
    size = {s: rows[s] * cols[s] * program.channels[s] for s in made}
    at_pixels = [s for s in made if cols[s] == 1 and not program.early[s]]
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
