"""What an element's spline is made of, and its gradients: csrc/common/rational_quadratic_spline.h in Triton, which says why."""

import triton
import triton.language as tl

from ._compat import bits_float
from ._elementary import log_positive, quotient
from ._softplus import exp_minus_abs, log1p_unit, relu, sigmoid_of


@triton.jit
def spline_axis(p_ptr, offs, step, mask, share, BINS: tl.constexpr, WIDE: tl.constexpr):
    """Of an axis' logits: the largest, and what a bin's e = exp(logit - largest) is multiplied by."""
    most = tl.load(p_ptr + offs, mask=mask, other=0.0).to(WIDE)
    for k in range(1, BINS):
        a = tl.load(p_ptr + offs + k * step, mask=mask, other=0.0).to(WIDE)
        most = tl.where(a > most, a, most)
    total = tl.zeros(most.shape, WIDE)
    for k in range(BINS):
        total += exp_minus_abs(most - tl.load(p_ptr + offs + k * step, mask=mask, other=0.0).to(WIDE))
    return most, quotient(share + tl.zeros_like(total), total)


@triton.jit
def spline_slope(raw, known, min_derivative, beta):
    """A slope, and its derivative by the parameter; where it is known 1 and 0."""
    y = raw * beta
    e = exp_minus_abs(y)
    d = (relu(y) + log1p_unit(e)) / beta + min_derivative
    return tl.where(known, 1.0, d), tl.where(known, 0.0, sigmoid_of(y, e))


@triton.jit
def _between(t):
    """Within 0 and 1; NaN stays."""
    return tl.where(t < 0.0, 0.0, tl.where(t > 1.0, 1.0, t))


@triton.jit
def spline_bin(
    v,
    p_ptr,
    offs,
    step,
    mask,
    numbers,
    BINS: tl.constexpr,
    LINEAR: tl.constexpr,
    INVERSE: tl.constexpr,
    WIDE: tl.constexpr,
):
    """(axes, sides, slopes, index): axes, of columns and rows, (largest logit, what e is multiplied by, own e, sums of the e
    before and after); sides (left, width, bottom, height); slopes (d0, d1 and their derivatives)."""
    low, high = bits_float(numbers[0], WIDE), bits_float(numbers[1], WIDE)
    least_x, least_y = bits_float(numbers[2], WIDE), bits_float(numbers[3], WIDE)
    over_range = bits_float(numbers[8], WIDE)
    rows = offs + BINS * step
    raws = rows + BINS * step
    most_x, share_x = spline_axis(p_ptr, offs, step, mask, bits_float(numbers[4], WIDE), BINS, WIDE)
    most_y, share_y = spline_axis(p_ptr, rows, step, mask, bits_float(numbers[5], WIDE), BINS, WIDE)
    x = exp_minus_abs(most_x - tl.load(p_ptr + offs, mask=mask, other=0.0).to(WIDE))
    y = exp_minus_abs(most_y - tl.load(p_ptr + rows, mask=mask, other=0.0).to(WIDE))
    zero = x * 0.0
    zero = tl.where(zero == zero, zero, 0.0)
    raw0 = zero
    if not LINEAR:
        raw0 = tl.load(p_ptr + raws, mask=mask, other=0.0).to(WIDE)
        raws += step
    raw1 = zero
    if (not LINEAR) or BINS > 1:
        raw1 = tl.load(p_ptr + raws, mask=mask, other=0.0).to(WIDE)
    left, bottom, before_x, before_y, raw_here = zero + low, zero + low, zero, zero, raw1
    start_x, start_y, sum_x, sum_y, own_x, own_y, index = left, bottom, zero, zero, x, y, zero
    after_x, after_y = zero, zero
    for k in range(1, BINS):
        left = left + (share_x * x + least_x)
        bottom = bottom + (share_y * y + least_y)
        before_x += x
        before_y += y
        x = exp_minus_abs(most_x - tl.load(p_ptr + offs + k * step, mask=mask, other=0.0).to(WIDE))
        y = exp_minus_abs(most_y - tl.load(p_ptr + rows + k * step, mask=mask, other=0.0).to(WIDE))
        there = mask & (k + 1 < BINS) if LINEAR else mask
        raw_next = tl.load(p_ptr + raws + k * step, mask=there, other=0.0).to(WIDE)
        past = bottom <= v if INVERSE else left <= v
        start_x, start_y = tl.where(past, left, start_x), tl.where(past, bottom, start_y)
        own_x, own_y = tl.where(past, x, own_x), tl.where(past, y, own_y)
        sum_x, sum_y = tl.where(past, before_x, sum_x), tl.where(past, before_y, sum_y)
        after_x, after_y = tl.where(past, 0.0, after_x + x), tl.where(past, 0.0, after_y + y)
        raw0, raw1 = tl.where(past, raw_here, raw0), tl.where(past, raw_next, raw1)
        index = tl.where(past, k + zero, index)
        raw_here = raw_next
    stretch_x = (high - (left + (share_x * x + least_x))) * over_range
    stretch_y = (high - (bottom + (share_y * y + least_y))) * over_range
    w, h = share_x * own_x + least_x, share_y * own_y + least_y
    sides = (
        start_x + stretch_x * (start_x - low),
        w + w * stretch_x,
        start_y + stretch_y * (start_y - low),
        h + h * stretch_y,
    )
    min_derivative, beta = bits_float(numbers[6], WIDE), bits_float(numbers[7], WIDE)
    last: tl.constexpr = BINS - 1 if LINEAR else -1
    first: tl.constexpr = 0 if LINEAR else -1
    d0, by0 = spline_slope(raw0, index == first, min_derivative, beta)
    d1, by1 = spline_slope(raw1, index == last, min_derivative, beta)
    axes = ((most_x, share_x, own_x, sum_x, after_x), (most_y, share_y, own_y, sum_y, after_y))
    return axes, sides, (d0, d1, by0, by1), index


