"""Triton kernels of crf_decode: the best scores forwards, and the way back."""

import triton
import triton.language as tl

from ._crf_chain import RUNTIME, finite, matrix, read, span, vector


@triton.jit(do_not_specialize=RUNTIME)
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
    length, _ = span(lengths_ptr, n, steps)
    a = matrix(transitions_ptr, k, 1, k, WIDE, BLOCK)
    state = vector(start_ptr, k, WIDE, BLOCK)
    total = tl.zeros((), tl.float64)
    for t in range(0, length):
        if t > 0:
            state = tl.max(state[:, None] + a, axis=0)
        state += read(emissions_ptr, n, t, strides, k, WIDE, BLOCK)
        m = finite(tl.max(state, axis=0))
        state -= m
        total += m.to(tl.float64)
        tl.store(states_ptr + (n * steps + t) * k + j, state, mask=j < k)
    tl.store(totals_ptr + n, total)


@triton.jit(do_not_specialize=RUNTIME)
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
    length, wrong = span(lengths_ptr, n, steps)
    plus = vector(end_ptr, k, WIDE, BLOCK)
    total = tl.load(totals_ptr + n)
    for back in range(0, length):
        t = length - 1 - back
        x = tl.load(states_ptr + (n * steps + t) * k + j, mask=j < k, other=float("-inf")) + plus
        tag = tl.minimum(tl.argmax(x, axis=0), k - 1)  # where NaN compares with nothing it might be none
        if back == 0:
            total += tl.max(x, axis=0).to(tl.float64)
        tl.store(tags_ptr + n * steps + t, tag.to(tl.int64))
        plus = tl.load(transitions_ptr + j * k + tag, mask=j < k, other=float("-inf")).to(WIDE)
    for t in range(length, steps):
        tl.store(tags_ptr + n * steps + t, tl.full((), -1, tl.int64))
    tl.store(scores_ptr + n, tl.where(wrong, float("nan"), total).to(WIDE))
