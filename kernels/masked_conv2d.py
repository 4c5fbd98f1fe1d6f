"""Triton kernels of masked_conv2d, and their launcher. Not yet run on a GPU.

    out[p, n] = bias[n] + sum over live (tap, k) of x[p + offset(tap), k] w[tap, k, n]

over pixels p of all images: an implicit matrix product whose k loop runs over the live taps alone. The input's gradient is the
same with opposite offsets and n, k exchanged. The weight's gradient is one product over pixels for each live tap, whose parts a
second kernel adds up in order. Any layout goes by its strides; channels_last is the one that loads in whole lines.

Traffic: forward reads the input once for each live tap, from L2 but for the first, and writes the output; the weight is copied
first, [tap, k, n] without the dead ones, into memory that lives for the call.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen._layout import empty_images

from . import _blocks
from . import _weight_gradient as weight_gradient
from ._compat import OPTIONS, cast, device_of, dot, index_type, input_precision, tl_wide
from ._taps import offset_of, runs, tap_of

# Integers that would otherwise mean a compilation for 1, for multiples of 16 and for the rest.
RUNTIME = ("pixels", "height", "width", "taps", "chunks", "tiles_per_group", "dilation")


@triton.jit(do_not_specialize=("taps",))
def masked_conv2d_pack_kernel(
    weight_ptr,  # [n, k, kH, kW] by its strides
    packed_ptr,  # [taps, k, n]
    weight_strides,
    n_size,
    k_size,
    taps,
    group_n,
    PAIRS: tl.constexpr,  # channels of a group's halves by turns: what gated_masked_conv2d.py multiplies
    RUNS: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    BLOCK: tl.constexpr,
):
    blocks = tl.cdiv(n_size * k_size, BLOCK)
    position = tl.program_id(0) // blocks
    offs = (tl.program_id(0) - position * blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tap = tl.where(position < taps, tap_of(position, RUNS), (KH // 2) * KW + KW // 2)  # the last one: the centre
    k = offs // n_size
    n = offs - k * n_size
    mask = k < k_size
    if PAIRS:
        inside = n % group_n
        n += (inside % 2) * (group_n // 2) + inside // 2 - inside
    from_ = n * weight_strides[0] + k * weight_strides[1]
    from_ += (tap // KW).to(tl.int64) * weight_strides[2] + (tap % KW).to(tl.int64) * weight_strides[3]
    value = tl.load(weight_ptr + from_, mask=mask, other=0.0)
    tl.store(packed_ptr + position.to(tl.int64) * n_size * k_size + offs, value, mask=mask)


@triton.jit
def multiply_tap(
    acc, x_ptr, x_strides, packed_ptr, position, image, y, x, m_mask, n, n_mask, k, k_end, dy, dx, height, width, n_size, k_size,
    INDEX: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """acc [M, N] += input [M, K] at (y + dy, x + dx), 0 outside the image, times the tap's weight [K, N]."""
    v, u = y + dy, x + dx
    inside = m_mask & (v >= 0) & (v < height) & (u >= 0) & (u < width)
    pixel = image * x_strides[0] + v.to(INDEX) * x_strides[2] + u.to(INDEX) * x_strides[3]
    k_mask = k < k_end
    a = tl.load(
        x_ptr + pixel[:, None] + (k.to(INDEX) * x_strides[1])[None, :],
        mask=inside[:, None] & k_mask[None, :],
        other=0.0,
    )
    row = (position.to(INDEX) * k_size + k) * n_size
    b = tl.load(packed_ptr + row[:, None] + n[None, :], mask=k_mask[:, None] & n_mask[None, :], other=0.0)
    return dot(a, b, acc, PRECISION)


