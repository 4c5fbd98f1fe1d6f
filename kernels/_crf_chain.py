"""What a program of crf does on its way along a chain: the matrix, the sums, a step's emissions, the score of tags."""

import triton
import triton.language as tl

RUNTIME = ("steps", "k", "grad_stride")  # no compilation of their own for 1


@triton.jit
def vector(ptr, k, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """start or end, zeros if None; -inf past the last tag."""
    j = tl.arange(0, BLOCK)
    if ptr is None:
        return tl.where(j < k, 0.0, float("-inf")).to(WIDE)
    else:
        return tl.load(ptr + j, mask=j < k, other=float("-inf")).to(WIDE)


@triton.jit
def matrix(transitions_ptr, row, column, k, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """row and column: strides, of the sum's axis and of the other; -inf past the last tag."""
    i, j = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    return tl.load(transitions_ptr + i * row + j * column, mask=(i < k) & (j < k), other=float("-inf")).to(WIDE)


@triton.jit
def span(lengths_ptr, n, steps):
    """The sequence's length, and whether it is one."""
    if lengths_ptr is None:
        return steps, n < 0
    else:
        given = tl.load(lengths_ptr + n)
        wrong = (given < 0) | (given > steps)
        return tl.minimum(tl.maximum(given, 0), steps).to(tl.int32), wrong


@triton.jit
def weights(a, end, k, WIDE: tl.constexpr, BLOCK: tl.constexpr):
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
def finite(x):
    return tl.where(x == float("-inf"), 0.0, x)


@triton.jit
def log_sum(x):
    """log sum e^x over the first axis, -inf of what is -inf throughout."""
    top = finite(tl.max(x, axis=0))
    return top + tl.log(tl.sum(tl.exp(x - top), axis=0))


@triton.jit
def read(emissions_ptr, n, t, strides, k, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """Emissions of a step, -inf past the last tag."""
    j = tl.arange(0, BLOCK)
    at = n * strides[0] + (tl.zeros((), tl.int64) + t) * strides[1] + j.to(tl.int64) * strides[2]
    return tl.load(emissions_ptr + at, mask=j < k, other=float("-inf")).to(WIDE)


@triton.jit
def score(
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
