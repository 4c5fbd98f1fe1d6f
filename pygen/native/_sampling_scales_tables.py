"""The tables that the kernel of csrc/cuda/sampling_scales.cuh reads, and where it has a pixel's streams in shared memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pygen.models._program import MultiScaleProgram, Unsupported, Up
from pygen.native._sampling_cluster_plan import round_up
from pygen.native._sampling_scales_streams import Streams

Row = dict[str, int]


class Maker(NamedTuple):
    """Where a table's row finds its tensors: the stages of its convolution and of its gate, or -1; of an Up which phase."""

    conv: int
    gate: int = -1
    phase: int = -1


@dataclass
class Plan:
    """The tables of a program, whatever cluster will run it. late: in the order of a pixel that has them all."""

    program: MultiScaleProgram
    width: int
    streams: Streams
    early: list[Row] = field(default_factory=list)
    late: list[Row] = field(default_factory=list)
    pushes: list[Row] = field(default_factory=list)
    matrices: list[Row] = field(default_factory=list)
    segments: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    step_makers: list[Maker] = field(default_factory=list)  # of the early steps, then of the late ones
    matrix_makers: list[Maker] = field(default_factory=list)
    order: list[list[list[int]]] = field(default_factory=list)  # of a row's and a column's zero bits
    image_bytes: int = 0
    weight_bytes: int = 0
    pixel: tuple[int, int, int] = (-1, 1, 0)  # at, rows, pitch
    buffers: dict[int, tuple[int, int]] = field(default_factory=dict)  # late stream -> (offset an image, pitch)
    buffer_bytes: int = 0  # an image's

    def place_buffers(self) -> None:
        """Places of the present pixel's streams in shared memory, an image's bytes apart: streams share one unless some pixel
        needs both at once."""
        made = {row["out"] for row in self.late if row["out"] >= 0}
        # The drawn pixel is there for the next one, and so is what several pixels of a finer stream are made of.
        kept = {0} | {stage.source for stage in self.program.stages if isinstance(stage, Up)} & made
        beside: dict[int, set[int]] = {s: set(kept) for s in made} | {s: made | kept for s in kept}
        for of_row in self.order:
            for here in of_row:
                spans = self._spans(here)
                for s, (start, stop) in spans.items():
                    beside[s] |= {t for t, (begin, end) in spans.items() if start <= end and begin <= stop}
        for s in sorted(beside, key=lambda s: (-self.streams.pitch(s), s)):
            pitch = round_up(self.streams.pitch(s) * self.program.like.element_size(), 64)
            pitch += 64 if pitch % 128 == 0 else 0  # two rows side by side in the banks
            at = 0
            for other, width in sorted(self.buffers[t] for t in beside[s] if t in self.buffers):
                if at + pitch <= other:
                    break
                at = max(at, other + width)
            self.buffers[s] = (at, pitch)
            self.buffer_bytes = max(self.buffer_bytes, at + pitch)

    def _spans(self, here: list[int]) -> dict[int, tuple[int, int]]:
        """From when to when a pixel with these steps needs the streams that it makes. A place is free when the last step that
        reads it is over; pushes read it while the next step is waited for, and until the one after it."""
        spans: dict[int, tuple[int, int]] = {}
        for i, t in enumerate(here):
            row = self.late[t]
            for s in (row["source"], row["add"]):
                if s in spans:
                    spans[s] = (spans[s][0], max(spans[s][1], i))
            if row["out"] >= 0:
                spans[row["out"]] = (i, i + 2 if row["num_pushes"] else i)
            if row["num_pushes"]:
                self._in_time(t, *here[i + 1 : i + 3])
        return spans

    def _in_time(self, maker: int, pushed: int, following: int = -1) -> None:
        """Pushes to the same pixel are made while step `pushed` is waited for: their targets come behind it. The one that
        follows has to wait for them."""
        row = self.late[maker]
        for push in self.pushes[row["pushes"] : row["pushes"] + row["num_pushes"]]:
            if push["right"] == 0 and push["target"] <= pushed:
                raise Unsupported("a push to the very next step")
            if push["right"] == 0 and push["target"] == following:
                self.late[following]["fresh"] = 1
