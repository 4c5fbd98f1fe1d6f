"""All block sizes. A program works on [rows, 4 * quads] elements: quads of four normals, rows of dimension 0.

Not yet measured on a GPU. Reasons so far: 1024 elements over 128 threads give each thread 8, two 128-bit loads a tensor in
float32 and one in 16-bit types; float64 spills at 8 and has 4. Registers: tools/cuda_check.py.
"""

from dataclasses import dataclass

import torch

PROGRAM_QUADS = 256
QUADS = (4, 16, 64, 256)  # of a row; few values, as each is a compilation of its own
MAX_TURNS = 8  # a program sums up to 8192 elements before it writes a partial sum
MANY_PROGRAMS = 2048  # with fewer, a total is not worth several turns a program
FEW_PROGRAMS = 512  # with fewer, Monte-Carlo samples are dealt to programs of their own
FINISH_BLOCK = 1024
FINISH_WARPS = 8
GAN_BLOCK = 2048  # logits of one program: 16 a thread
GAN_WARPS = 4
GATE_BLOCK = 1024  # gates of one program
GATE_LAST_CHANNELS = 64  # of these, where channels lie together
MIXTURE_ELEMENTS = (
    512  # positions times components of one program: two a thread, a dozen numbers in registers each; four spill
)
MIXTURE_COMPONENTS = 32  # at once
MIXTURE_WARPS = 8
MIXTURE_SAMPLE_ELEMENTS = 1024  # positions times components: 8 a thread
MIXTURE_SAMPLE_WARPS = 4
COUPLING_BLOCK = 1024  # places of one program
SPLINE_BLOCK = 256  # the same: two a thread, as each holds thirty numbers
AM_SOFTMAX_CLASSES = 2048  # of a row at once: 8 a thread
AM_SOFTMAX_WARPS = 8
AM_SOFTMAX_FEATURES = 512
AM_SOFTMAX_FEATURE_WARPS = 4
CONTRAST_CLASSES = 16  # rows of the weights at once, times
CONTRAST_FEATURES = 128  # numbers of each: 16 a thread
CONTRAST_SHARED_CLASSES = 1024  # products at once
CONTRAST_WARPS = 4
CONTRAST_ENTRIES = 8  # of one class at once
NOISE_DRAWS = 256  # of one program
CATEGORICAL_ELEMENTS = 2048  # units times levels of one program: 8 a thread, of levels that lie together 16
CATEGORICAL_LEVELS = 64  # at once, where units lie together: 32 of them, 64 bytes in 16 bits
CATEGORICAL_LEVELS_TOGETHER = 512  # where levels do
CATEGORICAL_UNITS = 512
CATEGORICAL_WARPS = 8
BERNOULLI_QUADS = 256  # of draws of one program
NADE_SAMPLES = 4  # of one program, times
NADE_UNITS = 32  # units: a warp, whose sums need no other
NADE_WARPS = 1
NADE_PARTS = 16  # copies of the weights' gradients, at most
CRF_REGISTERS = 32  # of a thread: numbers of the matrix
CRF_TILE = 64  # tags by tags of the transitions' gradient
CRF_STEPS = 32  # at once; float64: half of it, all of it spills on sm_100
CRF_TILE_WARPS = 8
CRF_GROUPS = 64  # of sequences, each with a partial sum of that gradient
CRF_SUMS_ROWS = 16
CRF_SUMS_COLUMNS = 64
CRF_DRAW_WARPS = 1
LSTM_PIXELS = (16, 32)  # of a line at once; 16 is the least that tl.dot takes
LSTM_UNITS = 16  # of four gates each; 32 spill
LSTM_DEPTH = 32  # units of the line before; float64: 16
LSTM_WARPS = 4  # 8 spill float64 on sm_80
QUANTIZE_POSITIONS = 64  # of one program; float64: 32
QUANTIZE_CODES = 64  # at once; float64: 32
QUANTIZE_DEPTH = (16, 32, 64)  # channels at once; where they are all, positions stay in registers
QUANTIZE_WIDE_DEPTH = 32  # of them at most, in float32 and float64: 64 spill on sm_80
QUANTIZE_WIDE_WARPS = 8  # of their products, for the same reason
QUANTIZE_ROWS = 32  # positions of input's gradient, times
QUANTIZE_COLUMNS = 64  # channels
QUANTIZE_SUMMED = 16  # positions of a code at once
QUANTIZE_WARPS = 4
CONV_PIXELS = 128  # of one program; float64: 64
CONV_CHANNELS = (16, 32, 64, 128)  # 16 is the least that tl.dot takes
CONV_SPLIT_PROGRAMS = 512  # the weight's gradient: with fewer programs the pixels are dealt to several,
CONV_SPLIT_PIXELS = 1024  # each of at least so many
CONV_PACK_BLOCK = 1024
CONV_FINISH_BLOCK = 1024


