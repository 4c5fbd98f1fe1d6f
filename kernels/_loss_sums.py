"""Sums of losses over what the programs of a launch left, in float64 and in fixed order."""

import triton
import triton.language as tl
from torch import Tensor

from . import _blocks
from ._compat import OPTIONS, bits_float, float_bits, tl_wide


@triton.jit(do_not_specialize=("count",))  # no compilation of its own for 1
def loss_sums_kernel(partial_ptr, sums_ptr, count, scale_bits, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """sums[row] = scale * sum of partial[row, :]."""
    row = tl.program_id(0).to(tl.int64)
    sums = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, count, BLOCK):
        offs = start + tl.arange(0, BLOCK)
        sums += tl.load(partial_ptr + row * count + offs, mask=offs < count, other=0.0).to(tl.float64)
    tl.store(sums_ptr + row, (tl.sum(sums, axis=0) * bits_float(scale_bits, tl.float64)).to(WIDE))


def add_up(
    partial: Tensor,  # [rows * count], contiguous
    sums: Tensor,  # [rows] or [], written
    scale: float,
) -> None:
    rows = sums.numel()
    loss_sums_kernel[(rows,)](
        partial, sums, partial.numel() // rows, float_bits(scale), tl_wide(sums.dtype), _blocks.FINISH_BLOCK,
        num_warps=_blocks.FINISH_WARPS, **OPTIONS,
    )  # fmt: skip
