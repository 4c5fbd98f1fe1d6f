"""The weight's and the bias's gradient of masked_conv2d: products over pixels in parts of fixed size, added up in order."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks
from ._compat import OPTIONS, cast, dot, index_type, input_precision, tl_wide
from ._taps import offset_of, position_of, runs, tap_of

_RUNTIME = ("pixels", "height", "width", "steps", "splits", "taps", "outs", "ins", "dilation")


@triton.jit
def _place(p, height, width):
    """Image, row and column of pixel number p."""
    line = p // width
    image = line // height
    return image, (line - image * height).to(tl.int32), (p - line * width).to(tl.int32)


@triton.jit(do_not_specialize=_RUNTIME)
def masked_conv2d_bwd_weight_kernel(
    grad_ptr,  # [N, Cout, H, W], as the strides say
    x_ptr,  # [N, Cin, H, W]
    partial_ptr,  # [splits, positions, Cout, Cin]
    grad_strides,
    x_strides,
    outs,
    ins,
    pixels,
    height,
    width,
    steps,  # of BLOCK_K pixels, in one split
    splits,
    taps,
    dilation,
    RUNS: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    GROUPS: tl.constexpr,
    STRICT: tl.constexpr,
    INDEX: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    m_tiles, n_tiles = tl.cdiv(outs, BLOCK_M), tl.cdiv(ins, BLOCK_N)
    rest = tl.program_id(0)
    n_tile = rest % n_tiles
    rest //= n_tiles
    m_tile = rest % m_tiles
    rest //= m_tiles
    positions = taps + (1 if GROUPS > 1 else 0)
    position = rest % positions  # neighbours read the same pixels
    split = rest // positions
    o = m_tile * BLOCK_M + tl.arange(0, BLOCK_M)
    i = n_tile * BLOCK_N + tl.arange(0, BLOCK_N)
    o_mask, i_mask = o < outs, i < ins
    dy, dx = offset_of(tap_of(position, RUNS), dilation, KH, KW)
    todo = steps
    if GROUPS > 1:
        centre = position == taps
        dy, dx = tl.where(centre, 0, dy), tl.where(centre, 0, dx)
        last_group = (tl.minimum(m_tile * BLOCK_M + BLOCK_M, outs) - 1) // (outs // GROUPS)
        first_group = n_tile * BLOCK_N // (ins // GROUPS)
        dead = centre & (first_group + (1 if STRICT else 0) > last_group)
        todo = tl.where(dead, 0, steps)
    o_offs = o.to(INDEX) * grad_strides[1]
    i_offs = i.to(INDEX) * x_strides[1]
    acc = tl.zeros((BLOCK_M, BLOCK_N), WIDE)
    for step in range(todo):
        p = (split.to(INDEX) * steps + step) * BLOCK_K + tl.arange(0, BLOCK_K)
        p_mask = p < pixels
        image, y, x = _place(p, height, width)
        at = image * grad_strides[0] + y.to(INDEX) * grad_strides[2] + x.to(INDEX) * grad_strides[3]
        a = tl.load(grad_ptr + o_offs[:, None] + at[None, :], mask=o_mask[:, None] & p_mask[None, :], other=0.0)
        v, u = y + dy, x + dx
        inside = p_mask & (v >= 0) & (v < height) & (u >= 0) & (u < width)
        at = image * x_strides[0] + v.to(INDEX) * x_strides[2] + u.to(INDEX) * x_strides[3]
        b = tl.load(x_ptr + at[:, None] + i_offs[None, :], mask=inside[:, None] & i_mask[None, :], other=0.0)
        acc = dot(a, b, acc, PRECISION)
    row = ((split.to(tl.int64) * positions + position) * outs + o) * ins
    tl.store(partial_ptr + row[:, None] + i[None, :], acc, mask=o_mask[:, None] & i_mask[None, :])


@triton.jit(do_not_specialize=_RUNTIME)
def masked_conv2d_bwd_bias_kernel(
    grad_ptr,  # [N, Cout, H, W], as the strides say
    partial_ptr,  # [splits, Cout]
    grad_strides,
    outs,
    pixels,
    height,
    width,
    steps,
    INDEX: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    tiles = tl.cdiv(outs, BLOCK_M)
    split = tl.program_id(0) // tiles
    o = (tl.program_id(0) - split * tiles) * BLOCK_M + tl.arange(0, BLOCK_M)
    o_mask = o < outs
    sums = tl.zeros((BLOCK_K, BLOCK_M), WIDE)
    for step in range(steps):
        p = (split.to(INDEX) * steps + step) * BLOCK_K + tl.arange(0, BLOCK_K)
        image, y, x = _place(p, height, width)
        at = image * grad_strides[0] + y.to(INDEX) * grad_strides[2] + x.to(INDEX) * grad_strides[3]
        offs = at[:, None] + (o.to(INDEX) * grad_strides[1])[None, :]
        sums += tl.load(grad_ptr + offs, mask=(p < pixels)[:, None] & o_mask[None, :], other=0.0).to(WIDE)
    tl.store(partial_ptr + split.to(tl.int64) * outs + o, tl.sum(sums, axis=0), mask=o_mask)


@triton.jit(do_not_specialize=_RUNTIME)
def masked_conv2d_finish_kernel(
    partial_ptr,  # [splits, positions, Cout, Cin]
    out_ptr,  # [Cout, Cin, kH, kW]
    outs,
    ins,
    splits,
    taps,
    RUNS: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    GROUPS: tl.constexpr,
    STRICT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Adds the parts in order; exactly 0 where the weight is dead."""
    size = outs.to(tl.int64) * ins
    tap = tl.program_id(0) % (KH * KW)
    offs = (tl.program_id(0) // (KH * KW)).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < size
    position = position_of(tap, taps, RUNS)
    live = offs < tl.where(position >= 0, size, 0)
    positions = taps
    if GROUPS > 1:
        positions = taps + 1
        if tap == (KH // 2) * KW + KW // 2:
            o = offs // ins
            o_group, i_group = o // (outs // GROUPS), (offs - o * ins) // (ins // GROUPS)
            live = mask & ((i_group < o_group) if STRICT else (i_group <= o_group))
            position = taps
    sums = tl.zeros((BLOCK,), partial_ptr.dtype.element_ty)
    for split in range(splits):
        row = tl.zeros((), tl.int64) + split
        sums += tl.load(partial_ptr + (row * positions + position) * size + offs, mask=live, other=0.0)
    tl.store(out_ptr + offs * (KH * KW) + tap, cast(sums, out_ptr.dtype.element_ty), mask=mask)


def _finish(
    partial: Tensor,
    out: Tensor,
    splits: int,
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    sizes: Sequence[int],
) -> None:
    outs, ins, kh, kw = sizes
    masked_conv2d_finish_kernel[(kh * kw * -(-outs * ins // _blocks.CONV_FINISH_BLOCK),)](
        partial, out, outs, ins, splits, len(taps), RUNS=runs(taps), KH=kh, KW=kw, GROUPS=color_groups, STRICT=strict,
        BLOCK=_blocks.CONV_FINISH_BLOCK, **OPTIONS,
    )  # fmt: skip


def add_parts(
    grad: Tensor,  # [N, Cout, H, W]
    input: Tensor,  # [N, Cin, H, W]
    kernel_size: Sequence[int],
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
    need_bias: bool,
) -> tuple[Tensor, Tensor | None]:
    """[Cout, Cin, kH, kW] and [Cout]"""
    (batch, outs, height, width), ins, (kh, kw) = grad.shape, input.shape[1], kernel_size
    weight = torch.empty((outs, ins, kh, kw), dtype=grad.dtype, device=grad.device)
    bias = torch.empty(outs, dtype=grad.dtype, device=grad.device) if need_bias else None
    wide = torch.promote_types(grad.dtype, torch.float32)
    pixels = batch * height * width
    positions = len(taps) + (color_groups > 1)
    whole = grad.stride(1) == 1 == input.stride(1) and outs % 16 == 0 == ins % 16
    tile = _blocks.conv_weight_tile(grad.dtype, outs, ins, whole)
    programs = positions * -(-outs // tile.m) * -(-ins // tile.n)
    splits = min(_blocks.conv_splits(pixels, programs), pixels)
    steps = -(-pixels // (max(splits, 1) * tile.k))
    same = {"INDEX": index_type(pixels + max(splits, 1) * tile.k, grad, input), "WIDE": tl_wide(grad.dtype)}
    if weight.numel():
        partial = torch.empty(splits * positions * outs * ins, dtype=wide, device=grad.device)
        if partial.numel():
            masked_conv2d_bwd_weight_kernel[(splits * programs,)](
                grad, input, partial, grad.stride(), input.stride(), outs, ins, pixels, height, width, steps, splits, len(taps),
                dilation, RUNS=runs(taps), KH=kh, KW=kw, GROUPS=color_groups, STRICT=strict, PRECISION=input_precision(grad),
                **same, **tile.constants(), **OPTIONS,
            )  # fmt: skip
        _finish(partial, weight, splits, taps, color_groups, strict, weight.shape)
    if bias is not None and bias.numel():
        blocks = -(-outs // tile.m)
        splits = min(_blocks.conv_splits(pixels, blocks), pixels)
        steps = -(-pixels // (max(splits, 1) * tile.k))
        partial = torch.empty(splits * outs, dtype=wide, device=grad.device)
        if partial.numel():
            masked_conv2d_bwd_bias_kernel[(splits * blocks,)](
                grad, partial, grad.stride(), outs, pixels, height, width, steps,
                **same, BLOCK_M=tile.m, BLOCK_K=tile.k, num_warps=4, **OPTIONS,
            )  # fmt: skip
        _finish(partial, bias, splits, (0,), 1, False, (outs, 1, 1, 1))
    return weight, bias
