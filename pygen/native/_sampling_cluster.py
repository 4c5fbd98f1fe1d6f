"""Plans a sampling program for the kernel of csrc/cuda/sampling_cluster.cuh and launches it. Not yet run on a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pygen.models._program import Conv, Gate, Program
from pygen.native._arguments import DTYPE_NAMES

THREADS = 256
MESSAGES = True
SIZES = (1, 2, 4, 8, 16)  # blocks a cluster
_MOST_IMAGES = 64  # a cluster
_MOST_WIDTH = (1 << 15) - 1  # sampling_early.cuh counts columns in 16 bits
_RUN, _TILE = 64, 1024  # bytes: of input channels; of 16 rows of them
_SUMS, _FETCHED, _PIXELS = 4, 4, 64  # kSums, kFetched, kWarpPixels
_PUSH_AFTER, _PUSH_NEXT = 1, 2
_SENT = 8  # kChannelsSent
_MESSAGES = 32  # bytes, kMessageBytes


class Unsupported(NotImplementedError):
    """A program that this kernel does not run."""


class Step(NamedTuple):
    """A convolution that makes stream `conv_out` and, in the same breath, its gate."""

    conv: Conv
    conv_out: int
    gate: Gate | None
    out: int


class Layout(NamedTuple):
    """SamplingShared of csrc/cuda/sampling_cluster.h, and what goes with it."""

    segments: int
    messages: int
    resident: int
    resident_bytes: int
    pixels: int
    rings: int
    sums: int
    logits: int
    early: int
    bytes: int


@dataclass
class Plan:
    """The tables of a program, whatever cluster will run it. late: colour group after colour group."""

    program: Program
    width: int
    early: list[dict[str, int]] = field(default_factory=list)
    late: list[dict[str, int]] = field(default_factory=list)
    segments: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    late_segments: int = 0
    image_bytes: int = 0
    weight_bytes: int = 0
    pixel: tuple[int, int, int] = (-1, 1, 0)  # at, rows, pitch
    buffers: dict[int, tuple[int, int]] = field(default_factory=dict)  # late stream -> (offset an image, pitch)
    buffer_bytes: int = 0  # an image's
    kept: list[Tensor] = field(default_factory=list)  # until the launch


def draw(
    compiled: Any,
    device: int,
    stream: int,
    program: Program,
    levels: Tensor,  # [n, C, H, W]
    draws: tuple,
    *,
    size: int | None = None,
    images: int | None = None,
    threads: int | None = None,
    messages: bool | None = None,
) -> None:
    """Draws all images in one launch; `size` blocks a cluster, which draws `images` together. messages: its blocks wait for
    what they need (by default MESSAGES); otherwise for each other, at the cluster's barrier."""
    n, _, _, width = levels.shape
    plan = make_plan(program, width)
    threads = threads or THREADS
    size, images, layout, positions = choose(compiled, device, plan, n, size, images, threads)
    like = program.like
    pixel, pixel_pitch = plan.buffers[0]
    offset = layout.pixels
    rows = _round(images, 8)
    turn, late = 0, []
    for row in plan.late:
        placed = row | {"turn": -turn % size}
        for name in ("source", "out", "add"):
            placed[name] = offset + rows * row[name] if row[name] >= 0 else -1
        late.append(placed)
        turn += row["tiles"]
    steps = _table(compiled.sampling_step_fields, [*plan.early, *late]).to(like.device)
    names = [name for name, _ in _fields(compiled.sampling_segment_fields)]
    segments = [dict(zip(names, segment, strict=True)) for segment in plan.segments]
    segment_table = _table(compiled.sampling_segment_fields, segments).to(like.device)
    weights = torch.empty(plan.weight_bytes, dtype=torch.uint8, device=like.device)
    memory = torch.empty(n * plan.image_bytes, dtype=torch.uint8, device=like.device)
    compiled.sampling_cluster_draw(
        DTYPE_NAMES[like.dtype],
        tuple(levels.shape),
        program.groups,
        draws,
        (size, images, threads, MESSAGES if messages is None else messages),
        (steps.data_ptr(), segment_table.data_ptr(), len(plan.early), len(plan.late), plan.late_segments),
        (weights.data_ptr(), plan.weight_bytes),
        (memory.data_ptr(), plan.image_bytes),
        (*plan.pixel, offset + rows * pixel, pixel_pitch),
        positions,
        tuple(layout),
        device,
        stream,
    )


# --- the plan


