"""The last calls of a pixel in the engine "cached": from logits to levels, and back into the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from ._levels import scale_levels
from ._mixture import Mixture
from ._program import MultiScaleProgram, Program, scaled_levels
from ._rows import Row
from ._sampling import Drawing, binary_thresholds, decide


def decision_of(program: Program, drawing: Drawing, image: Row, last: Row) -> Decision | MixtureDecision:
    """last: the last stream."""
    if isinstance(program, MultiScaleProgram):
        return MixtureDecision(program, drawing, image, last)
    return Decision(program, drawing, image, last)


class Decision:
    """Of one row at a time, in buffers [n, C, W] that never move. Two levels need one comparison with a ready threshold."""

    def __init__(self, program: Program, drawing: Drawing, image: Row, logits: Row) -> None:
        self.drawing, self.image, self.logits = drawing, image, logits
        self.num_levels, self.group = program.num_levels, program.in_channels // program.groups
        dtype = program.like.dtype
        self.binary = self.num_levels == 2 and dtype in (torch.float32, torch.float64)
        row = drawing.levels[:, :, 0]
        kind = torch.bool if self.binary else torch.int64
        self.levels, self.known = torch.empty_like(row, dtype=kind), torch.empty_like(row, dtype=kind)
        self.known_mask = torch.empty_like(row, dtype=torch.bool)
        self.noise = torch.empty_like(row, dtype=dtype if self.binary else torch.float32)
        self.scaled = scaled_levels(program)

    def begin_row(self, y: int) -> None:
        u = self.drawing.u[:, :, y]
        self.noise.copy_(binary_thresholds(u, self.drawing.temperature) if self.binary else u)
        if self.drawing.known is not None and self.drawing.known_mask is not None:
            self.known.copy_(self.drawing.known[:, :, y])
            self.known_mask.copy_(self.drawing.known_mask[:, :, y])

    def end_row(self, y: int) -> None:
        self.drawing.levels[:, :, y] = self.levels

    def calls(self, x: int, g: int) -> Iterator[Callable[[], object]]:
        channels = slice(g * self.group, (g + 1) * self.group)
        outputs = slice(channels.start * self.num_levels, channels.stop * self.num_levels)
        logits = self.logits.pixel(x, outputs).unflatten(1, (self.group, self.num_levels))  # [n, c, L]
        levels, noise, known, mask = (t[:, channels, x] for t in (self.levels, self.noise, self.known, self.known_mask))
        out = self.image.pixel(x, channels)
        if self.binary:
            difference = torch.empty_like(noise)
            yield partial(torch.sub, logits[..., 0], logits[..., 1], out=difference)
            yield partial(torch.lt, difference, noise, out=levels)
        else:
            yield lambda: levels.copy_(decide(logits, noise, self.drawing.temperature))
        if self.drawing.known is not None:
            yield partial(torch.where, mask, known, levels, out=levels)
        if self.binary:
            yield partial(torch.where, levels, self.scaled[1], self.scaled[0], out=out)
        else:
            yield lambda: out.copy_(self.scaled[levels])


class MixtureDecision:
    """Of pixels that end in a mixture's parameters: channel after channel, straight into the drawing."""

    def __init__(self, program: MultiScaleProgram, drawing: Drawing, image: Row, params: Row) -> None:
        self.program, self.drawing, self.image, self.params = program, drawing, image, params
        self.y = 0
        image.pixels[:, :, program.in_channels :] = 1  # on the zeros around the image nobody writes

    def begin_row(self, y: int) -> None:
        self.y = y

    def end_row(self, y: int) -> None:
        pass

    def calls(self, x: int, g: int) -> Iterator[Callable[[], object]]:
        yield partial(self._draw, x)

    def _draw(self, x: int) -> None:
        program, levels = self.program, self.drawing.levels[:, :, self.y, x]
        params = self.params.pixel(x, slice(None))
        for c in range(program.in_channels):
            given = levels, program.num_levels, program.min_log_scale, self.drawing.temperature
            self.drawing.put((slice(None), c, self.y, x), Mixture.of(params, *given)[:, c])
        scaled = scale_levels(levels, program.num_levels, program.like.dtype, program.input_range)
        self.image.pixel(x, slice(0, program.in_channels)).copy_(scaled)
