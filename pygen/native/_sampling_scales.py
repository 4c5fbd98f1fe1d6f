"""Plans a program of several resolutions for the kernel of csrc/cuda/sampling_scales.cuh and launches it.

Not yet run on a GPU.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pygen.models._program import Conv, Elu, Gate, MultiScaleProgram, Stage, Up
from pygen.native import _sampling_cluster as cluster
from pygen.native import _sampling_scales_early as early
from pygen.native._arguments import DTYPE_NAMES
from pygen.native._sampling_cluster import MESSAGES, THREADS, Layout
from pygen.native._sampling_cluster_plan import TILE, round_up
from pygen.native._sampling_scales_plan import make_plan
from pygen.native._sampling_scales_tables import Maker, Plan

STAGED = True
_STAGED_TILES = 10  # for which there should be a place


class Room(NamedTuple):
    """A block's shared memory."""

    layout: Layout
    pushes: int
    order: int
    resident_bytes: int


class Ready(NamedTuple):
    """A program's plan on a device, for so many images, but for the addresses of its tensors: kept between calls."""

    size: int  # blocks a cluster
    images: int  # of a cluster
    room: Room
    positions: int
    tables: tuple[
        np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray
    ]  # matrices, steps, pushes, segments, order
    makers: tuple[tuple[Maker, ...], tuple[Maker, ...]]  # of matrices, of steps
    plan: Plan
    pixel: tuple[int, int, int, int, int]


_READY: dict[tuple, Ready] = {}
_MOST_READY = 16


def draw(
    compiled: Any,
    device: int,
    stream: int,
    program: MultiScaleProgram,
    levels: Tensor,  # [n, C, H, W]
    draws: tuple,
    *,
    size: int | None = None,
    images: int | None = None,
    threads: int | None = None,
    messages: bool | None = None,
    staged: bool | None = None,
) -> None:
    """Draws all images in one launch, as `_sampling_cluster.draw`. staged: early steps' weights go by way of shared memory
    where there is room (by default STAGED); otherwise each warp reads its own."""
    n, _, _, width = levels.shape
    threads = threads or THREADS
    staged = STAGED if staged is None else staged
    asked = (compiled, device, structure(program), n, width, size, images, threads, staged)
    ready = _READY.get(asked)
    if ready is None:
        ready = make_ready(compiled, device, program, n, width, (size, images, threads), staged)
        if len(_READY) >= _MOST_READY:
            _READY.clear()
        _READY[asked] = ready
    like, plan = program.like, ready.plan
    matrices, steps, kept = _with_addresses(ready, program)  # kept: until the launch
    tables = [matrices, steps, *ready.tables[2:]]
    starts = np.cumsum([0, *(round_up(table.nbytes, 16) for table in tables)])
    packed = np.zeros(starts[-1], dtype=np.uint8)
    for start, table in zip(starts, tables, strict=False):
        packed[start : start + table.nbytes] = table.view(np.uint8).ravel()
    on_device = torch.from_numpy(packed).to(like.device)
    at = [on_device.data_ptr() + int(start) for start in starts]
    weights = torch.empty(plan.weight_bytes, dtype=torch.uint8, device=like.device)
    memory = torch.empty(n * plan.image_bytes, dtype=torch.uint8, device=like.device)
    order = ready.tables[4]
    compiled.sampling_scales_draw(
        DTYPE_NAMES[like.dtype],
        tuple(levels.shape),
        draws,
        (ready.size, ready.images, threads, MESSAGES if messages is None else messages),
        (at[0], len(plan.matrices)),
        (at[1], len(plan.early), len(plan.late)),
        at[3],
        (at[2], len(plan.pushes), ready.room.pushes),
        (at[4], order.shape[0], order.shape[2], ready.room.order),
        (program.num_mixtures, program.min_log_scale),
        (weights.data_ptr(), plan.weight_bytes),
        (memory.data_ptr(), plan.image_bytes),
        ready.pixel,
        ready.positions,
        tuple(ready.room.layout),
        device,
        stream,
    )
    del kept


