"""Triton kernels of sample_dot, and their launcher. Not yet run on a GPU.

    forward: sums[n] = sum of x[n] y[n]        backward: out[n] = factor[n] x[n]

Traffic, T = bytes of x: forward reads T (2 T with a y of its own) and 4 bytes per 8192 elements; backward reads and writes T.
Sums are taken in two levels, in a fixed order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks
from ._compat import OPTIONS, device_of, tl_wide
from ._rows import Frame, load_rows, place, store_rows

# Integers that would otherwise mean a compilation for 1, for multiples of 16 and for the rest.
_RUNTIME = ("rows", "row_size", "per_row", "turns", "factor_stride", "count")


@triton.jit(do_not_specialize=_RUNTIME)
def sample_dot_fwd_kernel(
    x_ptr,  # [N, D]
    y_ptr,  # [N, D], or None: x
    sums_ptr,  # [N], or [N, per_row]: partial sums
    x_strides,
    y_strides,
    sizes,
    row_size,
    rows,
    per_row,
    turns,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    QUADS: tl.constexpr,
    WHOLE: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    sums = tl.zeros((ROWS, 4 * QUADS), WIDE)
    for turn in range(turns):
        row, _, _, d, mask = place(program, turn, rows, row_size, per_row, turns, ROWS, QUADS, WHOLE)
        x = load_rows(x_ptr, row, d, mask, sizes, x_strides, WIDE)
        y = x
        if y_ptr is not None:
            y = load_rows(y_ptr, row, d, mask, sizes, y_strides, WIDE)
        sums += x * y
    row, part, _, _, _ = place(program, 0, rows, row_size, per_row, turns, ROWS, QUADS, WHOLE)
    row = tl.reshape(row, (ROWS,))
    tl.store(sums_ptr + row * per_row + part, tl.sum(sums, axis=1), mask=row < rows)


@triton.jit(do_not_specialize=_RUNTIME)
def sample_dot_finish_kernel(partial_ptr, sums_ptr, count, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """sums[row] = sum of partial[row, :], in float64 and in fixed order."""
    row = tl.program_id(0).to(tl.int64)
    sums = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, count, BLOCK):
        offs = start + tl.arange(0, BLOCK)
        sums += tl.load(partial_ptr + row * count + offs, mask=offs < count, other=0.0).to(tl.float64)
    tl.store(sums_ptr + row, tl.sum(sums, axis=0).to(WIDE))


@triton.jit(do_not_specialize=_RUNTIME)
def sample_dot_bwd_kernel(
    factor_ptr,  # [N]
    x_ptr,  # [N, D]
    out_ptr,  # [N, D]
    factor_stride,
    x_strides,
    out_strides,
    sizes,
    row_size,
    rows,
    per_row,
    turns,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    QUADS: tl.constexpr,
    WHOLE: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    row, _, _, d, mask = place(program, 0, rows, row_size, per_row, turns, ROWS, QUADS, WHOLE)
    factor = tl.load(factor_ptr + row * factor_stride, mask=row < rows, other=0.0)
    x = load_rows(x_ptr, row, d, mask, sizes, x_strides, WIDE)
    store_rows(out_ptr, row, d, mask, sizes, out_strides, x * factor)


def forward(
    x: Tensor,  # [N, ...]
    y: Tensor | None,  # the same; None: x
) -> Tensor:
    """[N]"""
    wide = torch.promote_types(x.dtype, torch.float32)
    sums = torch.empty(x.shape[:1], dtype=wide, device=x.device)
    if x.numel() == 0:
        return sums.zero_()
    frame = Frame(x.shape, (x, y), False, _blocks.MAX_TURNS)
    tiling = frame.tiling
    several = tiling.per_row > 1
    partial = torch.empty(len(x) * tiling.per_row, dtype=wide, device=x.device) if several else sums
    with device_of(x):
        sample_dot_fwd_kernel[(tiling.programs,)](
            *frame.tensors, partial, *frame.strides, frame.sizes, frame.row_size, frame.rows, tiling.per_row,
            tiling.turns, **frame.constants(),
        )  # fmt: skip
        if several:
            sample_dot_finish_kernel[(len(x),)](
                partial, sums, tiling.per_row, tl_wide(wide), _blocks.FINISH_BLOCK, num_warps=_blocks.FINISH_WARPS, **OPTIONS
            )  # fmt: skip
    return sums


def backward(
    factor: Tensor,  # [N]
    x: Tensor,  # [N, ...]
) -> Tensor:
    """Each sample times its factor, [N, ...]."""
    out = torch.empty_like(x)
    if x.numel() == 0:
        return out
    frame = Frame(x.shape, (x, out), False, 1)
    tiling = frame.tiling
    with device_of(x):
        sample_dot_bwd_kernel[(tiling.programs,)](
            factor, *frame.tensors, factor.stride(0), *frame.strides, frame.sizes, frame.row_size, frame.rows,
            tiling.per_row, tiling.turns, **frame.constants(),
        )  # fmt: skip
    frame.copy_back(out)
    return out
