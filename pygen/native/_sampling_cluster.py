"""Plans a sampling program for the kernel of csrc/cuda/sampling_cluster.cuh and launches it. Not yet run on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pygen.models._program import Conv, Gate, Program, Unsupported
from pygen.native._arguments import DTYPE_NAMES
from pygen.native._sampling_cluster_plan import TILE, Plan, make_plan, round_up, structure

THREADS = 256
MESSAGES = True
SIZES = (1, 2, 4, 8, 16)  # blocks a cluster
_MOST_IMAGES = 64  # a cluster
SUMS, FETCHED, PIXELS, _RUN = 4, 4, 64, 64  # kSums, kFetched, kWarpPixels, kBlockBytes
MESSAGE_BYTES = 32  # kMessageBytes


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


class Ready(NamedTuple):
    """A program's plan on a device, for so many images, but for the addresses of its tensors: kept between calls."""

    size: int  # blocks a cluster
    images: int  # of a cluster
    layout: Layout
    positions: int
    steps: np.ndarray
    segments: np.ndarray
    makers: tuple[tuple[int, int], ...]  # of each step, the stages of its convolution and of its gate, or -1
    counts: tuple[int, int, int]  # of early and late steps, of late segments
    weight_bytes: int
    image_bytes: int
    pixel: tuple[int, int, int, int, int]


_READY: dict[tuple, Ready] = {}
_MOST_READY = 64


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
    threads = threads or THREADS
    asked = (compiled, device, structure(program), n, width, size, images, threads)
    ready = _READY.get(asked)
    if ready is None:
        ready = make_ready(compiled, device, program, n, width, size, images, threads)
        if len(_READY) >= _MOST_READY:
            _READY.clear()
        _READY[asked] = ready
    like = program.like
    steps, kept = _with_addresses(ready, program)  # kept: until the launch
    tables = torch.from_numpy(np.concatenate([steps.view(np.uint8), ready.segments.view(np.uint8)])).to(like.device)
    weights = torch.empty(ready.weight_bytes, dtype=torch.uint8, device=like.device)
    memory = torch.empty(n * ready.image_bytes, dtype=torch.uint8, device=like.device)
    compiled.sampling_cluster_draw(
        DTYPE_NAMES[like.dtype],
        tuple(levels.shape),
        program.groups,
        draws,
        (ready.size, ready.images, threads, MESSAGES if messages is None else messages),
        (tables.data_ptr(), tables.data_ptr() + steps.nbytes, *ready.counts),
        (weights.data_ptr(), ready.weight_bytes),
        (memory.data_ptr(), ready.image_bytes),
        ready.pixel,
        ready.positions,
        tuple(ready.layout),
        device,
        stream,
    )
    del kept


def make_ready(
    compiled: Any, device: int, program: Program, n: int, width: int, size: int | None, images: int | None, threads: int
) -> Ready:
    """Raises Unsupported."""
    plan = make_plan(program, width)
    size, images, layout, positions = choose(compiled, device, plan, n, size, images, threads)
    pixel, pixel_pitch = plan.buffers[0]
    rows = round_up(images, 8)
    turn, late = 0, []
    for row in plan.late:
        placed = row | {"turn": -turn % size}
        for name in ("source", "out", "add"):
            placed[name] = layout.pixels + rows * row[name] if row[name] >= 0 else -1
        late.append(placed)
        turn += row["tiles"]
    names = [name for name, _ in _fields(compiled.sampling_segment_fields)]
    segments = [dict(zip(names, segment, strict=True)) for segment in plan.segments]
    return Ready(
        size,
        images,
        layout,
        positions,
        _table(compiled.sampling_step_fields, [*plan.early, *late]),
        _table(compiled.sampling_segment_fields, segments),
        tuple(plan.makers),
        (len(plan.early), len(late), plan.late_segments),
        plan.weight_bytes,
        plan.image_bytes,
        (*plan.pixel, layout.pixels + rows * pixel, pixel_pitch),
    )


def _with_addresses(ready: Ready, program: Program) -> tuple[np.ndarray, list[Tensor]]:
    """The steps as the kernel reads them, and tensors made for it."""
    steps, kept, stages = ready.steps.copy(), [], program.stages
    for step, (maker, behind) in zip(steps, ready.makers, strict=True):
        conv, gate = stages[maker], stages[behind]
        assert isinstance(conv, Conv)
        step["kernel"] = conv.weight.data_ptr()
        if conv.bias is not None:
            kept.append(conv.bias.contiguous())
            step["bias"] = kept[-1].data_ptr()
        if behind >= 0 and isinstance(gate, Gate) and gate.cond is not None:
            step["cond"] = gate.cond.data_ptr()
    return steps, kept


def choose(
    compiled: Any, device: int, plan: Plan, n: int, size: int | None, images: int | None, threads: int
) -> tuple[int, int, Layout, int]:
    """Blocks a cluster, its images, its shared memory, and how many pixels a block works on at once in early steps."""
    return choose_by(
        compiled, device, plan, n, (size, images, threads), compiled.sampling_clusters, lay_out, _predicted
    )


