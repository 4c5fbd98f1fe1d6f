"""Triton kernels of vector_quantize, and their launcher. Not yet run on a GPU.

    index = argmax over k of <z, e_k> - |e_k|^2 / 2, of equals the lowest

nearest: a program takes a block of positions through all codes, a block of them at a time; its products [positions, codes] live
in registers, and of them the best score and code of each position. P K D multiply-adds; the codes come out of L2, K D T bytes
for each program: at 64 positions, D T bytes a code for 64 D multiply-adds. Then input's gradient reads z, its upstream gradient
and a code and writes one number an element; sums read each position's vector once, code after code.

A code that has most positions keeps one program busy with them: the order of its sum is fixed.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen._layout import empty_output
from pygen._segments import by_code
from pygen.native._likelihood import flat

from . import _blocks
from ._compat import OPTIONS, cast, device_of, dot, product_precision, tl_wide


@triton.jit
def _places(position, positions, strides):
    """Offsets [BLOCK, 1] of positions numbered through all images."""
    return ((position // positions) * strides[0] + (position % positions) * strides[2])[:, None]


@triton.jit
def _tile(ptr, place, start, live, channels, stride, BLOCK_D: tl.constexpr):
    """[BLOCK, BLOCK_D] from channel `start` on, 0 where there is nothing."""
    d = (start + tl.arange(0, BLOCK_D)).to(tl.int64)
    return tl.load(ptr + place + d[None, :] * stride, mask=live[:, None] & (d < channels)[None, :], other=0.0)


@triton.jit
def vector_quantize_nearest_kernel(
    input_ptr,  # [N, D, positions]
    codebook_ptr,  # [K, D]
    half_ptr,  # [K], half of |e|^2
    indices_ptr,  # [N, positions], written
    quantized_ptr,  # [N, D, positions], written
    distances_ptr,  # [N, positions], written
    strides,
    quantized_strides,
    codebook_strides,
    total,
    positions,
    channels,
    codes,
    PRECISION: tl.constexpr,
    ONCE: tl.constexpr,  # one block of channels
    WIDE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    position = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    live = position < total
    place = _places(position, positions, strides)
    best = tl.full((BLOCK_P,), float("-inf"), WIDE)
    found = tl.zeros((BLOCK_P,), tl.int32)
    z = _tile(input_ptr, place, 0, live, channels, strides[1], BLOCK_D)
    for start in range(0, codes, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        row = k.to(tl.int64)[:, None] * codebook_strides[0]
        acc = tl.zeros((BLOCK_P, BLOCK_K), WIDE)
        if ONCE:
            e = _tile(codebook_ptr, row, 0, k < codes, channels, codebook_strides[1], BLOCK_D)
            acc = dot(z, tl.trans(e), acc, PRECISION)
        else:
            for channel in range(0, channels, BLOCK_D):
                z = _tile(input_ptr, place, channel, live, channels, strides[1], BLOCK_D)
                e = _tile(codebook_ptr, row, channel, k < codes, channels, codebook_strides[1], BLOCK_D)
                acc = dot(z, tl.trans(e), acc, PRECISION)
        score = acc - tl.load(half_ptr + k, mask=k < codes, other=0.0)[None, :]
        score = tl.where((score == score) & (k < codes)[None, :], score, float("-inf"))
        most = tl.max(score, axis=1)
        first = tl.min(tl.where(score == most[:, None], k[None, :], codes), axis=1)
        found = tl.where(most > best, first, found)
        best = tl.where(most > best, most, best)
    found = tl.where(best == float("inf"), 0, found)
    tl.store(indices_ptr + position, found.to(tl.int64), mask=live)

    row = found.to(tl.int64)[:, None] * codebook_strides[0]
    to = _places(position, positions, quantized_strides)
    distance = tl.zeros((BLOCK_P,), WIDE)
    for channel in range(0, channels, BLOCK_D):
        z = _tile(input_ptr, place, channel, live, channels, strides[1], BLOCK_D)
        e = _tile(codebook_ptr, row, channel, live, channels, codebook_strides[1], BLOCK_D)
        d = (channel + tl.arange(0, BLOCK_D)).to(tl.int64)
        mask = live[:, None] & (d < channels)[None, :]
        tl.store(quantized_ptr + to + d[None, :] * quantized_strides[1], e, mask=mask)
        apart = z.to(WIDE) - e.to(WIDE)
        distance += tl.sum(apart * apart, axis=1)
    tl.store(distances_ptr + position, distance, mask=live)


@triton.jit
def vector_quantize_grad_input_kernel(
    grad_quantized_ptr,  # [N, D, positions]
    factor_ptr,  # [N]
    input_ptr,  # [N, D, positions]
    codebook_ptr,  # [K, D]
    indices_ptr,  # [N, positions]
    grad_ptr,  # [N, D, positions], written
    quantized_strides,
    strides,
    grad_strides,
    codebook_strides,
    total,
    positions,
    channels,
    ABOVE: tl.constexpr,  # whether there is a grad_quantized
    WIDE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    position = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    live = position < total
    channel = tl.program_id(1) * BLOCK_D
    row = tl.load(indices_ptr + position, mask=live, other=0)[:, None] * codebook_strides[0]
    factor = tl.load(factor_ptr + position // positions, mask=live, other=0.0)
    z = _tile(input_ptr, _places(position, positions, strides), channel, live, channels, strides[1], BLOCK_D)
    e = _tile(codebook_ptr, row, channel, live, channels, codebook_strides[1], BLOCK_D)
    grad = factor[:, None] * (z.to(WIDE) - e.to(WIDE))
    if ABOVE:
        above = _places(position, positions, quantized_strides)
        grad += _tile(grad_quantized_ptr, above, channel, live, channels, quantized_strides[1], BLOCK_D).to(WIDE)
    d = (channel + tl.arange(0, BLOCK_D)).to(tl.int64)
    to = _places(position, positions, grad_strides) + d[None, :] * grad_strides[1]
    tl.store(grad_ptr + to, cast(grad, grad_ptr.dtype.element_ty), mask=live[:, None] & (d < channels)[None, :])


@triton.jit
def vector_quantize_sums_kernel(
    order_ptr,  # [positions of all images], by code
    begins_ptr,  # [K + 1]
    factor_ptr,  # [N]
    input_ptr,  # [N, D, positions]
    codebook_ptr,  # [K, D]
    sums_ptr,  # [K, D], written
    strides,
    codebook_strides,
    positions,
    channels,
    GRADIENT: tl.constexpr,  # factor (e - z), not z
    WIDE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    code = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_D
    d = (channel + tl.arange(0, BLOCK_D)).to(tl.int64)
    begin, end = tl.load(begins_ptr + code), tl.load(begins_ptr + code + 1)
    own = tl.load(codebook_ptr + code * codebook_strides[0] + d * codebook_strides[1], mask=d < channels, other=0.0).to(
        WIDE
    )
    sums = tl.zeros((BLOCK_P, BLOCK_D), WIDE)
    for start in range(begin, end, BLOCK_P):
        i = start + tl.arange(0, BLOCK_P)
        position = tl.load(order_ptr + i, mask=i < end, other=0)
        place = _places(position, positions, strides)
        z = _tile(input_ptr, place, channel, i < end, channels, strides[1], BLOCK_D).to(WIDE)
        if GRADIENT:
            factor = tl.load(factor_ptr + position // positions, mask=i < end, other=0.0)
            z = tl.where((i < end)[:, None], factor[:, None] * (own[None, :] - z), 0.0)
        sums += z
    tl.store(sums_ptr + code * channels + d, tl.sum(sums, axis=0), mask=d < channels)


def forward(
    input: Tensor,  # [N, D, ...]
    codebook: Tensor,  # [K, D]
) -> tuple[Tensor, Tensor, Tensor]:
    """quantized like input, the indices [N, ...], the squared distances [N, positions]."""
    quantized = empty_output(input)
    z, written = flat(input), flat(quantized)
    images, channels, positions = z.shape
    wide = torch.promote_types(input.dtype, torch.float32)
    indices = torch.empty(input.shape[:1] + input.shape[2:], dtype=torch.int64, device=input.device)
    distances = torch.empty((images, positions), dtype=wide, device=input.device)
    if not indices.numel():
        return quantized, indices, distances
    half = codebook.detach().to(wide).square().sum(1) / 2
    rows, codes, depth = _blocks.quantize_tile(input.dtype, channels)
    with device_of(input):
        vector_quantize_nearest_kernel[(triton.cdiv(images * positions, rows),)](
            z, codebook, half, indices, written, distances, z.stride(), written.stride(), codebook.stride(),
            images * positions, positions, channels, len(codebook), PRECISION=product_precision(input),
            ONCE=channels <= depth, WIDE=tl_wide(input.dtype), BLOCK_P=rows, BLOCK_K=codes, BLOCK_D=depth,
            num_warps=_blocks.QUANTIZE_WIDE_WARPS if input.dtype == wide else _blocks.QUANTIZE_WARPS, **OPTIONS,
        )  # fmt: skip
    return quantized, indices, distances


def grad_input(
    grad_quantized: Tensor | None,  # [N, D, ...]
    factor: Tensor,  # [N], in the dtype computed in
    input: Tensor,  # [N, D, ...]
    codebook: Tensor,  # [K, D]
    indices: Tensor,  # [N, ...]
) -> Tensor:
    """grad_quantized + factor (z - e), like input."""
    result = torch.empty_like(input)
    if not result.numel():
        return result
    z, written = flat(input), flat(result)
    above = z if grad_quantized is None else flat(grad_quantized)
    images, channels, positions = z.shape
    rows, depth = _blocks.QUANTIZE_ROWS, _blocks.QUANTIZE_COLUMNS
    with device_of(input):
        vector_quantize_grad_input_kernel[(triton.cdiv(images * positions, rows), triton.cdiv(channels, depth))](
            above, factor.contiguous(), z, codebook, indices.contiguous(), written, above.stride(), z.stride(),
            written.stride(), codebook.stride(), images * positions, positions, channels,
            ABOVE=grad_quantized is not None, WIDE=tl_wide(input.dtype), BLOCK_P=rows, BLOCK_D=depth,
            num_warps=_blocks.QUANTIZE_WARPS, **OPTIONS,
        )  # fmt: skip
    if written.data_ptr() != result.data_ptr():
        result.copy_(written.view(result.shape))
    return result


def _sums(
    input: Tensor,  # [N, D, ...]
    order: Tensor,  # [positions of all images]
    begins: Tensor,  # [K + 1]
    codebook: Tensor | None,  # [K, D]
    factor: Tensor | None,  # [N]
) -> Tensor:
    """[K, D]"""
    z = flat(input)
    _, channels, positions = z.shape
    wide = torch.promote_types(input.dtype, torch.float32)
    total = torch.empty((len(begins) - 1, channels), dtype=wide, device=input.device)
    if not total.numel():
        return total
    codes = total if codebook is None else codebook
    depth = _blocks.QUANTIZE_COLUMNS
    with device_of(input):
        vector_quantize_sums_kernel[(len(total), triton.cdiv(channels, depth))](
            order, begins, total if factor is None else factor.contiguous(), z, codes, total, z.stride(), codes.stride(),
            max(positions, 1), channels, GRADIENT=factor is not None, WIDE=tl_wide(input.dtype),
            BLOCK_P=_blocks.QUANTIZE_SUMMED, BLOCK_D=depth, num_warps=_blocks.QUANTIZE_WARPS, **OPTIONS,
        )  # fmt: skip
    return total


def sums(
    input: Tensor,  # [N, D, ...]
    indices: Tensor,  # [N, ...]
    num_codes: int,
    codebook: Tensor | None = None,  # [K, D]
    factor: Tensor | None = None,  # [N], in the dtype computed in
) -> Tensor:
    """The sums of each code's vectors [K, D]; with a codebook and a factor those of factor (e - z)."""
    return _sums(input, *by_code(indices, num_codes), codebook, factor)


def statistics(
    input: Tensor,  # [N, D, ...]
    indices: Tensor,  # [N, ...]
    num_codes: int,
) -> tuple[Tensor, Tensor]:
    """How many positions each code has [K], int64, and the sums of their vectors [K, D]."""
    order, begins = by_code(indices, num_codes)
    return begins.diff(), _sums(input, order, begins, None, None)