def make_plan(program: Program, width: int) -> Plan:
    """Raises Unsupported."""
    if width > _MOST_WIDTH:
        raise Unsupported(f"images wider than {_MOST_WIDTH} pixels")
    plan = Plan(program, width)
    steps = list(_joined(program))
    late = [step for step in steps if not program.early[step.out]]
    early = [step for step in steps if program.early[step.out]]
    _check(program, late)
    places = _memory(plan, steps)
    _buffers(plan, late)
    for g in range(program.groups):
        plan.late += [_late_step(plan, step, g, places) for step in late]
    plan.late_segments = len(plan.segments)
    made: set[int] = set()  # since the blocks last waited for each other
    for step in early:
        waits = bool(made & {step.conv.source, step.conv.add})
        made = set() if waits else made
        made |= {step.conv_out, step.out}
        plan.early.append(_early_step(plan, step, places) | {"wait": int(waits)})
    for row in (*plan.early, *plan.late):
        row["weight"] = plan.weight_bytes
        plan.weight_bytes += row["tiles"] * row["blocks"] * _TILE
    return plan


def _joined(program: Program) -> Iterator[Step]:
    """The convolutions in order, each with the gate that reads it."""
    gates = {}
    for out, stage in enumerate(program.stages, start=1):
        if isinstance(stage, Gate):
            maker = program.stages[stage.source - 1] if stage.source else None
            if not isinstance(maker, Conv) or stage.source in gates:
                raise Unsupported("a gate of its own")
            gates[stage.source] = (stage, out)
    for out, stage in enumerate(program.stages, start=1):
        if isinstance(stage, Conv):
            yield Step(stage, out, *gates.get(out, (None, out)))


def _check(program: Program, late: list[Step]) -> None:
    readers = Counter(s for stage in program.stages for s in (stage.source, getattr(stage, "add", None)))
    for step in late:
        conv = step.conv
        if program.early[conv.source] or any(dy < 0 for dy, _ in conv.taps):
            raise Unsupported("a late convolution of an early stream or of rows above")
        if step.gate is not None and conv.add is not None and not program.early[conv.add]:
            raise Unsupported("a gate over the sum of two late streams")
        if step.gate is not None and readers[step.conv_out] > 1:
            raise Unsupported("a late stream that a gate reads, and another stage")


