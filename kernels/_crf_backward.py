"""Triton kernels of the gradients of crf: back along the chains, the transitions' products, and sums over groups."""

import triton
import triton.language as tl

from ._compat import bits_float, cast, dot
from ._crf_chain import RUNTIME, finite, log_sum, matrix, read, span, vector, weights


@triton.jit(do_not_specialize=RUNTIME)
def crf_bwd_kernel(
    emissions_ptr,  # [N, T, K]
    transitions_ptr,  # [K, K]
    end_ptr,  # [K] or None
    tags_ptr,  # [N, T] or None
    lengths_ptr,  # [N] or None
    kept_ptr,  # [N, T, K + 1], and a number
    grad_ptr,  # [N] or []
    grads_ptr,  # [N, T, K], written, or None
    u_ptr,  # [N, T, K], written, or None; of scaled sums times the upstream gradient
    ends_ptr,  # [2, N, K], written where u is: the gradients of start and end, still to be summed
    strides,
    grads_strides,
    steps,
    k,
    grad_stride,
    scale_bits,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    MOST: tl.constexpr = 600.0 if tl.float64 == WIDE else 60.0  # more only where all q are 0
    n = tl.program_id(0).to(tl.int64)
    sequences = tl.num_programs(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    length, wrong = span(lengths_ptr, n, steps)
    g = tl.load(grad_ptr + n * grad_stride) * bits_float(scale_bits, WIDE)
    if tags_ptr is not None:
        bad = 0
        for first in range(0, length, BLOCK):
            y = tl.load(tags_ptr + n * steps + first + j, mask=first + j < length, other=0)
            bad += tl.sum(tl.where((y < 0) | (y >= k), 1, 0), axis=0)
        wrong = wrong | (bad > 0)
    g = tl.where(wrong, float("nan"), g)
    a, end = matrix(transitions_ptr, 1, k, k, WIDE, BLOCK), vector(end_ptr, k, WIDE, BLOCK)
    scaled, _, _, a, end = weights(a, end, k, WIDE, BLOCK)
    if length == 0:  # noqa: SIM102  # the other condition is known when compiled
        if ends_ptr is not None:
            tl.store(ends_ptr + n * k + j, tl.zeros((BLOCK,), WIDE), mask=j < k)
            tl.store(ends_ptr + (sequences + n) * k + j, tl.zeros((BLOCK,), WIDE), mask=j < k)
    columns = j.to(tl.int64) * grads_strides[2]
    v = end
    for back in range(0, length):
        t = length - 1 - back
        row = kept_ptr + (n * steps + t) * (k + 1)
        state = tl.load(row + j, mask=j < k, other=0.0)
        m = tl.load(row + k)
        e = read(emissions_ptr, n, t, strides, k, WIDE, BLOCK)
        # What the chances sum to is 1 but for the end's weights at first, and then for the rounding of all steps so far.
        if scaled:
            chance = state * v
            sum = tl.sum(chance, axis=0)
            inverse = tl.where(sum == 0.0, 0.0, 1.0 / sum)
            chance = chance * inverse
            u = v * inverse * tl.exp(tl.minimum(e - m, MOST))
        else:
            x = state + v
            sum = finite(log_sum(tl.where(j < k, x, float("-inf"))))
            chance = tl.where(j < k, tl.exp(x - sum), 0.0)
            u = v + (e - m) - sum
        if tags_ptr is not None:
            chance -= tl.where(j == tl.load(tags_ptr + n * steps + t), 1.0, 0.0)
        slope = g * chance
        if grads_ptr is not None:
            at = n * grads_strides[0] + (tl.zeros((), tl.int64) + t) * grads_strides[1] + columns
            tl.store(grads_ptr + at, cast(slope, grads_ptr.dtype.element_ty), mask=j < k)
        if u_ptr is not None:
            tl.store(
                u_ptr + (n * steps + t) * k + j, tl.where(scaled, u * g, tl.where(wrong, float("nan"), u)), mask=j < k
            )
            if t == 0:
                tl.store(ends_ptr + n * k + j, slope, mask=j < k)
            if back == 0:
                tl.store(ends_ptr + (sequences + n) * k + j, slope, mask=j < k)
        if scaled:  # noqa: SIM108
            v = tl.sum(u[:, None] * a, axis=0)
        else:
            v = log_sum(u[:, None] + a)
    if grads_ptr is not None:
        for t in range(length, steps):
            at = n * grads_strides[0] + (tl.zeros((), tl.int64) + t) * grads_strides[1] + columns
            tl.store(grads_ptr + at, tl.zeros((BLOCK,), grads_ptr.dtype.element_ty), mask=j < k)


@triton.jit(do_not_specialize=(*RUNTIME, "sequences", "each"))
def crf_bwd_transitions_kernel(
    transitions_ptr,  # [K, K]
    tags_ptr,  # [N, T] or None
    lengths_ptr,  # [N] or None
    kept_ptr,  # [N, T, K + 1], and a number
    grad_ptr,  # [N] or []
    u_ptr,  # [N, T, K]
    partial_ptr,  # [groups, K, K], written
    top_ptr,  # []: what is taken off the transitions where sums are scaled
    sequences,
    each,  # sequences of a group
    steps,
    k,
    grad_stride,
    scale_bits,
    WIDE: tl.constexpr,
    TILE: tl.constexpr,
    STEPS: tl.constexpr,
):
    group = tl.program_id(0).to(tl.int64)
    tiles = tl.cdiv(k, TILE)
    i = tl.program_id(1) // tiles * TILE + tl.arange(0, TILE)
    j = tl.program_id(1) % tiles * TILE + tl.arange(0, TILE)
    inside = (i < k)[:, None] & (j < k)[None, :]
    a = tl.load(transitions_ptr + i[:, None] * k + j[None, :], mask=inside, other=float("-inf"))
    scaled = tl.load(kept_ptr + (tl.zeros((), tl.int64) + sequences) * steps * (k + 1)) != 0.0
    pairs, counts = tl.zeros((TILE, TILE), WIDE), tl.zeros((TILE, TILE), WIDE)
    for n in range(group * each, tl.minimum((group + 1) * each, sequences)):
        length, _ = span(lengths_ptr, n, steps)
        g = tl.load(grad_ptr + n * grad_stride) * bits_float(scale_bits, WIDE)
        if scaled:
            for first in range(1, length, STEPS):
                t = first + tl.arange(0, STEPS)
                live = (t < length)[:, None]
                before = kept_ptr + (n * steps + t - 1)[:, None] * (k + 1) + i[None, :]
                state = tl.load(before, mask=live & (i < k)[None, :], other=0.0)
                u = tl.load(u_ptr + (n * steps + t)[:, None] * k + j[None, :], mask=live & (j < k)[None, :], other=0.0)
                pairs = dot(tl.trans(state), u, pairs, "ieee")
        else:
            for t in range(1, length):
                state = tl.load(kept_ptr + (n * steps + t - 1) * (k + 1) + i, mask=i < k, other=0.0)
                u = tl.load(u_ptr + (n * steps + t) * k + j, mask=j < k, other=0.0)
                pairs += g * tl.exp(state[:, None] + (a + u[None, :]))
        if tags_ptr is not None:
            for first in range(1, length, STEPS):
                t = first + tl.arange(0, STEPS)
                y = tl.load(tags_ptr + n * steps + t, mask=t < length, other=-1)
                before = tl.load(tags_ptr + n * steps + t - 1, mask=t < length, other=-1)
                ones = tl.where(before[:, None] == i[None, :], 1.0, 0.0).to(WIDE)
                hits = tl.where(y[:, None] == j[None, :], g, 0.0).to(WIDE)
                counts = dot(tl.trans(ones), hits, counts, "ieee")
    if scaled:
        pairs *= tl.exp(a - tl.load(top_ptr))
    at = group * k * k + i[:, None] * k + j[None, :]
    tl.store(partial_ptr + at, tl.where(inside, pairs, 0.0) - counts, mask=inside)


@triton.jit(do_not_specialize=("rows", "columns"))
def crf_sums_kernel(
    partial_ptr,  # [rows, columns]
    sums_ptr,  # [columns], written
    rows,
    columns,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    sums = tl.zeros((ROWS, COLUMNS), tl.float64)
    for first in range(0, rows, ROWS):
        row = first + tl.arange(0, ROWS)
        mask = (row < rows)[:, None] & (column < columns)[None, :]
        at = row.to(tl.int64)[:, None] * columns + column[None, :]
        sums += tl.load(partial_ptr + at, mask=mask, other=0.0).to(tl.float64)
    total = tl.sum(sums, axis=0).to(partial_ptr.dtype.element_ty)
    tl.store(sums_ptr + column, cast(total, sums_ptr.dtype.element_ty), mask=column < columns)
