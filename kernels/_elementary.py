"""exp, log, sin and cos as the ops need them: csrc/common/elementary.h in Triton, which says why.

Triton's own exp, sin and cos of float32 are approximate units whose error grows where the results are small.
"""

import triton
import triton.language as tl


@triton.jit
def quotient(a, b):
    """a / b to nearest, of equal shapes. Of float32 `/` is off by up to 2 ulp on a GPU, which shows where a logarithm follows."""
    if b.dtype == tl.float64:  # noqa: SIM108
        result = a / b
    else:
        result = tl.div_rn(a, b)
    return result


@triton.jit
def log_positive(u):
    """ln(u) of normal positive float32 u."""
    bits = u.to(tl.int32, bitcast=True)
    e = (bits - 0x3F3504F3) & -0x800000  # 2^23 * exponent that leaves the mantissa in [sqrt(1/2), sqrt(2))
    x = (bits - e).to(tl.float32, bitcast=True) - 1.0
    y = 7.0376836292e-2 * x - 1.1514610310e-1
    y = y * x + 1.1676998740e-1
    y = y * x - 1.2420140846e-1
    y = y * x + 1.4249322787e-1
    y = y * x - 1.6668057665e-1
    y = y * x + 2.0000714765e-1
    y = y * x - 2.4999993993e-1
    y = y * x + 3.3333331174e-1
    y = y * x - 0.5
    return e.to(tl.float32) * 8.26295829e-8 + (y * (x * x) + x)  # ln 2 / 2^23


@triton.jit
def sincos_turn(u):
    """sin(2 pi u) and cos(2 pi u), 0 <= u <= 1."""
    shifted = u * 4.0 + 12582912.0  # 1.5 * 2^23: rounds to an integer held in the low mantissa bits
    quadrant = shifted.to(tl.int32, bitcast=True)
    x = u - (shifted - 12582912.0) * 0.25  # [-1/8, 1/8]; the coefficients hold the powers of 2 pi
    z = x * x
    s = -75.4456525026 * z + 81.5937678118
    s = s * z - 41.3416723363
    s = s * z + 6.28318530718
    s = s * x
    c = 59.3497008987 * z - 85.4471409617
    c = c * z + 64.9393613187
    c = c * z - 19.7392088022
    c = c * z + 1.0
    odd = (quadrant & 1) != 0
    sine = tl.where(odd, c, s).to(tl.int32, bitcast=True) ^ ((quadrant & 2) << 30)
    cosine = tl.where(odd, s, c).to(tl.int32, bitcast=True) ^ (((quadrant + 1) & 2) << 30)
    return sine.to(tl.float32, bitcast=True), cosine.to(tl.float32, bitcast=True)


@triton.jit
def sincos_turn_float64(u):
    quarter = tl.floor(u * 4.0 + 0.5)  # at a tie either neighbour will do
    x = (u - quarter * 0.25) * 6.283185307179586476925
    quadrant = quarter.to(tl.int32)
    z = x * x  # Taylor to x^17 / 17! and x^18 / 18!, exact to 1e-18 here; Triton's own keep a table on the stack
    s = tl.full(x.shape, 1.0, tl.float64)
    c = tl.full(x.shape, 1.0, tl.float64)
    for i in tl.static_range(8, 0, -1):
        s = 1.0 - s * z * (1.0 / ((2.0 * i) * (2.0 * i + 1.0)))
    for i in tl.static_range(9, 0, -1):
        c = 1.0 - c * z * (1.0 / ((2.0 * i - 1.0) * (2.0 * i)))
    s = s * x
    odd = (quadrant & 1) != 0
    sine = tl.where(odd, c, s)
    cosine = tl.where(odd, s, c)
    return tl.where((quadrant & 2) != 0, -sine, sine), tl.where(((quadrant + 1) & 2) != 0, -cosine, cosine)


@triton.jit
def exp_terms(x):
    """exp(x / 2), exp(x) - 1 and exp(x) - 1 - x of float32 x out of one exponential; the first is 0 below 2^-125, the last
    +inf at both infinities."""
    capped = tl.minimum(x, 177.4456787109375, propagate_nan=tl.PropagateNan.ALL)  # from here on the root is inf
    least = tl.maximum(capped, -175.0, propagate_nan=tl.PropagateNan.ALL)  # n = -126, a scale of 0
    shifted = least * 0.72134752044448170 + 12582912.0
    n = shifted - 12582912.0
    r = n * -1.38671875 + least  # twice what exp is taken of
    r = n * 4.24388880e-4 + r
    q = (1.9875691500e-4 / 128) * r + 1.3981999507e-3 / 64
    q = q * r + 8.3334519073e-3 / 32
    q = q * r + 4.1665795894e-2 / 16
    q = q * r + 1.6666665459e-1 / 8
    q = q * r + 5.0000001201e-1 / 4
    tail = q * (r * r)  # exp(r / 2) - 1 - r / 2
    p = 0.5 * r + tail
    scale = ((shifted.to(tl.int32, bitcast=True) + 126) << 23).to(tl.float32, bitcast=True)  # half of it: 2^128 is none
    half = p * scale + scale
    root = half + half
    small = n == 0.0  # |x| < 0.69: no subtraction below cancels
    em1 = tl.where(small, p * (p + 2.0), root * root - 1.0)
    return root, em1, tl.where(small, p * p + 2.0 * tail, em1 - capped)


@triton.jit
def exp_terms_float64(x):
    small = tl.abs(x) < 0.5
    t = tl.where(small, x, 0.0)
    q = tl.full(x.shape, 1.0, tl.float64)
    for i in tl.static_range(13):
        q = 1.0 + q * t * (1.0 / (15.0 - i))
    series = 0.5 * t * t * q  # exp(x) - 1 - x to 1e-17 relative; the difference would lose digits
    em1 = tl.where(small, t + series, tl.exp(x) - 1.0)
    finite = tl.where(x > 1.7976931348623157e308, 1.7976931348623157e308, x)
    return tl.exp(0.5 * x), em1, tl.where(small, series, em1 - finite)