@triton.jit
def spline_place(v, sides, slopes, INVERSE: tl.constexpr):
    """(s, t, 1 - t) and (numerator, denominator, derivative)."""
    s = sides[3] / sides[1]
    d0, d1 = slopes[0], slopes[1]
    if INVERSE:
        part = _between(quotient(v - sides[2], sides[3]))
        rest = 1.0 - part
        r = d0 * rest - d1 * part
        both = tl.sqrt(r * r + (4.0 * s * s) * (part * rest)) + tl.abs(r)
        falling = r < 0.0
        near = (2.0 * s) * tl.where(falling, rest, part)
        over = 1.0 / (near + both)
        t = tl.where(falling, both, near) * over
        u = tl.where(falling, near, both) * over
    else:
        t = _between(quotient(v - sides[0], sides[1]))
        u = 1.0 - t
    tu = t * u
    below = s + (d0 + d1 - 2.0 * s) * tu
    return (s, t, u), (s * t * t + d0 * tu, below, d1 * t * t + (2.0 * s) * tu + d0 * u * u)


@triton.jit
def spline_inside(v, numbers, LINEAR: tl.constexpr, WIDE: tl.constexpr):
    low, high = bits_float(numbers[0], WIDE), bits_float(numbers[1], WIDE)
    if LINEAR:  # noqa: SIM108
        inside = (v > low) & (v < high)
    else:
        inside = (v >= low) & (v <= high)
    return inside


@triton.jit
def spline_log(u):
    if u.dtype == tl.float64:  # noqa: SIM108
        result = tl.log(u)
    else:
        result = log_positive(u)
    return result


@triton.jit
def spline_gradients(sides, slopes, place, of, g, g_log, INVERSE: tl.constexpr):
    """Of input; of the bin's left, width, bottom, height; of the parameters of its slopes."""
    s, t, u = place[0], place[1], place[2]
    d0, d1, w, h, numerator = slopes[0], slopes[1], sides[1], sides[3], of[0]
    tu = t * u
    over, over_d, over_w = 1.0 / of[1], 1.0 / of[2], 1.0 / w
    slope_over = s * of[2] * over * over  # times s: dy / dx
    log_t = 2.0 * (((d1 - s) * t - (d0 - s) * u) * over_d - (d0 + d1 - 2.0 * s) * (u - t) * over)
    if INVERSE:
        g_log = -g_log
        to_input = (g + g_log * log_t * over_w) / (s * slope_over)
        left = g
        g = -to_input
    else:
        to_input = g * (s * slope_over) + g_log * log_t * over_w
        left = -to_input
    gt = g * h * tu * over
    twice = 2.0 * tu
    to_s = gt * ((d1 * t * t - d0 * u * u) * over) + g_log * (twice * ((d0 + d1) * over / s + over_d))
    mirror = s * u * u + d1 * tu
    raw0 = (gt * (mirror * over) + g_log * (u * u * over_d - twice * over)) * slopes[2]
    raw1 = (g_log * (t * t * over_d - twice * over) - gt * (numerator * over)) * slopes[3]
    sides_grad = (left, left * t - to_s * s * over_w, g, g * (numerator * over) + to_s * over_w)
    return to_input, sides_grad, (raw0, raw1)
