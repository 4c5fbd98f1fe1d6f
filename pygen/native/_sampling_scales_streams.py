"""What a network of several resolutions keeps of each stream for the sampler of csrc/cuda/sampling_scales.cuh: in which forms,
how many rows, and what is only added to something else, a base."""

from __future__ import annotations

from collections import Counter

from pygen.models._program import Conv, Elu, Gate, MultiScaleProgram, Unsupported, Up
from pygen.native._sampling_cluster_plan import SENT, round_up

PLUS, MINUS, RAW = 1, 2, 4  # kPlus, kMinus, kRaw


class Streams:
    """Streams that Elu makes are forms of their sources; counts are of channels.

    gates: the stream of a convolution -> the gate that reads it, and what that makes.  forms: of each stream that is kept, bits.
    sums: streams that one convolution adds, and nobody else reads.  bases: streams of convolutions whose sums begin with a base.
    rows: of each stream in an image's memory, how many are kept.
    """

    def __init__(self, program: MultiScaleProgram) -> None:
        self.program = program
        self.elus = {s: stage for s, stage in enumerate(program.stages, start=1) if isinstance(stage, Elu)}
        self.gates: dict[int, tuple[Gate, int]] = {}
        self.adders: dict[int, int] = {}  # a stream that is added -> that of the convolution which does it
        readers = Counter(s for stage in program.stages for s in (stage.source, getattr(stage, "add", None)))
        for s, stage in enumerate(program.stages, start=1):
            if isinstance(stage, Gate):
                if (
                    not isinstance(program.stages[stage.source - 1], Conv)
                    or readers[stage.source] > 1
                    or not stage.source
                ):
                    raise Unsupported("a gate of something else than a convolution, or not alone")
                if not stage.linear or program.early[s] != program.early[stage.source]:
                    raise Unsupported("a gate of another form")
                self.gates[stage.source] = (stage, s)
            if isinstance(stage, Conv) and stage.add is not None:
                if readers[stage.add] > 1 or not stage.add or not isinstance(program.stages[stage.add - 1], Conv):
                    raise Unsupported("a convolution that adds what others read too, or no convolution's")
                self.adders[stage.add] = s
        self.sums = set(self.adders)
        self.forms: dict[int, int] = {0: RAW}
        self.rows: dict[int, int] = {0: 1}
        self.bases: set[int] = set()
        self._read()
        self._check()

    def _read(self) -> None:
        program = self.program
        for s, stage in enumerate(program.stages, start=1):
            if isinstance(stage, Elu):
                if stage.source in self.elus or stage.source == 0:
                    raise Unsupported("an ELU of an ELU, or of the image")
                self._keep(stage.source, PLUS | MINUS if stage.concat else PLUS)
            elif isinstance(stage, Conv | Up) and stage.source not in self.elus:
                self._keep(stage.source, RAW)
            taps = stage.taps if isinstance(stage, Conv) else ((0, 0),)
            early = program.early[s] or isinstance(stage, Up)
            if isinstance(stage, Conv | Up) and early and taps:
                self._row(self.read(stage.source)[0], -min(dy for dy, _ in taps))
            if isinstance(stage, Conv) and stage.add is not None:
                self.bases.add(self.goal(s))
            if isinstance(stage, Up) and not program.early[s]:
                self.bases.add(s)
        for s, stage in enumerate(program.stages, start=1):
            if isinstance(stage, Gate) and stage.add is not None:
                if self.forms.get(stage.add, 0) & (PLUS | MINUS) != PLUS | MINUS:
                    self._keep(stage.add, RAW)
                if program.early[s]:
                    self._row(stage.add, 0)

    def _keep(self, s: int, forms: int) -> None:
        self.forms[s] = self.forms.get(s, 0) | forms

    def _row(self, s: int, back: int) -> None:
        self.rows[s] = max(self.rows.get(s, 1), back + 1)

    def _check(self) -> None:
        program, last = self.program, len(self.program.stages)
        if program.groups != 1 or program.channels[0] > SENT:
            raise Unsupported("colour groups, or more channels than are sent at once")
        for s, stage in enumerate(program.stages, start=1):
            if s in self.sums and (s in self.forms or s in self.gates):
                raise Unsupported("a sum that is read otherwise too")
            if isinstance(stage, Gate) and stage.add is not None:
                self._check_residual(s, stage.add)
            if isinstance(stage, Conv):
                self._check_conv(s, stage)
            if isinstance(stage, Up) and not program.early[s]:
                self._check_up(stage)
        stage = program.stages[-1]
        if not isinstance(stage, Conv) or program.early[last] or last in self.sums or stage.taps != ((0, 0),):
            raise Unsupported("parameters that read other pixels")

    def _check_residual(self, s: int, add: int) -> None:
        if add in self.elus or add in self.sums or self.program.early[add] != self.program.early[s]:
            raise Unsupported("a residual of another kind")

    def _check_up(self, stage: Up) -> None:
        if self.program.early[stage.source] or any(taps != ((0, 0),) for taps, _ in stage.phases):
            raise Unsupported("pixels to the right of a late stream")

    def _check_conv(self, s: int, stage: Conv) -> None:
        program = self.program
        if stage.relu or stage.strict or stage.source in self.sums:
            raise Unsupported("a convolution behind a ReLU, of colour groups, or of a sum")
        if program.early[s]:
            if s not in self.sums and s not in self.gates and s not in self.forms:
                raise Unsupported("a stream that nobody reads")
            return
        if program.early[self.read(stage.source)[0]] or any(dy != 0 or dx > 0 for dy, dx in stage.taps):
            raise Unsupported("a late convolution of an early stream or of other rows")
        if stage.source == 0 and stage.taps != ((0, -1),):
            raise Unsupported("a late convolution of other pixels of the image than the last one")
        if s in self.sums and (stage.taps != ((0, 0),) or stage.bias is not None or stage.add is None):
            raise Unsupported("a late sum that is more than a product of its own pixel")
        beside = any(tap != (0, 0) for tap in stage.taps) and stage.source != 0
        if beside and stage.add is None:
            raise Unsupported("a late convolution of pixels to the left without a base")

    # Of streams

    def read(self, source: int) -> tuple[int, int, int]:
        """What a convolution of that source reads: (stream, channels of the forms, filled up, channels of one)."""
        stage = self.elus.get(source)
        stream = source if stage is None else stage.source
        group = self.program.channels[stream]
        return stream, self.form(stream) * (2 if stage is not None and stage.concat else 1), group

    def offset(self, source: int) -> int:
        """Where in the stream's pixel the forms that `read` tells of begin."""
        if source in self.elus:
            return 0
        return self.form(source) * (self.forms[source] & (PLUS | MINUS)).bit_count()

    def given(self, s: int) -> tuple[int, int]:
        """Where a residual is read: its place in a pixel, and how far behind it elu(-x) lies; 0: it is x itself."""
        if self.forms[s] & (PLUS | MINUS) == PLUS | MINUS:
            return 0, self.form(s)
        return self.offset(s), 0

    def form(self, s: int) -> int:
        return round_up(self.program.channels[s], SENT)

    def pitch(self, s: int) -> int:
        return self.form(s) * self.forms[s].bit_count()

    def goal(self, s: int) -> int:
        """The convolution whose base a sum begins; any other stream itself."""
        while s in self.adders:
            s = self.adders[s]
        return s

    def sides(self, s: int) -> list[int]:
        """Late sums that convolution s adds."""
        found, stage = [], self.program.stages[s - 1]
        while isinstance(stage, Conv) and stage.add is not None and not self.program.early[stage.add]:
            found.append(stage.add)
            stage = self.program.stages[stage.add - 1]
        return found
