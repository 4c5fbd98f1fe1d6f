"""Triton kernel of gated_masked_conv2d, and its launcher. Not yet run on a GPU.

    pre = products + bias + add, rounded once       out = tanh(a + cond) sigmoid(b + cond) of pre's halves a and b

The product is masked_conv2d.py's, of a weight packed so that a group's halves take turns along n: two neighbouring sums of one
thread are then the two numbers of a gate. A side is one tap more, over another input. Traffic beyond the products': add and a
cond of pixels are read once, pre and out written once.
"""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from pygen._layout import empty_images

from . import masked_conv2d as convolution
from ._compat import cast, device_of
from ._gate import gate
from .masked_conv2d import RUNTIME, multiply, multiply_tap, place, sum_taps


@triton.jit
def _pixels(image, y, x, strides, INDEX: tl.constexpr):
    return (image * strides[0] + y.to(INDEX) * strides[2] + x.to(INDEX) * strides[3])[:, None]


@triton.jit
def _complete(sums, channel, pre_ptr, pre, bias_ptr, add_ptr, add, add_strides, mask, INDEX: tl.constexpr):
    """One half of pre, written, and as it was rounded."""
    if bias_ptr is not None:
        sums += tl.load(bias_ptr + channel, mask=mask, other=0.0).to(sums.dtype)
    if add_ptr is not None:
        offs = add + channel.to(INDEX) * add_strides[1]
        sums += tl.load(add_ptr + offs, mask=mask, other=0.0).to(sums.dtype)
    rounded = cast(sums, pre_ptr.dtype.element_ty)
    tl.store(pre_ptr + pre, rounded, mask=mask)
    return rounded.to(sums.dtype)


@triton.jit(do_not_specialize=RUNTIME)
def gated_masked_conv2d_fwd_kernel(
    x_ptr,  # [N, k, H, W], as the strides say
    packed_ptr,  # [positions, k, n], channels of a group's halves by turns
    bias_ptr,  # [n], or None
    pre_ptr,  # [N, n, H, W]
    x_strides,
    pre_strides,
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
    out_ptr,  # [N, n / 2, H, W]
    out_strides,
    add_ptr,  # [N, n, H, W], or None
    add_strides,
    cond_ptr,  # [N, n, H, W], or [N, n] by strides of 0, or None
    cond_strides,
    side_ptr,  # [N, side_k, H, W], or None
    side_strides,
    side_packed_ptr,  # [side_k, n], or None
    side_k,
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
    group, tile, n, n_mask, image, y, x, m_mask = place(
        pixels, height, width, group_n, tiles_per_group, GROUPS, INDEX, BLOCK_M, BLOCK_N
    )
    acc = sum_taps(
        x_ptr, x_strides, packed_ptr, image, y, x, m_mask, n, n_mask, group, n_size, k_size, height, width, taps, chunks, group_k,
        dilation, RUNS, KH, KW, GROUPS, STRICT, BACKWARD, INDEX, WIDE, PRECISION, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    if side_ptr is not None:
        for start in range(0, side_k, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            acc = multiply_tap(
                acc, side_ptr, side_strides, side_packed_ptr, group * 0, image, y, x, m_mask, n, n_mask, k, side_k, 0, 0, height,
                width, n_size, side_k, INDEX, PRECISION,
            )  # fmt: skip
    a, b = tl.split(tl.reshape(acc, (BLOCK_M, BLOCK_N // 2, 2)))
    half = group_n // 2
    pair = tile * (BLOCK_N // 2) + tl.arange(0, BLOCK_N // 2)
    mask = m_mask[:, None] & (pair < half)[None, :]
    first = (group * group_n + pair)[None, :]
    pre, add = _pixels(image, y, x, pre_strides, INDEX), _pixels(image, y, x, add_strides, INDEX)
    first_at, second_at = first.to(INDEX) * pre_strides[1], (first + half).to(INDEX) * pre_strides[1]
    a = _complete(a, first, pre_ptr, pre + first_at, bias_ptr, add_ptr, add, add_strides, mask, INDEX)
    b = _complete(b, first + half, pre_ptr, pre + second_at, bias_ptr, add_ptr, add, add_strides, mask, INDEX)
    if cond_ptr is not None:
        cond = cond_ptr + _pixels(image, y, x, cond_strides, INDEX)
        a += tl.load(cond + first.to(INDEX) * cond_strides[1], mask=mask, other=0.0).to(WIDE)
        b += tl.load(cond + (first + half).to(INDEX) * cond_strides[1], mask=mask, other=0.0).to(WIDE)
    out = out_ptr + _pixels(image, y, x, out_strides, INDEX) + (group * half + pair)[None, :].to(INDEX) * out_strides[1]
    tl.store(out, gate(a, b, out_ptr.dtype.element_ty), mask=mask)


def forward(
    input: Tensor,  # [N, Cin, H, W]
    weight: Tensor,  # [2 C, Cin, kH, kW]
    bias: Tensor | None,  # [2 C]
    add: Tensor | None,  # [N, 2 C, H, W]
    cond: Tensor | None,  # [N, 2 C] or [N, 2 C, H, W]
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
    side: Tensor | None = None,  # [N, K, H, W]
    side_weight: Tensor | None = None,  # [2 C, K, 1, 1]
) -> tuple[Tensor, Tensor]:
    """pre [N, 2 C, H, W] and out [N, C, H, W]"""
    out = empty_images(input, weight.shape[0] // 2)
    cond = cond[:, :, None, None].expand(-1, -1, *input.shape[2:]) if cond is not None and cond.dim() == 2 else cond
    bias, mask = bias if bias is None else bias.contiguous(), (taps, color_groups, strict, dilation)
    packed, channels = None, 0
    if side is not None and side_weight is not None and out.numel():
        channels = side.shape[1]
        with device_of(input):
            packed = convolution.pack(side_weight, (0,), centre=False, group_n=len(weight) // color_groups, pairs=True)
    tensors = (out, add, cond, side if channels else None)
    more: list[object] = [given for t in tensors for given in (t, (0, 0, 0, 0) if t is None else t.stride())]
    more += [packed, channels]
    return multiply(gated_masked_conv2d_fwd_kernel, input, weight, bias, *mask, *more, pairs=True), out
