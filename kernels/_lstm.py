"""What the kernels of pixel_lstm share: where a line lies, and its gates."""

import triton
import triton.language as tl

from ._logistic import tanh_of
from ._softplus import exp_minus_abs, sigmoid_of

RUNTIME = ("rows", "columns", "hidden", "each", "pad", "places")  # no compilation of their own for 1


@triton.jit
def line_of(d, rows, columns, DOWN: tl.constexpr):
    """Its first pixel, and the one behind its last."""
    if DOWN:
        begin, end = 0 * d, 0 * d + columns
    else:
        begin, end = tl.maximum(d - columns + 1, 0), tl.minimum(rows, d + 1)
    return begin, end


@triton.jit
def at_line(d, pixel, columns, row_stride, column_stride, DOWN: tl.constexpr, MIRRORED: tl.constexpr):
    """Where a line's pixels lie in an image."""
    along = d - pixel
    if DOWN:
        row, column = d + 0 * pixel, pixel
    elif MIRRORED:
        row, column = pixel, columns - 1 - along
    else:
        row, column = pixel, along
    return row.to(tl.int64) * row_stride + column.to(tl.int64) * column_stride


@triton.jit
def gate_channel(gate, unit, each):
    """Of a gate of a unit: `each` units are a group, whose four gates lie together."""
    return unit // each * 4 * each + gate * each + unit % each


@triton.jit
def sigmoid(a):
    return sigmoid_of(a, exp_minus_abs(a))


@triton.jit
def tanh(a):
    value, _ = tanh_of(a)
    return value
