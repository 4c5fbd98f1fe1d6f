"""Triton kernels of crf, and their launcher. Not yet run on a GPU.

A program takes a sequence: the matrix [K, K] stays in its registers, of a step it reads K emissions and, for backward, writes
a state, 4 (K + 1) bytes. Formulas and when sums are scaled: pygen/reference/crf.py, csrc/common/crf.h. The transitions' gradient
is a product of the states by what backward leaves, K x K with a sum over all steps, in groups of sequences.
N=64, T=512, K=64, float32: 8 MB of emissions and as much of states each way; the 512 steps one after the other decide the time.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks
from ._compat import OPTIONS, bits_float, cast, device_of, dot, float_bits, tl_wide
from ._loss_sums import add_up

MOST_TAGS = 64  # with more, a program would spill its matrix

_RUNTIME = ("steps", "k", "grad_stride")  # no compilation of their own for 1


@triton.jit
def _vector(ptr, k, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """start or end, zeros if None; -inf past the last tag."""
    j = tl.arange(0, BLOCK)
    if ptr is None:
        return tl.where(j < k, 0.0, float("-inf")).to(WIDE)
    else:
        return tl.load(ptr + j, mask=j < k, other=float("-inf")).to(WIDE)


@triton.jit
def _matrix(transitions_ptr, row, column, k, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """row and column: strides, of the sum's axis and of the other; -inf past the last tag."""
    i, j = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    return tl.load(transitions_ptr + i * row + j * column, mask=(i < k) & (j < k), other=float("-inf")).to(WIDE)


@triton.jit
def _span(lengths_ptr, n, steps):
    """The sequence's length, and whether it is one."""
    if lengths_ptr is None:
        return steps, n < 0
    else:
        given = tl.load(lengths_ptr + n)
        wrong = (given < 0) | (given > steps)
        return tl.minimum(tl.maximum(given, 0), steps).to(tl.int32), wrong