@triton.jit
def place(
    pixels, height, width, group_n, tiles_per_group, GROUPS: tl.constexpr, INDEX: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The program's group and its tile in it; n and which of them exist; image, row and column of its pixels, and which exist.

    Programs keep to one group of n, so that the centre's live k are a range.
    """
    n_tiles = GROUPS * tiles_per_group
    m_tile = tl.program_id(0) // n_tiles
    n_tile = tl.program_id(0) - m_tile * n_tiles
    group = n_tile // tiles_per_group
    tile = n_tile - group * tiles_per_group
    in_group = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    n_mask = in_group < group_n
    n = in_group if GROUPS == 1 else group * group_n + in_group  # known to be aligned, for whole loads and stores
    m = m_tile.to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)
    m_mask = m < pixels
    line = m // width
    x = (m - line * width).to(tl.int32)
    image = line // height
    y = (line - image * height).to(tl.int32)
    return group, tile, n, n_mask, image.to(INDEX), y, x, m_mask


@triton.jit
def sum_taps(
    x_ptr, x_strides, packed_ptr, image, y, x, m_mask, n, n_mask, group, n_size, k_size, height, width, taps, chunks, group_k,
    dilation, RUNS: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, GROUPS: tl.constexpr, STRICT: tl.constexpr,
    BACKWARD: tl.constexpr, INDEX: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """[M, N] over all that is live."""
    SIGN: tl.constexpr = -1 if BACKWARD else 1
    acc = tl.zeros((BLOCK_M, BLOCK_N), WIDE)
    for step in range(taps * chunks):
        position = step // chunks
        k = (step - position * chunks) * BLOCK_K + tl.arange(0, BLOCK_K)
        dy, dx = offset_of(tap_of(position, RUNS), dilation, KH, KW)
        acc = multiply_tap(
            acc, x_ptr, x_strides, packed_ptr, position, image, y, x, m_mask, n, n_mask, k, k_size, SIGN * dy, SIGN * dx,
            height, width, n_size, k_size, INDEX, PRECISION,
        )  # fmt: skip
    if GROUPS > 1:
        if BACKWARD:
            k_begin, k_end = (group + (1 if STRICT else 0)) * group_k, k_size
        else:
            k_begin, k_end = group * 0, (group + (0 if STRICT else 1)) * group_k
        for start in range(k_begin, k_end, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            acc = multiply_tap(
                acc, x_ptr, x_strides, packed_ptr, taps, image, y, x, m_mask, n, n_mask, k, k_end, 0, 0, height, width, n_size,
                k_size, INDEX, PRECISION,
            )  # fmt: skip
    return acc


@triton.jit(do_not_specialize=RUNTIME)
def masked_conv2d_fwd_kernel(
    x_ptr,  # [N, k, H, W], as the strides say
    packed_ptr,  # [positions, k, n]
    bias_ptr,  # [n], or None
    out_ptr,  # [N, n, H, W]
    x_strides,
    out_strides,
    n_size,
    k_size,
    pixels,
    height,
    width,
    taps,
    chunks,
    group_n,
    tiles_per_group,
    group_k,
    dilation,
    RUNS: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    GROUPS: tl.constexpr,
    STRICT: tl.constexpr,
    BACKWARD: tl.constexpr,
    INDEX: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    group, _, n, n_mask, image, y, x, m_mask = place(
        pixels, height, width, group_n, tiles_per_group, GROUPS, INDEX, BLOCK_M, BLOCK_N
    )
    acc = sum_taps(
        x_ptr, x_strides, packed_ptr, image, y, x, m_mask, n, n_mask, group, n_size, k_size, height, width, taps, chunks, group_k,
        dilation, RUNS, KH, KW, GROUPS, STRICT, BACKWARD, INDEX, WIDE, PRECISION, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    if bias_ptr is not None:
        acc += tl.load(bias_ptr + n, mask=n_mask, other=0.0).to(WIDE)[None, :]
    pixel = image * out_strides[0] + y.to(INDEX) * out_strides[2] + x.to(INDEX) * out_strides[3]
    out = out_ptr + pixel[:, None] + (n.to(INDEX) * out_strides[1])[None, :]
    tl.store(out, cast(acc, out_ptr.dtype.element_ty), mask=m_mask[:, None] & n_mask[None, :])


def pack(weight: Tensor, taps: Sequence[int], *, centre: bool, group_n: int, pairs: bool) -> Tensor:
    """[taps and, if so, the centre][k][n] of a weight [n, k, kH, kW]; group_n: n of a group."""
    n, k, kh, kw = weight.shape
    positions = len(taps) + centre
    packed = torch.empty(positions * n * k, dtype=weight.dtype, device=weight.device)
    if packed.numel():
        masked_conv2d_pack_kernel[(positions * -(-n * k // _blocks.CONV_PACK_BLOCK),)](
            weight, packed, weight.stride(), n, k, len(taps), group_n, PAIRS=pairs, RUNS=runs(taps), KH=kh, KW=kw,
            BLOCK=_blocks.CONV_PACK_BLOCK, **OPTIONS,
        )  # fmt: skip
    return packed


def multiply(
    kernel: Any, x: Tensor, weight: Tensor, bias: Tensor | None, taps: Sequence[int], color_groups: int, strict: bool,
    dilation: int, *more: object, backward: bool = False, pairs: bool = False,
) -> Tensor:  # fmt: skip
    """[N, n, H, W] of x [N, k, H, W] and a weight [n, k, kH, kW], seen so, by `kernel`, which gets `more` behind the rest."""
    n, k, kh, kw = weight.shape
    batch, _, height, width = x.shape
    out = empty_images(x, n)
    if out.numel() == 0:
        return out
    tile = _blocks.conv_tile(x.dtype, n // color_groups, k, x.stride(1) == 1 and k % 16 == 0)
    tiles_per_group = -(-(n // color_groups) // tile.n)
    pixels = batch * height * width
    grid = -(-pixels // tile.m) * color_groups * tiles_per_group
    indexed = [t for t in more if isinstance(t, Tensor)]
    with device_of(x):
        packed = pack(weight, taps, centre=color_groups > 1, group_n=n // color_groups, pairs=pairs)
        kernel[(grid,)](
            x, packed, bias, out, x.stride(), out.stride(), n, k, pixels, height, width, len(taps), -(-k // tile.k),
            n // color_groups, tiles_per_group, k // color_groups, dilation, *more, RUNS=runs(taps), KH=kh, KW=kw,
            GROUPS=color_groups, STRICT=strict, BACKWARD=backward,
            INDEX=index_type(pixels + tile.m, x, out, packed, *indexed), WIDE=tl_wide(x.dtype),
            PRECISION=input_precision(x), **tile.constants(), **OPTIONS,
        )  # fmt: skip
    return out


def forward(
    input: Tensor,  # [N, Cin, H, W]
    weight: Tensor,  # [Cout, Cin, kH, kW]
    bias: Tensor | None,  # [Cout]
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
    add: Tensor | None = None,  # [N, Cout, H, W]
) -> Tensor:
    """[N, Cout, H, W]"""
    bias = bias if bias is None else bias.contiguous()
    out = multiply(masked_conv2d_fwd_kernel, input, weight, bias, taps, color_groups, strict, dilation)
    return out if add is None else out.add_(add)


def grad_input(
    grad: Tensor,  # [N, Cout, H, W]
    weight: Tensor,  # [Cout, Cin, kH, kW]
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
) -> Tensor:
    """[N, Cin, H, W]"""
    turned, mask = weight.transpose(0, 1), (taps, color_groups, strict, dilation)
    return multiply(masked_conv2d_fwd_kernel, grad, turned, None, *mask, backward=True)


def grad_weight(
    grad: Tensor,  # [N, Cout, H, W]
    input: Tensor,  # [N, Cin, H, W]
    kernel_size: Sequence[int],
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
    need_bias: bool,
) -> tuple[Tensor, Tensor | None]:
    """weight's gradient [Cout, Cin, kH, kW], 0 where it is dead, and bias's [Cout]."""
    with device_of(grad):
        return weight_gradient.add_parts(grad, input, kernel_size, taps, color_groups, strict, dilation, need_bias)