def num_warps(dtype: torch.dtype) -> int:
    return 8 if dtype == torch.float64 else 4


@dataclass(frozen=True)
class Tiling:
    """How rows are dealt to programs: `rows` of them to one, or a long row to `per_row` programs of `turns` turns."""

    rows: int
    quads: int
    turns: int
    per_row: int
    programs: int


def tile(rows: int, row_size: int, *, total: bool, max_turns: int = MAX_TURNS) -> Tiling:
    """Deals `rows` rows of `row_size` elements.

    Args:
        total: one sum runs over all rows. Sums per row are cut by the row's size alone, so that a row's result does not
            depend on its batch.
        max_turns: 1 where nothing is summed.
    """
    # A row that starts inside a quad may touch one quad more.
    row_quads = row_size // 4 if row_size % 4 == 0 else (row_size + 6) // 4
    quads = next((q for q in QUADS if q >= row_quads), QUADS[-1])
    block_rows = PROGRAM_QUADS // quads
    tiles = -(-row_quads // quads)
    turns = min(max(rows * tiles // MANY_PROGRAMS if total else tiles, 1), max_turns)
    per_row = -(-tiles // turns)
    return Tiling(block_rows, quads, -(-tiles // per_row), per_row, -(-rows // block_rows) * per_row)


def mixture_tile(dtype: torch.dtype, components: int) -> tuple[int, int]:
    """(positions, components) of one program."""
    kinds = 1
    while kinds < min(components, MIXTURE_COMPONENTS):
        kinds *= 2
    elements = MIXTURE_ELEMENTS // 2 if dtype == torch.float64 else MIXTURE_ELEMENTS
    return min(elements // kinds, 128), kinds


def categorical_tile(dtype: torch.dtype, levels: int, together: bool) -> tuple[int, int]:
    """(units, levels) of one program. together: levels lie side by side."""
    at_once = 2
    while at_once < min(levels, CATEGORICAL_LEVELS_TOGETHER if together else CATEGORICAL_LEVELS):
        at_once *= 2
    elements = CATEGORICAL_ELEMENTS * (2 if together else 1) // (4 if dtype == torch.float64 else 1)
    return min(max(elements // at_once, 1), CATEGORICAL_UNITS), at_once


def contrast_tile(dtype: torch.dtype, count: int, features: int, shared: bool) -> dict[str, int]:
    """Classes by features of a sample at once, products where negatives are shared."""
    wide = 2 if dtype == torch.float64 else 1
    classes = CONTRAST_SHARED_CLASSES if shared else CONTRAST_CLASSES
    at_once = {"BLOCK_K": power_of_2(count, classes // wide), "BLOCK_D": power_of_2(features, CONTRAST_FEATURES)}
    return {**at_once, "num_warps": CONTRAST_WARPS}


def power_of_2(count: int, most: int) -> int:
    """The first that reaches count, 2 .. most."""
    size = 2
    while size < min(count, most):
        size *= 2
    return size


def crf_tile(dtype: torch.dtype, tags: int) -> tuple[int, int]:
    """(tags, warps) of one program, which holds a matrix of tags by tags in registers."""
    block = 4
    while block < tags:
        block *= 2
    numbers = block * block * (2 if dtype == torch.float64 else 1)
    warps = 1
    while warps < 32 and numbers > warps * 32 * CRF_REGISTERS:
        warps *= 2
    return block, warps


def crf_draws(samples: int, block: int) -> int:
    """Samples of one program of CRF_DRAW_WARPS warps, of rows of `block` tags: 16 weights a thread at most."""
    draws = 1
    while draws < samples and draws * block < CRF_DRAW_WARPS * 32 * 16:
        draws *= 2
    return draws


def quantize_tile(dtype: torch.dtype, channels: int) -> tuple[int, int, int]:
    """(positions, codes, channels) of one product."""
    depth = next((d for d in QUANTIZE_DEPTH if d >= channels), QUANTIZE_DEPTH[-1])
    if dtype in (torch.float32, torch.float64):
        depth = min(depth, QUANTIZE_WIDE_DEPTH)
    half = 2 if dtype == torch.float64 else 1
    return QUANTIZE_POSITIONS // half, QUANTIZE_CODES // half, depth


def lstm_tile(dtype: torch.dtype, length: int) -> dict[str, int]:
    """Pixels of a line by units, and units of the line before at once."""
    pixels = LSTM_PIXELS[0] if length <= LSTM_PIXELS[0] or dtype == torch.float64 else LSTM_PIXELS[1]
    depth = LSTM_DEPTH // 2 if dtype == torch.float64 else LSTM_DEPTH
    return {"PIXELS": pixels, "UNITS": LSTM_UNITS, "DEPTH": depth, "num_warps": LSTM_WARPS}


@dataclass(frozen=True)
class ConvTile:
    """A program's part of the product [m, k] x [k, n]."""

    m: int
    n: int
    k: int
    num_warps: int

    def constants(self) -> dict[str, int]:
        return {"BLOCK_M": self.m, "BLOCK_N": self.n, "BLOCK_K": self.k, "num_warps": self.num_warps}


def _fitting(size: int, most: int) -> int:
    return next(c for c in CONV_CHANNELS if c >= size or c == most)


def conv_tile(dtype: torch.dtype, n: int, k: int, whole: bool) -> ConvTile:
    """Of forward and the input's gradient: pixels by n channels, k channels a step.

    Args:
        whole: loads of 16 bytes; else each element takes its own, with an address in registers.
    """
    size = dtype.itemsize
    m = CONV_PIXELS if size < 8 else CONV_PIXELS // 2
    channels = _fitting(n, 128 if size == 2 else 64)
    step = {2: 64, 4: 32, 8: 16}[size] if whole else {2: 32, 4: 16, 8: 16}[size]
    step = _fitting(k, step)
    return ConvTile(m, channels, step, 4 if channels <= 32 and whole and size < 8 else 8)


def linear_tile(dtype: torch.dtype, n: int, k: int) -> ConvTile:
    """Of masked_linear's product: rows by n outputs, k inputs a step. Small: products of single inputs need registers too."""
    size = dtype.itemsize
    m = 64 if size < 8 else 32
    return ConvTile(m, _fitting(n, m), _fitting(k, 32 if size == 2 else 16), 8 if size == 4 else 4)


def conv_weight_tile(dtype: torch.dtype, outs: int, ins: int, whole: bool) -> ConvTile:
    """Of the weight's gradient: output by input channels, k pixels a step."""
    size = dtype.itemsize
    m, n = _fitting(outs, 128 if size == 2 and whole else 64), _fitting(ins, 64)
    step = 64 if whole and size == 2 else 32 if size == 2 else 16
    return ConvTile(m, n, step, 8 if m * n > 64 * 32 or size == 8 else 4)


def conv_splits(pixels: int, programs: int) -> int:
    """How many parts the pixels are dealt to. By sizes alone: results must not depend on the GPU."""
    return max(1, min(-(-CONV_SPLIT_PROGRAMS // max(programs, 1)), pixels // CONV_SPLIT_PIXELS))