@triton.jit
def _weights(a, end, k, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """Whether sums are scaled; what was taken off the transitions, and off the end; both as kernels sum with them."""
    RANGE: tl.constexpr = 400.0 if tl.float64 == WIDE else 40.0
    i, j = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    top = tl.max(tl.max(a, axis=1), axis=0)
    end_top = tl.max(end, axis=0)
    far = tl.sum(tl.sum(tl.where((i < k) & (j < k) & ~(top - a <= RANGE), 1, 0), axis=1), axis=0)
    far += tl.sum(tl.where((tl.arange(0, BLOCK) < k) & ~(end_top - end <= RANGE), 1, 0), axis=0)
    scaled = far == 0
    top = tl.where(scaled, top, 0.0)
    end_top = tl.where(scaled, end_top, 0.0)
    if scaled:
        a = tl.exp(a - top)
        end = tl.exp(end - end_top)
    return scaled, top, end_top, a, end


@triton.jit
def _finite(x):
    return tl.where(x == float("-inf"), 0.0, x)


@triton.jit
def _log_sum(x):
    """log sum e^x over the first axis, -inf of what is -inf throughout."""
    top = _finite(tl.max(x, axis=0))
    return top + tl.log(tl.sum(tl.exp(x - top), axis=0))


@triton.jit
def _read(emissions_ptr, n, t, strides, k, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """Emissions of a step, -inf past the last tag."""
    j = tl.arange(0, BLOCK)
    at = n * strides[0] + (tl.zeros((), tl.int64) + t) * strides[1] + j.to(tl.int64) * strides[2]
    return tl.load(emissions_ptr + at, mask=j < k, other=float("-inf")).to(WIDE)


@triton.jit
def _score(
    emissions_ptr, transitions_ptr, start_ptr, end_ptr, tags_ptr, n, length, strides, steps, k, BLOCK: tl.constexpr
):
    """Of the tags, and how many of them are none."""
    total = tl.zeros((BLOCK,), tl.float64)
    wrong = tl.zeros((BLOCK,), tl.int32)
    for first in range(0, length, BLOCK):
        t = first + tl.arange(0, BLOCK)
        y = tl.load(tags_ptr + n * steps + t, mask=t < length, other=0)
        before = tl.load(tags_ptr + n * steps + t - 1, mask=(t < length) & (t > 0), other=0)
        valid = (y >= 0) & (y < k)
        wrong += tl.where(valid, 0, 1)
        live = (t < length) & valid
        at = n * strides[0] + t.to(tl.int64) * strides[1] + y * strides[2]
        total += tl.load(emissions_ptr + at, mask=live, other=0.0).to(tl.float64)
        moved = live & (t > 0) & (before >= 0) & (before < k)
        total += tl.load(transitions_ptr + before * k + y, mask=moved, other=0.0).to(tl.float64)
        if start_ptr is not None:
            total += tl.load(start_ptr + y, mask=live & (t == 0), other=0.0).to(tl.float64)
        if end_ptr is not None:
            total += tl.load(end_ptr + y, mask=live & (t == length - 1), other=0.0).to(tl.float64)
    return tl.sum(total, axis=0), tl.sum(wrong, axis=0)


@triton.jit(do_not_specialize=_RUNTIME)
def crf_fwd_kernel(
    emissions_ptr,  # [N, T, K]
    transitions_ptr,  # [K, K]
    start_ptr,  # [K] or None
    end_ptr,  # [K] or None
    tags_ptr,  # [N, T] or None
    lengths_ptr,  # [N] or None
    nll_ptr,  # [N], or None: for kept alone
    kept_ptr,  # [N, T, K + 1]: states and what they were scaled by, then whether sums are scaled; or None
    strides,
    steps,
    k,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    MOST: tl.constexpr = 600.0 if tl.float64 == WIDE else 60.0  # more only where all q are 0
    n = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    length, wrong = _span(lengths_ptr, n, steps)
    a, end = _matrix(transitions_ptr, k, 1, k, WIDE, BLOCK), _vector(end_ptr, k, WIDE, BLOCK)
    scaled, top, end_top, a, end = _weights(a, end, k, WIDE, BLOCK)
    state = _vector(start_ptr, k, WIDE, BLOCK)
    total = tl.zeros((), tl.float64)
    for t in range(0, length):
        e = _read(emissions_ptr, n, t, strides, k, WIDE, BLOCK)
        if t == 0:
            x = state + e
            m = _finite(tl.max(x, axis=0))
            state = x - m
            if scaled:
                state = tl.exp(state)
        else:
            if scaled:
                q = tl.sum(state[:, None] * a, axis=0)
                m = _finite(tl.max(e + tl.log(q), axis=0))
                state = q * tl.exp(tl.minimum(e - m, MOST))
            else:
                x = _log_sum(state[:, None] + a) + e
                m = _finite(tl.max(x, axis=0))
                state = x - m
            total += top.to(tl.float64)
        total += m.to(tl.float64)
        if kept_ptr is not None:
            row = kept_ptr + (n * steps + t) * (k + 1)
            tl.store(row + j, state, mask=j < k)
            tl.store(row + k, m)
    if kept_ptr is not None:
        flag = kept_ptr + tl.num_programs(0).to(tl.int64) * steps * (k + 1)
        tl.store(flag, scaled.to(WIDE), mask=n == 0)
    if nll_ptr is not None:
        if scaled:
            z = total + end_top.to(tl.float64) + tl.log(tl.sum(state * end, axis=0).to(tl.float64))
        else:
            z = total + _log_sum(state + end).to(tl.float64)
        z = tl.where(length > 0, z, 0.0)
        if tags_ptr is not None:
            score, bad = _score(
                emissions_ptr, transitions_ptr, start_ptr, end_ptr, tags_ptr, n, length, strides, steps, k, BLOCK
            )
            never = (z == float("-inf")) & (score == float("-inf"))
            z = tl.where(never, float("inf"), z - score)
            wrong = wrong | (bad > 0)
        tl.store(nll_ptr + n, tl.where(wrong, float("nan"), z).to(WIDE))


@triton.jit(do_not_specialize=_RUNTIME)
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
    length, wrong = _span(lengths_ptr, n, steps)
    g = tl.load(grad_ptr + n * grad_stride) * bits_float(scale_bits, WIDE)
    if tags_ptr is not None:
        bad = 0
        for first in range(0, length, BLOCK):
            y = tl.load(tags_ptr + n * steps + first + j, mask=first + j < length, other=0)
            bad += tl.sum(tl.where((y < 0) | (y >= k), 1, 0), axis=0)
        wrong = wrong | (bad > 0)
    g = tl.where(wrong, float("nan"), g)
    a, end = _matrix(transitions_ptr, 1, k, k, WIDE, BLOCK), _vector(end_ptr, k, WIDE, BLOCK)
    scaled, _, _, a, end = _weights(a, end, k, WIDE, BLOCK)
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
        e = _read(emissions_ptr, n, t, strides, k, WIDE, BLOCK)
        # What the chances sum to is 1 but for the end's weights at first, and then for the rounding of all steps so far.
        if scaled:
            chance = state * v
            sum = tl.sum(chance, axis=0)
            inverse = tl.where(sum == 0.0, 0.0, 1.0 / sum)
            chance = chance * inverse
            u = v * inverse * tl.exp(tl.minimum(e - m, MOST))
        else:
            x = state + v
            sum = _finite(_log_sum(tl.where(j < k, x, float("-inf"))))
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
            v = _log_sum(u[:, None] + a)
    if grads_ptr is not None:
        for t in range(length, steps):
            at = n * grads_strides[0] + (tl.zeros((), tl.int64) + t) * grads_strides[1] + columns
            tl.store(grads_ptr + at, tl.zeros((BLOCK,), grads_ptr.dtype.element_ty), mask=j < k)


@triton.jit(do_not_specialize=(*_RUNTIME, "sequences", "each"))
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
        length, _ = _span(lengths_ptr, n, steps)
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


@triton.jit(do_not_specialize=_RUNTIME)
def crf_best_kernel(
    emissions_ptr,  # [N, T, K]
    transitions_ptr,  # [K, K]
    start_ptr,  # [K] or None
    lengths_ptr,  # [N] or None
    states_ptr,  # [N, T, K], written
    totals_ptr,  # [N], float64, written: what was taken off the states
    strides,
    steps,
    k,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The best score of each tag so far, less the best of all."""
    n = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    length, _ = _span(lengths_ptr, n, steps)
    a = _matrix(transitions_ptr, k, 1, k, WIDE, BLOCK)
    state = _vector(start_ptr, k, WIDE, BLOCK)
    total = tl.zeros((), tl.float64)
    for t in range(0, length):
        if t > 0:
            state = tl.max(state[:, None] + a, axis=0)
        state += _read(emissions_ptr, n, t, strides, k, WIDE, BLOCK)
        m = _finite(tl.max(state, axis=0))
        state -= m
        total += m.to(tl.float64)
        tl.store(states_ptr + (n * steps + t) * k + j, state, mask=j < k)
    tl.store(totals_ptr + n, total)


@triton.jit(do_not_specialize=_RUNTIME)
def crf_decode_kernel(
    transitions_ptr,  # [K, K]
    end_ptr,  # [K] or None
    lengths_ptr,  # [N] or None
    states_ptr,  # [N, T, K]
    totals_ptr,  # [N]
    tags_ptr,  # [N, T], written
    scores_ptr,  # [N], written
    steps,
    k,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    length, wrong = _span(lengths_ptr, n, steps)
    plus = _vector(end_ptr, k, WIDE, BLOCK)
    total = tl.load(totals_ptr + n)
    for back in range(0, length):
        t = length - 1 - back
        x = tl.load(states_ptr + (n * steps + t) * k + j, mask=j < k, other=float("-inf")) + plus
        tag = tl.argmax(x, axis=0)
        if back == 0:
            total += tl.max(x, axis=0).to(tl.float64)
        tl.store(tags_ptr + n * steps + t, tag.to(tl.int64))
        plus = tl.load(transitions_ptr + j * k + tag, mask=j < k, other=float("-inf")).to(WIDE)
    for t in range(length, steps):
        tl.store(tags_ptr + n * steps + t, tl.full((), -1, tl.int64))
    tl.store(scores_ptr + n, tl.where(wrong, float("nan"), total).to(WIDE))


class _Call:
    """The emissions with their strides, all else contiguous and in the dtype computed in."""

    def __init__(self, emissions, transitions, start, end, tags, lengths) -> None:
        self.emissions, (self.sequences, self.steps, self.k) = emissions, emissions.shape
        self.wide = torch.promote_types(emissions.dtype, torch.float32)
        floating = (None if t is None else t.to(self.wide).contiguous() for t in (transitions, start, end))
        self.transitions, self.start, self.end = floating
        self.tags, self.lengths = (None if t is None else t.contiguous() for t in (tags, lengths))
        self.block, warps = _blocks.crf_tile(emissions.dtype, self.k)
        self.sizes = self.steps, self.k
        self.constants = {"WIDE": tl_wide(self.wide), "BLOCK": self.block, "num_warps": warps, **OPTIONS}

    def empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.wide, device=self.emissions.device)

    def kept(self) -> Tensor:
        return self.empty(self.sequences * self.steps * (self.k + 1) + 1)

    def forward(self, nll: Tensor | None, kept: Tensor | None) -> None:
        crf_fwd_kernel[(self.sequences,)](
            self.emissions, self.transitions, self.start, self.end, self.tags, self.lengths, nll, kept,
            self.emissions.stride(), *self.sizes, **self.constants,
        )  # fmt: skip

    def sums(self, partial: Tensor, out: Tensor) -> Tensor:
        columns = out.numel()
        block = _blocks.CRF_SUMS_COLUMNS
        crf_sums_kernel[(triton.cdiv(columns, block),)](
            partial, out, partial.numel() // columns, columns, ROWS=_blocks.CRF_SUMS_ROWS, COLUMNS=block, **OPTIONS
        )
        return out


def _forward(call: _Call, reduction: str, kept: Tensor | None) -> Tensor:
    nll = call.empty(*(call.emissions.shape[:1] if reduction == "none" else ()))
    scale = _scale(reduction, call.sequences)
    if call.sequences == 0:
        return nll.fill_(scale * 0.0)
    each = nll if reduction == "none" else call.empty(call.sequences)
    with device_of(call.emissions):
        call.forward(each, kept)
        if each is not nll:
            add_up(each, nll, scale)
    return nll


def _scale(reduction: str, sequences: int) -> float:
    if reduction != "batchmean":
        return 1.0
    return 1.0 / sequences if sequences else float("nan")


def forward(
    emissions: Tensor,  # [N, T, K]
    transitions: Tensor,  # [K, K]
    start: Tensor | None,  # [K]
    end: Tensor | None,  # [K]
    tags: Tensor | None,  # [N, T], int64; None: log Z alone
    lengths: Tensor | None,  # [N], int64
    reduction: str,
) -> Tensor:
    """log Z - s(tags), or log Z, [N] or a scalar."""
    return _forward(_Call(emissions, transitions, start, end, tags, lengths), reduction, None)


def forward_and_keep(
    emissions: Tensor,  # [N, T, K]
    transitions: Tensor,  # [K, K]
    start: Tensor | None,  # [K]
    end: Tensor | None,  # [K]
    tags: Tensor | None,  # [N, T]
    lengths: Tensor | None,  # [N]
    reduction: str,
) -> tuple[Tensor, Tensor]:
    """forward's result and what spares backward the way there."""
    call = _Call(emissions, transitions, start, end, tags, lengths)
    kept = call.kept()
    return _forward(call, reduction, kept), kept


def backward(
    grad: Tensor,  # [N] or []
    emissions: Tensor,  # [N, T, K]
    transitions: Tensor,  # [K, K]
    start: Tensor | None,  # [K]
    end: Tensor | None,  # [K]
    tags: Tensor | None,  # [N, T]
    lengths: Tensor | None,  # [N]
    reduction: str,
    needs: Sequence[bool],
    kept: Tensor | None,
) -> list[Tensor | None]:
    """The gradients of emissions, transitions, start and end, None where not needed."""
    call = _Call(emissions, transitions, start, end, tags, lengths)
    n, steps, k = emissions.shape
    grad_emissions = torch.empty_like(emissions) if needs[0] else None
    inputs = (transitions, start, end)
    grads = [torch.empty(t.shape, dtype=t.dtype, device=t.device) if need else None
             for t, need in zip(inputs, needs[1:], strict=True)]  # fmt: skip
    if n == 0 or steps == 0:
        return [grad_emissions, *(None if t is None else t.zero_() for t in grads)]
    more = any(needs[1:])
    u, ends = (call.empty(n, steps, k), call.empty(2, n, k)) if more else (None, None)
    upstream = grad.stride(0) if grad.dim() else 0, float_bits(_scale(reduction, n))
    with device_of(emissions):
        if kept is None:
            kept = call.kept()
            call.forward(None, kept)
        strides = (0, 0, 0) if grad_emissions is None else grad_emissions.stride()
        crf_bwd_kernel[(n,)](
            emissions, call.transitions, call.end, call.tags, call.lengths, kept, grad, grad_emissions, u, ends,
            emissions.stride(), strides, *call.sizes, *upstream, **call.constants,
        )  # fmt: skip
        if grads[0] is not None:
            _transitions(call, kept, grad, u, upstream, grads[0])
        for i, out in enumerate(grads[1:]):
            if out is not None:
                call.sums(ends[i], out)
    return [grad_emissions, *grads]


def _transitions(call: _Call, kept: Tensor, grad: Tensor, u: Tensor, upstream: tuple, out: Tensor) -> None:
    n, k = call.sequences, call.k
    tile = min(max(call.block, 16), _blocks.CRF_TILE)
    groups = min(n, _blocks.CRF_GROUPS)
    each = -(-n // groups)
    groups = -(-n // each)
    partial = call.empty(groups, k, k)
    crf_bwd_transitions_kernel[(groups, triton.cdiv(k, tile) ** 2)](
        call.transitions, call.tags, call.lengths, kept, grad, u, partial, call.transitions.amax(), n, each, *call.sizes,
        *upstream, WIDE=tl_wide(call.wide), TILE=tile, STEPS=_blocks.CRF_STEPS, num_warps=_blocks.CRF_TILE_WARPS, **OPTIONS,
    )  # fmt: skip
    call.sums(partial, out)


def decode(
    emissions: Tensor,  # [N, T, K]
    transitions: Tensor,  # [K, K]
    start: Tensor | None,  # [K]
    end: Tensor | None,  # [K]
    lengths: Tensor | None,  # [N]
) -> tuple[Tensor, Tensor]:
    """The likeliest tags [N, T], -1 past the length, and their scores [N]."""
    call = _Call(emissions, transitions, start, end, None, lengths)
    tags = torch.empty(emissions.shape[:2], dtype=torch.int64, device=emissions.device)
    scores = call.empty(call.sequences)
    if call.sequences == 0:
        return tags, scores
    states = call.empty(*emissions.shape)
    totals = torch.empty(call.sequences, dtype=torch.float64, device=emissions.device)
    with device_of(emissions):
        crf_best_kernel[(call.sequences,)](
            emissions,
            call.transitions,
            call.start,
            call.lengths,
            states,
            totals,
            emissions.stride(),
            *call.sizes,
            **call.constants,
        )
        crf_decode_kernel[(call.sequences,)](
            call.transitions, call.end, call.lengths, states, totals, tags, scores, *call.sizes, **call.constants
        )
    return tags, scores