def _filled(program: Program, s: int) -> int:
    """Channels of a late stream's colour group, as they lie in shared memory."""
    return _round(program.channels[s] // program.groups, _SENT)


def _round(size: int, to: int) -> int:
    return -(-size // to) * to


def _memory(plan: Plan, steps: list[Step]) -> dict[int, tuple[int, int, int]]:
    """stream -> (at, rows, pitch) of those that lie in an image's memory: all that early steps read, and early ones."""
    program, size = plan.program, plan.program.like.element_size()
    back, wanted = program.rows_back(), set()
    for step in steps:
        if program.early[step.out]:
            wanted |= {step.conv.source}
        if step.conv.add is not None and program.early[step.conv.add]:
            wanted |= {step.conv.add}
    places = {}
    for s in sorted(wanted):
        rows, pitch = back[s] + 1, _round(program.channels[s] * size, 16)
        places[s] = (plan.image_bytes // 16, rows, pitch)
        plan.image_bytes += rows * plan.width * pitch
    plan.pixel = places.get(0, plan.pixel)
    return places


def _buffers(plan: Plan, late: list[Step]) -> None:
    """Places of the present pixel's streams in shared memory, an image's bytes apart. A place is free for others when the
    last step that reads it is over; what it pushes, it reads until the end of the next one."""
    program, size = plan.program, plan.program.like.element_size()
    last = len(late)
    spans = {0: (-1, last)}
    for t, step in enumerate(late):
        until = t + int(any(tap != (0, 0) for tap in step.conv.taps))
        for s in (step.conv.source, step.conv.add):
            if s is not None and not program.early[s]:
                spans[s] = (spans[s][0], max(spans[s][1], until))
        if step is not late[-1]:
            spans[step.out] = (t, t)
    if program.groups > 1:  # a pixel's first blocks are read until its last one is made
        spans = dict.fromkeys(spans, (-1, last))
    placed: list[tuple[int, int, int]] = []
    for s, (start, stop) in spans.items():
        pitch = _round(_filled(program, s) * program.groups * size, _RUN)
        pitch += _RUN if pitch % (2 * _RUN) == 0 else 0  # two rows side by side in the banks
        at = 0
        for other, end in sorted((a, b) for a, b, over in placed if over >= start):
            if at + pitch <= other:
                break
            at = max(at, end)
        placed.append((at, at + pitch, stop))
        plan.buffers[s] = (at, pitch)
        plan.buffer_bytes = max(plan.buffer_bytes, at + pitch)


def _common(plan: Plan, step: Step, places: dict[int, tuple[int, int, int]]) -> dict[str, int]:
    conv, gate = step.conv, step.gate
    row = {"bias": 0, "relu": int(conv.relu), "gate": int(gate is not None)}
    if conv.bias is not None:
        plan.kept.append(conv.bias.contiguous())
        row["bias"] = plan.kept[-1].data_ptr()
    row["kernel"] = conv.weight.data_ptr()
    row |= dict(zip(("kernel_tap", "kernel_out", "kernel_in"), conv.weight.stride(), strict=True))
    if gate is not None and gate.cond is not None:
        row["cond"] = gate.cond.data_ptr()
        strides = (0 if size == 1 else s for size, s in zip(gate.cond.shape, gate.cond.stride(), strict=True))
        row |= dict(zip(("cond_image", "cond_channel", "cond_row", "cond_column"), strides, strict=True))
    row |= {"add_at": -1, "conv_at": -1, "out_at": -1}
    in_memory = {"out": step.out}
    if conv.add is not None and plan.program.early[conv.add]:
        in_memory["add"] = conv.add
    if gate is not None:
        in_memory["conv"] = step.conv_out
    for name, s in in_memory.items():
        if s in places:
            row |= dict(zip((f"{name}_at", f"{name}_rows", f"{name}_pitch"), places[s], strict=True))
    return row


def _taps(plan: Plan, step: Step, channels: dict[int, int]) -> dict[str, int]:
    """Appends the segments of those taps, number -> channels; their runs follow each other."""
    first, block = len(plan.segments), 0
    for tap, count in channels.items():
        plan.segments.append((tap, *step.conv.taps[tap], count, block))
        block += -(-count * plan.program.like.element_size() // _RUN)
    return {"segments": first, "num_segments": len(plan.segments) - first, "blocks": block}


def _tiles(outs: int, gate: Gate | None) -> int:
    return -(-outs // (16 if gate is None else 8))


def _early_step(plan: Plan, step: Step, places: dict[int, tuple[int, int, int]]) -> dict[str, int]:
    conv, program = step.conv, plan.program
    row = _common(plan, step, places)
    outs = program.channels[step.out]
    row |= {"outs": outs, "tiles": _tiles(outs, step.gate)}
    channels = program.channels[conv.source]
    row |= {"group": channels, "filled_group": channels}
    row |= _taps(plan, step, dict.fromkeys(range(len(conv.taps)), channels))
    if conv.taps:
        row |= dict(zip(("source_at", "source_rows", "source_pitch"), places[conv.source], strict=True))
    return row


def _late_step(plan: Plan, step: Step, g: int, places: dict[int, tuple[int, int, int]]) -> dict[str, int]:
    conv, program = step.conv, plan.program
    row = _common(plan, step, places)
    outs = program.channels[step.out] // program.groups
    row |= {"outs": outs, "tiles": _tiles(outs, step.gate), "first": g * outs * (1 if step.gate is None else 2)}
    group = _filled(program, conv.source)
    row |= {"group": program.channels[conv.source] // program.groups, "filled_group": group}
    read, channels = group * (g + (0 if conv.strict else 1)), group * program.groups
    present = [tap for tap, place in enumerate(conv.taps) if place == (0, 0) and read > 0]
    beside = [tap for tap, (_, dx) in enumerate(conv.taps) if dx < 0]
    row |= _taps(plan, step, dict.fromkeys(present, read) | dict.fromkeys(beside, channels))
    row["centre_bytes"] = read * program.like.element_size() if present else 0
    row["centre_blocks"] = -(-row["centre_bytes"] // _RUN)
    row["depth"] = max((-conv.taps[tap][1] for tap in beside), default=0)
    row["push"] = 0 if not beside else _PUSH_NEXT if conv.source == 0 else _PUSH_AFTER
    row["logits"] = int(step.out == len(program.stages))
    row |= {"out": -1, "add": -1, "out_channel": g * _filled(program, step.out), "out_first": g * outs}
    row["source"], row["pitch"] = plan.buffers[conv.source]
    if not row["logits"]:
        row["out"], row["out_pixel_pitch"] = plan.buffers[step.out]
    if conv.add is not None and not program.early[conv.add]:
        row["add"], row["add_pixel_pitch"] = plan.buffers[conv.add]
    return row


# --- where it runs


def choose(
    compiled: Any, device: int, plan: Plan, n: int, size: int | None, images: int | None, threads: int
) -> tuple[int, int, Layout, int]:
    """Blocks a cluster, its images, its shared memory, and how many pixels a block works on at once in early steps: what
    is predicted to take least time, of what fits. Not yet measured on a GPU."""
    _, room = compiled.sampling_limits(device)
    dtype, best = DTYPE_NAMES[plan.program.like.dtype], None
    for blocks in SIZES if size is None else (size,):
        at_once = compiled.sampling_clusters(device, dtype, blocks, threads, room)
        if not at_once:
            continue
        together = min(_MOST_IMAGES, -(-n // at_once)) if images is None else images
        while (found := lay_out(compiled, plan, blocks, together, room)) is None and images is None and together > 1:
            together = -(-together // 2)
        if found is None:
            continue
        clusters = -(-n // together)
        seconds = -(-clusters // at_once) * _predicted(plan, blocks, together, found[0].resident_bytes)
        if best is None or seconds < best[0]:
            best = (seconds, blocks, together, *found)
    if best is None:
        raise Unsupported("a program whose present pixel does not fit into shared memory")
    return best[1:]


def lay_out(compiled: Any, plan: Plan, size: int, images: int, room: int) -> tuple[Layout, int] | None:
    """None: no room."""
    rows = _round(images, 8)
    pitch = rows + 4
    table = len(plan.late) * _dtype(compiled.sampling_step_fields).itemsize
    segments = _round(table, 16)
    messages = _round(segments + plan.late_segments * _dtype(compiled.sampling_segment_fields).itemsize, 16)
    resident = messages + _MESSAGES
    own = [-(-row["tiles"] // size) for row in plan.late]
    ring = _most(plan, size, lambda row: row["depth"] * 16 * pitch * 4)
    sums = max(own, default=0) * _SUMS * 16 * pitch * 4
    logits = -(-images // size) * plan.late[-1]["outs"] * 4
    pixels = rows * plan.buffer_bytes
    late = pixels + ring + sums + _round(logits, 16)
    positions = _PIXELS
    while positions < 256 and _early_bytes(2 * positions) <= max(late, _early_bytes(2 * _PIXELS)):
        positions *= 2
    needed = max(late, _early_bytes(positions) if plan.early else 0)
    resident_bytes = (room - resident - needed) // 16 * 16
    if resident_bytes < 0:
        return None
    resident_bytes = min(resident_bytes, _most(plan, size, lambda row: row["blocks"] * _TILE))
    at = resident + resident_bytes
    regions = (at, at + pixels, at + pixels + ring, at + pixels + ring + sums)
    return Layout(segments, messages, resident, resident_bytes, *regions, at, at + needed), positions


def _early_bytes(positions: int) -> int:
    return positions * (4 + _FETCHED * _RUN)


def _most(plan: Plan, size: int, of_tile: Callable[[dict[str, int]], int]) -> int:
    """The largest block's sum of what its tiles take."""
    total, turn = np.zeros(size, dtype=np.int64), 0
    for row in plan.late:
        each, more = divmod(row["tiles"], size)
        total += each * of_tile(row)
        for t in range(more):
            total[(turn + each * size + t) % size] += of_tile(row)
        turn += row["tiles"]
    return int(total.max(initial=0))


def _predicted(plan: Plan, size: int, images: int, resident: int) -> float:
    """Microseconds for one of the cluster's pixels, roughly: waits, products, weights that stream from L2."""
    waits = len(plan.late) * (0.3 if size == 1 else 0.45)
    units = sum(-(-row["tiles"] // size) * row["blocks"] for row in plan.late) * -(-images // 8)
    streamed = _most(plan, size, lambda row: row["blocks"] * _TILE) - resident
    early = sum(row["tiles"] * row["blocks"] for row in plan.early) * -(-images // 8) / size
    each = 0.004 * (3 if plan.program.like.dtype is torch.float32 else 1)
    return waits + units * each + max(0, streamed) / 40e3 + early * each / 2


# --- tables


@cache
def _fields(described: str) -> tuple[tuple[str, str], ...]:
    pairs = (name.split(":") for name in described.split())
    return tuple((name, f"<i{size}") for name, size in pairs)


@cache
def _dtype(described: str) -> np.dtype:
    return np.dtype(list(_fields(described)), align=True)


def _table(described: str, rows: list[dict[str, int]]) -> Tensor:
    """bytes of an array of structs; what a row does not name is 0."""
    table = np.zeros(max(1, len(rows)), dtype=_dtype(described))
    for i, row in enumerate(rows):
        table[i] = tuple(row.get(name, 0) for name, _ in _fields(described))
    return torch.from_numpy(table.view(np.uint8))
