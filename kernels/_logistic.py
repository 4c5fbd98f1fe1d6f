"""One component and channel of logistic_mixture_nll: csrc/common/logistic_mixture_nll.h in Triton, which says why."""

import triton
import triton.language as tl

from ._elementary import exp_terms, exp_terms_float64, log_positive, quotient
from ._softplus import quick_exp_minus_abs


@triton.jit
def decay(y):
    """e^-y and 1 - e^-y for y >= 0, each with its own digits."""
    if y.dtype == tl.float64:
        _, less, _ = exp_terms_float64(-y)
        e = tl.exp(-y)
        one_minus_e = -less
    else:
        e, one_minus_e = _decay_float32(y)
    return e, one_minus_e


@triton.jit
def _decay_float32(y):
    x = tl.where(y > 87.0, 87.0, y)
    shifted = x * -1.44269504088896341 + 12582912.0
    n = shifted - 12582912.0
    r = n * -0.69314718055994531 - x
    z = r * r
    high = 1.9875691500e-4 * r + 1.3981999507e-3
    middle = 8.3334519073e-3 * r + 4.1665795894e-2
    low = 1.6666665459e-1 * r + 5.0000001201e-1
    p = ((high * z + middle) * z + low) * z + r  # e^r - 1
    scale = ((shifted.to(tl.int32, bitcast=True) + 127) << 23).to(tl.float32, bitcast=True)
    return tl.where(y > 87.0, 0.0, scale * p + scale), (1.0 - scale) - scale * p


@triton.jit
def tanh_of(c):
    """tanh(c) and its derivative, 4 e / (1 + e)^2 with e = exp(-2|c|)."""
    e, rest = decay(2.0 * tl.abs(c))
    inverse = 1.0 / (e + 1.0)
    size = rest * inverse
    return tl.where(c < 0.0, -size, size), 4.0 * e * inverse * inverse


@triton.jit
def log_or_nan(x):
    """log(x), x > 0; NaN stays."""
    if x.dtype == tl.float64:  # noqa: SIM108
        result = tl.log(x)
    else:
        result = log_positive(x) + (x - x)
    return result


@triton.jit
def scaled_level(x, num_levels, WIDE: tl.constexpr):
    """Where the level lies in [-1, 1], NaN of what is none; and -1, 1 or 0 for the lowest, the highest and others."""
    steps = num_levels - 1
    wrong = (x < 0) | (x > steps)
    level = tl.where(wrong, 0, x).to(tl.int32)
    twice = (2 * level - steps).to(WIDE)
    v = quotient(twice, tl.zeros_like(twice) + steps.to(WIDE))
    edge = tl.where(level == 0, -1.0, tl.where(level == steps, 1.0, 0.0)).to(WIDE)
    return tl.where(wrong, float("nan"), v), edge


@triton.jit
def discretised_logistic(v, edge, mean, log_scale, num_levels):
    """log p, in inner bins less log(2 h), and the derivatives of -log p by the mean and by the log scale."""
    WIDE: tl.constexpr = mean.dtype
    LEAST_EDGE: tl.constexpr = 1e-300 if tl.float64 == WIDE else 1e-35
    LEAST_WIDTH: tl.constexpr = 1e-30 if tl.float64 == WIDE else 1e-10
    LOG_LEAST: tl.constexpr = -69.07755278982137 if tl.float64 == WIDE else -23.025850929940457
    steps = (num_levels - 1).to(WIDE)
    half = 1.0 / steps
    if tl.float64 == WIDE:
        inverse = tl.exp(-log_scale)
        log_width = tl.log(2.0 / steps)
    else:
        inverse, _, _ = exp_terms(-2.0 * log_scale)
        log_width = log_positive(2.0 / steps)
    away = v - mean
    inner = edge == 0.0
    side = tl.where(inner, tl.where(away < 0.0, -1.0, 1.0).to(WIDE), edge)
    distance = away * side
    beyond = (distance - half) * inverse
    inside = beyond < 0.0
    near = quick_exp_minus_abs(beyond)
    near = tl.where(near < LEAST_EDGE, LEAST_EDGE, near)  # so that near / (near + 0) is 1; NaN stays
    width = tl.where(inner, inverse * (2.0 * half), 1000.0)
    wide = tl.where(width < LEAST_WIDTH, LEAST_WIDTH, width)
    e, mass = decay(wide)
    q = tl.where(inside, near, 1.0)
    r = tl.where(inside, near + e, near * e + 1.0)
    both = (near + 1.0) * r
    over = 1.0 / (both * mass)
    by_near = (q * over) * (r * mass)
    by_far = tl.where(inside, e, near * e) * ((near + 1.0) * mass * over)
    chance = mass * q * (mass * over) * tl.where(inner, 0.5 * steps, 1.0)
    log_p = tl.log(chance)  # of float32 the special unit's: csrc/common/quick_exp.h
    log_p += tl.where(width < LEAST_WIDTH, log_width - LOG_LEAST - log_scale, 0.0)
    log_p -= tl.where(beyond < 0.0, 0.0, beyond)
    to_mean = inverse * side * (by_far - by_near)
    to_log_scale = (distance + half) * inverse * by_far - beyond * by_near + wide * e * (both * over)
    return log_p, to_mean, to_log_scale
