"""softplus and the logistic function out of one exponential: csrc/common/softplus.h in Triton, which says why."""

import triton
import triton.language as tl

from ._elementary import log_positive


@triton.jit
def exp_minus_abs(y):
    """exp(-|y|) of float32 or float64 y; subnormal float32 results included."""
    x = tl.abs(y)
    if y.dtype == tl.float64:  # noqa: SIM108
        result = tl.exp(-x)
    else:
        result = _exp_minus_float32(x)
    return result  # not earlier: what follows a return is compiled all the same


@triton.jit
def _exp_minus_float32(x):
    """exp(-x), x >= 0."""
    x = tl.where(x > 104.0, 104.0, x)  # exp(-104) rounds to 0; the comparison leaves NaN in place
    shifted = x * -1.44269504088896341 + 12582912.0
    n = shifted - 12582912.0
    r = n * -0.69314718055994531 - x
    z = r * r
    high = (8.3687518919e-3 * 5.9604644775390625e-8) * r + 4.1668407364e-2 * 5.9604644775390625e-8  # 2^-24
    middle = (1.6666520269e-1 * 5.9604644775390625e-8) * r + 4.9999993289e-1 * 5.9604644775390625e-8
    low = r * 5.9604644775390625e-8 + 5.9604644775390625e-8
    p = (z * (1.3814138470e-3 * 5.9604644775390625e-8) + high) * z + middle
    scale = ((shifted.to(tl.int32, bitcast=True) + 151) << 23).to(tl.float32, bitcast=True)
    return (p * z + low) * scale


@triton.jit
def quick_exp_minus_abs(y):
    """The same for losses and gates that would wait for arithmetic and not for memory: within 3 ulp. Of float32 the special
    units' exponential of a number below 1/2 in absolute value, where it has its digits."""
    x = tl.abs(y)
    if y.dtype == tl.float64:
        result = tl.exp(-x)
    else:
        x = tl.minimum(x, 104.0, propagate_nan=tl.PropagateNan.ALL)  # exp(-104) rounds to 0
        shifted = x * -1.44269504088896341 + 12582912.0
        n = shifted - 12582912.0
        r = n * -0.69314718055994531 - x
        power = tl.exp2(r * 1.44269504088896341) * 5.9604644775390625e-8  # 2^-24, so that the scale is a normal number
        result = power * ((shifted.to(tl.int32, bitcast=True) + 151) << 23).to(tl.float32, bitcast=True)
    return result


@triton.jit
def log1p_unit(e):
    """log(1 + e), 0 <= e <= 1, within 1.5 ulp: minimax, less than half the instructions of log1p_positive."""
    if e.dtype == tl.float64:
        result = log1p_positive(e)
    else:
        p = 2.0302394e-03 * e - 1.3407521e-02
        p = p * e + 4.147821e-02
        p = p * e - 8.244173e-02
        p = p * e + 1.2418435e-01
        p = p * e - 1.610569e-01
        p = p * e + 1.9890748e-01
        p = p * e - 2.4987271e-01
        p = p * e + 3.333256e-01
        p = p * e - 4.9999982e-01
        p = p * e + 1.0
        result = p * e
    return result


@triton.jit
def log1p_positive(x):
    """log(1 + x), x >= 0: the rounding of 1 + x is put back."""
    u = 1.0 + x
    if x.dtype == tl.float64:  # noqa: SIM108
        log = tl.log(u)
    else:
        log = log_positive(u)
    return log + (x - (u - 1.0)) / u


@triton.jit
def relu(x):
    return tl.where(x < 0.0, 0.0, x)  # NaN stays


@triton.jit
def sigmoid_of(y, e):
    """e = exp(-|y|)."""
    return tl.where(y < 0.0, e, tl.where(y == y, 1.0, y)) / (1.0 + e)