def choose_by(
    compiled: Any,
    device: int,
    plan: Any,
    n: int,
    asked: tuple[int | None, int | None, int],
    clusters: Callable[[int, str, int, int, int], int],
    lay_out: Callable[[Any, Any, int, int, int], tuple | None],
    predicted: Callable[[Any, int, int, int], float],
) -> Any:
    """Blocks a cluster, its images, and what lay_out makes of them: of what fits, what is predicted to take least time. Not
    yet measured on a GPU. asked: blocks, images, or None; threads."""
    size, images, threads = asked
    _, room = compiled.sampling_limits(device)
    dtype, best = DTYPE_NAMES[plan.program.like.dtype], None
    for blocks in SIZES if size is None else (size,):
        at_once = clusters(device, dtype, blocks, threads, room)
        if not at_once:
            continue
        together = min(_MOST_IMAGES, -(-n // at_once)) if images is None else images
        while (found := lay_out(compiled, plan, blocks, together, room)) is None and images is None and together > 1:
            together = -(-together // 2)
        if found is None:
            continue
        groups = -(-n // together)
        seconds = -(-groups // at_once) * predicted(plan, blocks, together, found[0].resident_bytes)
        if best is None or seconds < best[0]:
            best = (seconds, blocks, together, *found)
    if best is None:
        raise Unsupported("a program whose present pixel does not fit into shared memory")
    return best[1:]


def lay_out(compiled: Any, plan: Plan, size: int, images: int, room: int) -> tuple[Layout, int] | None:
    """None: no room."""
    rows = round_up(images, 8)
    pitch = rows + 4
    table = len(plan.late) * _dtype(compiled.sampling_step_fields).itemsize
    segments = round_up(table, 16)
    messages = round_up(segments + plan.late_segments * _dtype(compiled.sampling_segment_fields).itemsize, 16)
    resident = messages + MESSAGE_BYTES
    own = [-(-row["tiles"] // size) for row in plan.late]
    ring = _most(plan, size, lambda row: row["depth"] * 16 * pitch * 4)
    sums = max(own, default=0) * SUMS * 16 * pitch * 4
    logits = -(-images // size) * plan.late[-1]["outs"] * 4
    pixels = rows * plan.buffer_bytes
    late = pixels + ring + sums + round_up(logits, 16)
    needed, positions = early_positions(late, bool(plan.early))
    resident_bytes = (room - resident - needed) // 16 * 16
    if resident_bytes < 0:
        return None
    resident_bytes = min(resident_bytes, _most(plan, size, lambda row: row["blocks"] * TILE))
    at = resident + resident_bytes
    regions = (at, at + pixels, at + pixels + ring, at + pixels + ring + sums)
    return Layout(segments, messages, resident, resident_bytes, *regions, at, at + needed), positions


def early_positions(late: int, early: bool) -> tuple[int, int]:
    """Bytes that late steps or, one after the other, early ones need, and how many pixels the latter work on at once."""
    positions = PIXELS
    while positions < 256 and early_bytes(2 * positions) <= max(late, early_bytes(2 * PIXELS)):
        positions *= 2
    return max(late, early_bytes(positions) if early else 0), positions


def early_bytes(positions: int) -> int:
    """Of shared memory, for so many pixels of early steps."""
    return positions * (4 + FETCHED * _RUN)


def _most(plan: Plan, size: int, of_tile: Callable[[dict[str, int]], int]) -> int:
    return most_of_a_block(plan, size, list(map(of_tile, plan.late)))


def most_of_a_block(plan: Any, size: int, of_tile: list[int]) -> int:
    """The largest block's sum of what its tiles take, those of each late step so much."""
    total, turn = np.zeros(size, dtype=np.int64), 0
    for row, taken in zip(plan.late, of_tile, strict=True):
        each, more = divmod(row["tiles"], size)
        total += each * taken
        for t in range(more):
            total[(turn + each * size + t) % size] += taken
        turn += row["tiles"]
    return int(total.max(initial=0))


def _predicted(plan: Plan, size: int, images: int, resident: int) -> float:
    """Microseconds for one of the cluster's pixels, roughly: waits, products, weights that stream from L2."""
    waits = len(plan.late) * (0.3 if size == 1 else 0.45)
    units = sum(-(-row["tiles"] // size) * row["blocks"] for row in plan.late) * -(-images // 8)
    streamed = _most(plan, size, lambda row: row["blocks"] * TILE) - resident
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


def _table(described: str, rows: list[dict[str, Any]]) -> np.ndarray:
    """An array of structs; what a row does not name is 0."""
    table = np.zeros(max(1, len(rows)), dtype=_dtype(described))
    for i, row in enumerate(rows):
        table[i] = tuple(row.get(name, 0) for name, _ in _fields(described))
    return table
