"""The last kernel of gan_loss: from the blocks' sums to the loss, the statistics and the means. Not yet run on a GPU."""

import triton
import triton.language as tl
from torch import Tensor

from . import _blocks
from ._compat import OPTIONS, bits_float
from ._gan import Segments


@triton.jit
def segment_sum(partial_ptr, first, last, BLOCK: tl.constexpr):
    """The sum of partial[first .. last-1] in float64, in fixed order."""
    sums = tl.zeros((BLOCK,), tl.float64)
    for start in range(first, last, BLOCK):
        offs = start + tl.arange(0, BLOCK)
        sums += tl.load(partial_ptr + offs, mask=offs < last, other=0.0).to(tl.float64)
    return tl.sum(sums, axis=0)


@triton.jit
def gan_loss_finish_kernel(
    partial_ptr,  # [5, programs], as gan_loss_fwd_kernel leaves it
    loss_ptr,  # [], or None
    stats_ptr,  # [4], or None
    mean_ptr,  # [segments], or None: each segment gets the mean of its opposite
    slopes_ptr,  # [segments], or None
    reused_ptr,  # [members, 4], or None
    firsts,
    programs,
    weights,  # of each segment's sum in the loss, as bits, as the next
    inverses,  # of the segments' numbers of logits
    PAIR: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    SEGMENTS: tl.constexpr = len(weights)
    SHARE: tl.constexpr = 1.0 if PAIR else 2.0
    loss = tl.zeros((), tl.float64)
    real = tl.zeros((), tl.float64)
    fake = tl.zeros((), tl.float64)
    real_right = tl.zeros((), tl.float64)
    fake_right = tl.zeros((), tl.float64)
    for i in tl.static_range(SEGMENTS):
        inverse = bits_float(inverses[i], tl.float64)
        if loss_ptr is not None:
            loss += segment_sum(partial_ptr, firsts[i], firsts[i + 1], BLOCK) * bits_float(weights[i], tl.float64)
        mean = segment_sum(partial_ptr + programs, firsts[i], firsts[i + 1], BLOCK) * inverse
        if mean_ptr is not None:
            tl.store(mean_ptr + (i ^ 1), mean.to(WIDE))
        if reused_ptr is not None:
            slopes = segment_sum(partial_ptr + 3 * programs, firsts[i], firsts[i + 1], BLOCK)
            tl.store(reused_ptr + (i // 2 * 4 + i % 2), mean.to(WIDE))
            tl.store(reused_ptr + (i // 2 * 4 + i % 2 + 2), slopes.to(WIDE))
        if slopes_ptr is not None:
            slopes = segment_sum(partial_ptr + 3 * programs, firsts[i], firsts[i + 1], BLOCK)
            tl.store(slopes_ptr + i, slopes.to(WIDE))
        if stats_ptr is not None:
            right = segment_sum(partial_ptr + 2 * programs, firsts[i], firsts[i + 1], BLOCK) * inverse
            if PAIR:
                real += mean
                fake += segment_sum(partial_ptr + 4 * programs, firsts[i], firsts[i + 1], BLOCK) * inverse
                real_right += right
                fake_right += right
            elif i % 2 == 0:
                real += mean
                real_right += right
            else:
                fake += mean
                fake_right += right
    if loss_ptr is not None:
        tl.store(loss_ptr, loss.to(WIDE))
    if stats_ptr is not None:
        MEMBERS: tl.constexpr = SEGMENTS / SHARE
        tl.store(stats_ptr, (real / MEMBERS).to(WIDE))
        tl.store(stats_ptr + 1, (fake / MEMBERS).to(WIDE))
        tl.store(stats_ptr + 2, (real_right / MEMBERS).to(WIDE))
        tl.store(stats_ptr + 3, (fake_right / MEMBERS).to(WIDE))


def finish(s: Segments, partial: Tensor, loss=None, stats=None, mean=None, slopes=None, reused=None) -> None:
    gan_loss_finish_kernel[(1,)](
        partial, loss, stats, mean, slopes, reused, s.firsts, s.programs, s.weights, s.inverses,
        PAIR=s.other == "pair", WIDE=s.wide, BLOCK=_blocks.FINISH_BLOCK, num_warps=_blocks.FINISH_WARPS, **OPTIONS,
    )  # fmt: skip
