"""What the kernels of `logistic_mixture_nll` read of a position and its components, for a block of positions and components."""

import triton
import triton.language as tl

from ._logistic import discretised_logistic, scaled_level, tanh_of
from ._softplus import exp_minus_abs


@triton.jit
def rows_of(params_ptr, place, at, strides, mask, WIDE: tl.constexpr):
    """A parameter of each position and component, [BLOCK, KINDS]."""
    return tl.load(params_ptr + place + at * strides[1], mask=mask, other=0.0).to(WIDE)


@triton.jit
def _floored(raw, least):
    return tl.where(raw < least, least, raw)  # NaN stays


@triton.jit
def grey_parts(params_ptr, place, k, strides, mask, v, edge, components, least, num_levels, WIDE: tl.constexpr):
    """The logit, the joint logarithm and its parts' slopes of each position and component."""
    logit = rows_of(params_ptr, place, k, strides, mask, WIDE)
    mean = rows_of(params_ptr, place, components + k, strides, mask, WIDE)
    raw = rows_of(params_ptr, place, 2 * components + k, strides, mask, WIDE)
    log_p, to_mean, to_scale = discretised_logistic(v, edge, mean, _floored(raw, least), num_levels)
    return logit, logit + log_p, to_mean, tl.where(raw < least, 0.0, to_scale), raw < least


@triton.jit
def _channel(params_ptr, place, first, strides, mask, v, edge, more, components, least, num_levels, WIDE: tl.constexpr):
    """One channel of three: `more` is what its mean has of the channels before."""
    mean = rows_of(params_ptr, place, first, strides, mask, WIDE) + more
    raw = rows_of(params_ptr, place, first + components, strides, mask, WIDE)
    log_p, to_mean, to_scale = discretised_logistic(v, edge, mean, _floored(raw, least), num_levels)
    return log_p, to_mean, to_scale, raw < least


@triton.jit
def colour_parts(
    params_ptr, place, k, strides, mask, red, green, blue, at_red, at_green, at_blue, components, least, num_levels,
    WIDE: tl.constexpr,
):  # fmt: skip
    logit = rows_of(params_ptr, place, k, strides, mask, WIDE)
    t0, s0 = tanh_of(rows_of(params_ptr, place, 3 * components + k, strides, mask, WIDE))
    t1, s1 = tanh_of(rows_of(params_ptr, place, 6 * components + k, strides, mask, WIDE))
    t2, s2 = tanh_of(rows_of(params_ptr, place, 9 * components + k, strides, mask, WIDE))
    p0, m0, l0, f0 = _channel(
        params_ptr, place, components + k, strides, mask, red, at_red, 0.0, components, least, num_levels, WIDE
    )
    p1, m1, l1, f1 = _channel(
        params_ptr, place, 4 * components + k, strides, mask, green, at_green, t0 * red, components, least, num_levels,
        WIDE,
    )  # fmt: skip
    p2, m2, l2, f2 = _channel(
        params_ptr, place, 7 * components + k, strides, mask, blue, at_blue, t1 * red + t2 * green, components, least,
        num_levels, WIDE,
    )  # fmt: skip
    slopes = (m0, l0, f0, m1 * s0 * red, m1, l1, f1, m2 * s1 * red, m2, l2, f2, m2 * s2 * green)
    return logit, logit + (p0 + p1 + p2), slopes


@triton.jit
def add_terms(top, total, values, mask):
    """A log-sum-exp, of one block of components more: its largest number and the sum beside that."""
    LOWEST: tl.constexpr = -1.7976931348623157e308 if top.dtype == tl.float64 else -3.402823466e38
    largest = tl.max(tl.where(mask & (values > LOWEST), values, LOWEST), axis=1)
    larger = tl.where(largest > top, largest, top)
    terms = tl.where(mask, exp_minus_abs(values - larger[:, None]), 0.0)
    return larger, total * exp_minus_abs(top - larger) + tl.sum(terms, axis=1)


@triton.jit
def place_of(tiles, positions, strides, BLOCK: tl.constexpr):
    program = tl.program_id(0).to(tl.int64)
    image = program // tiles
    position = (program - image * tiles) * BLOCK + tl.arange(0, BLOCK)
    return image, position, position < positions


@triton.jit
def level_of(x_ptr, image, position, live, channel, strides, num_levels, WIDE: tl.constexpr):
    at = image * strides[0] + (tl.zeros((), tl.int64) + channel) * strides[1] + position * strides[2]
    x = tl.load(x_ptr + at, mask=live, other=0)
    v, edge = scaled_level(x.to(tl.int64), num_levels, WIDE)
    return v[:, None], edge[:, None]
