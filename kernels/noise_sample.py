"""The Triton kernel of noise_sample, and its launcher. Not yet run on a GPU.

Traffic of a draw: 16 bytes of a column of the table, from anywhere, and 8 written.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen._noise import DOMAINS

from . import _blocks
from ._compat import OPTIONS, device_of
from ._philox import words


@triton.jit(do_not_specialize=("total", "count", "classes"))
def noise_sample_kernel(
    table_ptr,  # [C, 3]
    seed_ptr,
    drawn_ptr,  # [rows, count], written
    total,
    count,
    classes,
    DOMAIN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = i < total
    w0, w1, w2, w3 = words(tl.load(seed_ptr), i % count, i // count, DOMAIN)
    every = tl.zeros((BLOCK,), tl.int64) + classes
    column = (w0.to(tl.int64) * every + (w1.to(tl.int64) * every >> 32)) >> 32
    kept = (w2.to(tl.int64) << 31) + (w3.to(tl.int64) >> 1)
    keep = tl.load(table_ptr + 3 * column, mask=live, other=0)
    alias = tl.load(table_ptr + 3 * column + 1, mask=live, other=0)
    tl.store(drawn_ptr + i, tl.where(kept < keep, column, alias), mask=live)


def forward(
    noise: Tensor,  # [C, 3], int64
    seed: Tensor,  # 0-dim int64
    rows: int,
    count: int,
) -> Tensor:
    """Classes, int64 [rows, count]."""
    table = noise.contiguous()
    drawn = torch.empty((rows, count), dtype=torch.int64, device=noise.device)
    if drawn.numel() == 0:
        return drawn
    with device_of(noise):
        noise_sample_kernel[(-(-drawn.numel() // _blocks.NOISE_DRAWS),)](
            table, seed, drawn, drawn.numel(), count, len(table), DOMAIN=DOMAINS["noise_sample"],
            BLOCK=_blocks.NOISE_DRAWS, num_warps=4, **OPTIONS,
        )  # fmt: skip
    return drawn
