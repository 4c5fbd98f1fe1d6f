"""tanh(a) sigmoid(b) and the parts of its gradient in Triton. Formulas: csrc/common/gated_activation.h."""

import triton
import triton.language as tl

from ._compat import cast
from ._elementary import exp_terms, exp_terms_float64
from ._softplus import quick_exp_minus_abs


@triton.jit
def _gate_parts(a, b):
    """Numerator and denominator of tanh(a), exp(-2|a|); numerator and denominator of sigmoid(b), exp(-|b|)."""
    x = tl.abs(a) * -2.0
    if a.dtype == tl.float64:
        root, em1, _ = exp_terms_float64(x)
    else:
        root, em1, _ = exp_terms(x)
    e = quick_exp_minus_abs(b)
    return (
        tl.where(a < 0.0, em1, -em1),
        em1 + 2.0,
        root * root,
        tl.where(b < 0.0, e, tl.where(b == b, 1.0, b)),
        e + 1.0,
        e,
    )


@triton.jit
def _narrow_gate_parts(a, b):
    """The same for what is rounded to 16 bits, by the special units: csrc/cuda/gate.cuh."""
    x = tl.abs(a)
    ea = tl.exp2(x * -2.88539008177792681)
    eb = tl.exp2(tl.abs(b) * -1.44269504088896341)
    tanh_over = ea + 1.0
    tanh = tl.where(x < 0.0078125, x * tanh_over, 1.0 - ea)
    return tl.where(a < 0.0, -tanh, tanh), tanh_over, ea, tl.where(b < 0.0, eb, 1.0), eb + 1.0, eb


@triton.jit
def parts_for(a, b, NARROW: tl.constexpr):
    """NARROW: the results are rounded to 16 bits."""
    if NARROW:  # noqa: SIM108
        parts = _narrow_gate_parts(a, b)
    else:
        parts = _gate_parts(a, b)
    return parts


@triton.jit
def gate(a, b, dtype: tl.constexpr):
    """tanh(a) sigmoid(b), in `dtype`."""
    tanh, tanh_over, _, sigmoid, sigmoid_over, _ = parts_for(a, b, dtype.primitive_bitwidth == 16)
    return cast(tanh * sigmoid / (tanh_over * sigmoid_over), dtype)