def structure(program: MultiScaleProgram) -> tuple:
    """All that a plan depends on, but for the width: nothing of what the tensors hold, nor where."""

    def of(stage: Stage) -> tuple:
        if isinstance(stage, Conv):
            form = (stage.weight.shape, stage.weight.stride(), stage.bias is None)
            return stage.source, stage.taps, form, stage.relu, stage.add, stage.strict
        if isinstance(stage, Gate):
            cond = None if stage.cond is None else (stage.cond.shape, stage.cond.stride())
            return stage.source, stage.groups, cond, stage.linear, stage.add
        if isinstance(stage, Up):
            phases = tuple((taps, weight.shape, weight.stride()) for taps, weight in stage.phases)
            return stage.source, phases, stage.bias is None
        assert isinstance(stage, Elu)
        return stage.source, stage.concat

    shared = (program.channels, program.early, program.strides, program.groups, program.in_channels)
    return program.like.dtype, shared, program.num_mixtures, tuple(map(of, program.stages))


def make_ready(
    compiled: Any,
    device: int,
    program: MultiScaleProgram,
    n: int,
    width: int,
    asked: tuple[int | None, int | None, int],
    staged: bool = STAGED,
) -> Ready:
    """Raises Unsupported. asked: blocks a cluster, its images, or None; threads."""
    plan = make_plan(program, width)
    of_shared = partial(lay_out, staged=staged)
    size, images, room, positions = cluster.choose_by(
        compiled, device, plan, n, asked, compiled.sampling_scales_clusters, of_shared, _predicted
    )
    rows, turn = round_up(images, 8), 0
    late: list[dict[str, Any]] = []

    def place(s: int) -> tuple[int, int]:
        offset, pitch = plan.buffers[s]
        return room.layout.pixels + rows * offset, pitch

    for row in plan.late:
        placed = row | {"turn": -turn % size}
        for name, pitch in (("source", "pitch"), ("out", "out_pixel_pitch"), ("add", "add_pixel_pitch")):
            if row[name] >= 0:
                placed[name], placed[pitch] = place(row[name])
        placed["source"] += row.get("source_part", 0)
        if row["add"] >= 0:
            placed["add"] += plan.streams.given(row["add"])[0] * program.like.element_size()
        late.append(placed)
        turn += row["tiles"]
    pushes: list[dict[str, Any]] = []
    for push in plan.pushes:
        source, pitch = place(push["source"])
        pushes.append(push | {"source": source + push["source_part"], "pitch": pitch})

    def shared_out(row: dict[str, int]) -> dict[str, int]:
        behind = room.layout.bytes - room.layout.early - cluster.early_bytes(positions) if staged else 0
        step = early.of_row(row, program.like.element_size())
        return early.share(step, size, images, asked[2] // 32, positions, behind)

    names = [name for name, _ in cluster._fields(compiled.sampling_segment_fields)]
    segments = [dict(zip(names, segment, strict=True)) for segment in plan.segments]
    matrix_fields, step_fields, push_fields = compiled.scales_fields
    return Ready(
        size,
        images,
        room,
        positions,
        (
            cluster._table(matrix_fields, plan.matrices),
            cluster._table(
                step_fields,
                [*(row | shared_out(row) for row in plan.early), *late],
            ),
            cluster._table(push_fields, pushes),
            cluster._table(compiled.sampling_segment_fields, segments),
            _order(plan),
        ),
        (tuple(plan.matrix_makers), tuple(plan.step_makers)),
        plan,
        (*plan.pixel, *place(0)),
    )


def _order(plan: Plan) -> np.ndarray:
    """[scales, scales, steps + 1, filled up to whole words], ended by -1."""
    longest = max(len(here) for of_row in plan.order for here in of_row)
    table = np.full((len(plan.order), len(plan.order), round_up(longest + 1, 2)), -1, dtype=np.int16)
    for y, of_row in enumerate(plan.order):
        for x, here in enumerate(of_row):
            table[y, x, : len(here)] = here
    return table


def _with_addresses(ready: Ready, program: MultiScaleProgram) -> tuple[np.ndarray, np.ndarray, list[Tensor]]:
    """Matrices and steps as the kernel reads them, and tensors made for it."""
    matrices, steps, kept, stages = ready.tables[0].copy(), ready.tables[1].copy(), [], program.stages
    for matrix, maker in zip(matrices, ready.makers[0], strict=True):
        stage = stages[maker.conv]
        weight = stage.phases[maker.phase][1] if isinstance(stage, Up) else stage.weight  # type: ignore[union-attr]
        matrix["kernel"] = weight.data_ptr()
    for step, maker in zip(steps, ready.makers[1], strict=True):
        stage, gate = stages[maker.conv], stages[maker.gate]
        if maker.conv >= 0 and isinstance(stage, Conv | Up) and stage.bias is not None:
            kept.append(stage.bias.contiguous())
            step["bias"] = kept[-1].data_ptr()
        if maker.gate >= 0 and isinstance(gate, Gate) and gate.cond is not None:
            step["cond"] = gate.cond.data_ptr()
    return matrices, steps, kept


def lay_out(
    compiled: Any, plan: Plan, size: int, images: int, room: int, staged: bool = False
) -> tuple[Room, int] | None:
    """None: no room. staged: a place for early steps' weights, if that leaves enough for late ones."""
    _, step_fields, push_fields = compiled.scales_fields
    rows = round_up(images, 8)
    pushes = round_up(len(plan.late) * cluster._dtype(step_fields).itemsize, 16)
    order = round_up(pushes + len(plan.pushes) * cluster._dtype(push_fields).itemsize, 16)
    messages = round_up(order + _order(plan).nbytes, 16)
    resident = messages + cluster.MESSAGE_BYTES
    own = max(-(-row["tiles"] // size) for row in plan.late)
    sums = own * cluster.SUMS * 16 * (rows + 4) * 4
    logits = round_up(-(-images // size) * plan.late[-1]["outs"] * 4, 16)
    pixels = rows * plan.buffer_bytes
    needed, positions = cluster.early_positions(pixels + sums + logits, bool(plan.early))
    if staged and plan.early:
        tiles = min(_STAGED_TILES, max(row["tiles"] for row in plan.early))
        more = max(needed, cluster.early_bytes(positions) + early.staged_bytes(positions, tiles))
        needed = more if resident + more <= room else needed
    resident_bytes = (room - resident - needed) // 16 * 16
    if resident_bytes < 0:
        return None
    resident_bytes = min(resident_bytes, cluster.most_of_a_block(plan, size, _weights(plan)))
    at = resident + resident_bytes
    layout = Layout(
        0, messages, resident, resident_bytes, at, at + pixels, at + pixels, at + pixels + sums, at, at + needed
    )
    return Room(layout, pushes, order, resident_bytes), positions


def _weights(plan: Plan) -> list[int]:
    """Of each late step, the bytes of a tile's weights, and of those that push to it."""
    blocks = [row["blocks"] for row in plan.late]
    for push in plan.pushes:
        blocks[push["target"]] += push["blocks"]
    return [count * TILE for count in blocks]


def _often(plan: Plan) -> list[float]:
    """At which share of the pixels each late step is made."""
    last, often = len(plan.order) - 1, [0.0] * len(plan.late)
    share = [0.5 ** min(zeros + 1, last) for zeros in range(last + 1)]  # of rows, and of columns
    for y, of_row in enumerate(plan.order):
        for x, here in enumerate(of_row):
            for step in here:
                often[step] += share[y] * share[x]
    return often


def _predicted(plan: Plan, size: int, images: int, resident: int) -> float:
    """Microseconds for one of the cluster's pixels, roughly: waits, products, weights that stream from L2."""
    often = _often(plan)
    weights = _weights(plan)
    waits = (sum(often) + 3) * (0.3 if size == 1 else 0.45)
    tiles = [often[t] * -(-row["tiles"] // size) for t, row in enumerate(plan.late)]
    read = sum(count * each for count, each in zip(tiles, weights, strict=True))
    early = sum(row["tiles"] * row["blocks"] * 0.25 ** row["log2"] for row in plan.early) * -(-images // 8) / size
    each = 0.004 * (3 if plan.program.like.dtype is torch.float32 else 1)
    return waits + read / TILE * -(-images // 8) * each + max(0.0, read - resident) / 40e3 + early * each / 2
