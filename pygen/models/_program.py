"""A pixel model's sampling program: what has to be computed per row and per pixel, stated once for every engine.

A program is a list of stages. Stage s makes stream s + 1, a map [n, channels, H, W], out of earlier streams; stream 0 is the
scaled image; the last stream holds the levels' logits, channel after channel, or a mixture's parameters. A stream is *early* if
row y of it depends on the pixels of rows before y alone: an engine makes it a row at a time, before the row's first pixel. The
others are *late*: at each pixel, colour group after colour group. The channels of a late stream are `groups` contiguous blocks,
and block g of a pixel depends on blocks 0 .. g of it at most. A late stage reads its sources in the present row only, at and left
of the pixel: `_builder` splits a convolution into what it takes from rows above, an early stage, and the rest.

A stage reads streams that come before its own. Only an `Lstm` closes a circle: in a `RecurrentProgram` an early convolution reads
its h, a stream that comes later, in the rows above.

Streams of stride t have a pixel for every t-th row and column of the image alone: pixel (y, x) of theirs is made with the
image's (t y, t x), and stands for it. A program with such streams is a `MultiScaleProgram`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._levels import InputRange, scale_levels

Tap = tuple[int, int]  # (dy, dx): reads source[y + dy, x + dx], zero outside the image


class Unsupported(Exception):
    """A program that an engine, whose models it knows, does not run after all: it is too large, or of an unknown form."""


@dataclass(frozen=True)
class Conv:
    """bias + sum over taps t of weight[t] @ (relu of) source[y + dy, x + dx], plus the stream `add` at the same place.

    Where the source's stride is half of this stream's, it reads source[2 y + dy, 2 x + dx].
    """

    source: int
    taps: tuple[Tap, ...]
    weight: Tensor  # [T, Cout, Cin], any strides: mostly a view of the parameter; dead entries are exactly zero
    bias: Tensor | None  # [Cout]
    relu: bool = False
    add: int | None = None
    strict: bool = False  # with groups: at tap (0, 0) block g reads blocks before g, not itself


@dataclass(frozen=True)
class Gate:
    """tanh(a) * sigmoid(b), the two halves of each of `groups` blocks of the source, after `cond` was added.

    linear: a * sigmoid(b), plus the stream `add` at the same place.
    """

    source: int
    groups: int
    cond: Tensor | None  # [n, C, 1, 1] or [n, C, H, W] of the stream's pixels
    linear: bool = False
    add: int | None = None


@dataclass(frozen=True)
class Elu:
    """elu(source); if `concat` elu(-source) behind its channels."""

    source: int
    concat: bool


@dataclass(frozen=True)
class Up:
    """From a source of twice the stride: bias + sum over taps t of weight[t] @ source[y // 2 + dy, x // 2 + dx].

    phases: taps and weight [T, Cout, Cin] of pixels with (y % 2, x % 2) = (0, 0), (0, 1), (1, 0), (1, 1).
    """

    source: int
    phases: tuple[tuple[tuple[Tap, ...], Tensor], ...]
    bias: Tensor | None


@dataclass(frozen=True)
class Lstm:
    """h of PixelRNN's LSTM, H channels, from the source's 4 H sums; both are `groups` blocks, the sums' of gates o, f, i, g.

    o, f, i = sigmoid, g = tanh of the sums, c = f c[before] + i g, h = o tanh(c); c is the stage's own, 0 outside of the image.
    """

    source: int
    groups: int
    before: Tap  # (-1, 0), (0, -1) or, in an early stream, (0, 1): then a row is made from its last pixel to its first
    weight: (
        Tensor | None
    )  # [4 H, H], where `before` is in the same row: the sums are the source plus weight @ h[before]
    first_row: int = 0  # in an early stream: h and c of the rows before it are 0


@dataclass(frozen=True)
class Sum:
    """The source plus the stream `add`."""

    source: int
    add: int


Stage = Conv | Gate | Elu | Up | Lstm | Sum


@dataclass(frozen=True)
class Program:
    """What the engines run.

    channels, early, strides: of each stream.  groups: colour groups.  in_channels: of the image.  num_levels: L.  input_range: of
    the scaled image.
    """

    stages: tuple[Stage, ...]
    channels: tuple[int, ...]
    early: tuple[bool, ...]
    strides: tuple[int, ...]  # powers of two
    groups: int
    in_channels: int
    num_levels: int
    input_range: InputRange

    @property
    def like(self) -> Tensor:
        """Of the weights' dtype and device."""
        return next(stage.weight for stage in self.stages if isinstance(stage, Conv))

    def plain_stages(self) -> tuple[Conv | Gate, ...]:
        """Of an engine that knows no others. Raises Unsupported."""
        plain = tuple(stage for stage in self.stages if isinstance(stage, Conv | Gate))
        if len(plain) < len(self.stages) or any(isinstance(stage, Gate) and stage.linear for stage in plain):
            raise Unsupported("stages that it does not know")
        return plain

    def rows_back(self) -> tuple[int, ...]:
        """Of each stream, how many of its rows before the present one are still read: the depth of an engine's ring of rows."""
        back = [0] * len(self.channels)
        for stage in self.stages:
            if isinstance(stage, Conv) and stage.taps:
                back[stage.source] = max(back[stage.source], -min(dy for dy, _ in stage.taps))
        return tuple(back)


@dataclass(frozen=True)
class RecurrentProgram(Program):
    """Of a network with `Lstm` stages. Strides are 1."""


@dataclass(frozen=True)
class MultiScaleProgram(Program):
    """Of a network that looks at the image in several resolutions and ends in a mixture of logistics (`_mixture`).

    num_mixtures: K.  min_log_scale: the floor of log-scales.

    Stream 0 has one channel more than the image: ones, which tell the image from the zeros around it. Colour groups are 1: the
    last stream knows the pixels before alone, and the mixture brings in the channels that were drawn before in the same pixel.
    """

    num_mixtures: int
    min_log_scale: float


@dataclass(frozen=True)
class DenseProgram:
    """MADE's: ReLU layers over flat inputs, of which each unit sees those of a degree up to its own, and each output below it.

    degrees: of the inputs, when each one is drawn, 0 .. D - 1; of each hidden layer's units, from 0 on.
    """

    weights: tuple[Tensor, ...]  # [out, in] each; dead ones may be anything
    biases: tuple[Tensor, ...]  # [out] each; the last layer has num_levels outputs for each input in turn
    degrees: tuple[tuple[int, ...], ...]
    num_levels: int
    input_range: InputRange

    @property
    def like(self) -> Tensor:
        """Of the weights' dtype and device."""
        return self.weights[0]


def scaled_levels(program: Program | DenseProgram) -> Tensor:
    """[L]: as what the network sees each level, in its dtype."""
    every = torch.arange(program.num_levels, device=program.like.device)
    return scale_levels(every, program.num_levels, program.like.dtype, program.input_range)


@dataclass(frozen=True)
class NadeProgram:
    """NADE's: rows of the weights and of output_bias in the order in which the inputs are drawn."""

    weight: Tensor  # [D, H]
    hidden_bias: Tensor  # [H]
    output_weight: Tensor  # [D, H]
    output_bias: Tensor  # [D]
    turns: Tensor | None  # [D], int64: which input is drawn when; None: as they lie

    @property
    def parameters(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.weight, self.hidden_bias, self.output_weight, self.output_bias


FLAT = (DenseProgram, NadeProgram)  # of inputs [n, D], not images
