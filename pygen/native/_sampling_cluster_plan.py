"""Plans a sampling program for the kernel of csrc/cuda/sampling_cluster.cuh: its steps, and where streams and weights lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pygen.models._program import Conv, Gate, Program, Unsupported

MOST_WIDTH = (1 << 15) - 1  # sampling_early.cuh counts columns in 16 bits
_RUN, TILE = 64, 1024  # bytes: of input channels; of 16 rows of them
_PUSH_AFTER, _PUSH_NEXT = 1, 2
SENT = 8  # kChannelsSent


class Step(NamedTuple):
    """A convolution that makes stream `conv_out` and, in the same breath, its gate."""

    conv: Conv
    conv_out: int
    gate: Gate | None
    out: int


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
    makers: list[tuple[int, int]] = field(default_factory=list)  # of each step, its convolution's and its gate's stage


def structure(program: Program) -> tuple:
    """All that a plan depends on, but for the width: nothing of what the tensors hold, nor where."""

    def of(stage: Conv | Gate) -> tuple:
        if isinstance(stage, Gate):
            cond = None if stage.cond is None else (stage.cond.shape, stage.cond.stride())
            return stage.source, stage.groups, cond
        form = (stage.weight.shape, stage.weight.stride(), stage.bias is None)
        return stage.source, stage.taps, form, stage.relu, stage.add, stage.strict

    shared = (program.channels, program.early, program.groups, program.in_channels, program.num_levels)
    return program.like.dtype, shared, tuple(map(of, program.plain_stages()))


def make_plan(program: Program, width: int) -> Plan:
    """Of all but the addresses. Raises Unsupported."""
    if width > MOST_WIDTH:
        raise Unsupported(f"images wider than {MOST_WIDTH} pixels")
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
    plan.makers = [(step.conv_out - 1, step.out - 1 if step.gate else -1) for step in early + late * program.groups]
    for row in (*plan.early, *plan.late):
        row["weight"] = plan.weight_bytes
        plan.weight_bytes += row["tiles"] * row["blocks"] * TILE
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
        if step is late[-1] and any(tap != (0, 0) for tap in conv.taps):
            raise Unsupported("logits that read other pixels")  # nothing may be pushed while they are under way
        if step.gate is not None and readers[step.conv_out] > 1:
            raise Unsupported("a late stream that a gate reads, and another stage")


def _filled(program: Program, s: int) -> int:
    """Channels of a late stream's colour group, as they lie in shared memory."""
    return round_up(program.channels[s] // program.groups, SENT)


def round_up(size: int, to: int) -> int:
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
        rows, pitch = back[s] + 1, round_up(program.channels[s] * size, 16)
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
        pitch = round_up(_filled(program, s) * program.groups * size, _RUN)
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
    row = {"relu": int(conv.relu), "gate": int(gate is not None)}
    row |= dict(zip(("kernel_tap", "kernel_out", "kernel_in"), conv.weight.stride(), strict=True))
    if gate is not None and gate.cond is not None:
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
