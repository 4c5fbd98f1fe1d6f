"""Triton kernels of rational_quadratic_spline, and their launcher. Not yet run on a GPU. Formulas:
csrc/common/rational_quadratic_spline.h.

Traffic of a transformed element of P = 3 K -+ 1 numbers, T = its bytes: forward reads (P + 1) T and writes T, backward reads
(P + 2) T and writes (P + 1) T; of another element T is read and written. A program takes [rows, elements] of the part that holds
the transformed places and as many of the rest, and goes through the bins three times: the largest logits, the sums, the bin;
what it read comes from the cache again. Log-determinants of samples that several programs share are added up by a second launch,
in a fixed order.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen._coupling import SplineCall, wide
from pygen._layout import empty_output

from . import _blocks
from ._compat import bits_float, cast, device_of, float_bits
from ._coupling import CouplingLaunch, copy_rest, coupling_indices, coupling_offsets, coupling_place
from ._elementary import quotient
from ._loss_sums import add_up
from ._softplus import exp_minus_abs
from ._spline import spline_bin, spline_gradients, spline_inside, spline_log, spline_place

_RUNTIME = ("count", "rest_count", "rows", "tiles", "even", "grad_log_det_stride")


@triton.jit(do_not_specialize=_RUNTIME)
def rational_quadratic_spline_fwd_kernel(
    x_ptr,  # [N, part]
    p_ptr,  # [N, part], the first of each place's numbers
    out_ptr,  # [N, part], written
    rest_ptr,  # the input's rest, or None where there is none
    rest_out_ptr,  # written
    partial_ptr,  # [N, tiles] sums of log-derivatives, written
    x_place,
    p_place,
    out_place,
    rest_place,
    rest_out_place,
    step,
    numbers,  # bits of low, high, least widths and heights, what softmaxes divide of both, min_derivative, beta, 1 / range
    sizes,
    rest_sizes,
    weights,
    count,
    rest_count,
    rows,
    tiles,
    even,
    BINS: tl.constexpr,
    LINEAR: tl.constexpr,
    INVERSE: tl.constexpr,
    FLAT: tl.constexpr,
    REST_FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, part, e = coupling_place(rows, tiles, ROWS, BLOCK)
    mask = (row < rows) & (e < count)
    i, j, k = coupling_indices(e, sizes, FLAT)
    v = tl.load(x_ptr + coupling_offsets(row, i, j, k, x_place, FLAT), mask=mask, other=0.0).to(WIDE)
    p_offs = coupling_offsets(row, i, j, k, p_place, FLAT)
    _, sides, slopes, _ = spline_bin(v, p_ptr, p_offs, step, mask, numbers, BINS, LINEAR, INVERSE, WIDE)
    place, of = spline_place(v, sides, slopes, INVERSE)
    over = quotient(tl.zeros_like(v) + 1.0, of[1])
    if INVERSE:  # noqa: SIM108
        out = sides[0] + sides[1] * place[1]
    else:
        out = sides[2] + sides[3] * (of[0] * over)
    low, high = bits_float(numbers[0], WIDE), bits_float(numbers[1], WIDE)
    out = tl.where(out < low, low, tl.where(out > high, high, out))
    log = spline_log(of[2]) + 2.0 * spline_log(place[0] * over) + (of[2] - of[2])  # the last: infinity becomes NaN
    inside = spline_inside(v, numbers, LINEAR, WIDE)
    other = v if LINEAR else v * 0.0 + float("nan")
    out = tl.where(inside, out, other)
    log = tl.where(inside, -log if INVERSE else log, tl.where(other == other, 0.0, other))
    tl.store(out_ptr + coupling_offsets(row, i, j, k, out_place, FLAT), cast(out, out_ptr.dtype.element_ty), mask=mask)
    total = tl.sum(tl.where(mask, log, 0.0), axis=1)[:, None]
    tl.store(partial_ptr + row * tiles + part, total, mask=row < rows)
    if rest_ptr is not None:
        rest_mask = (row < rows) & (e < rest_count)
        copy_rest(rest_ptr, rest_out_ptr, row, e, rest_mask, rest_sizes, rest_place, rest_out_place, REST_FLAT)


@triton.jit
def _store_axis(
    to_ptr, to_offs, to_step, p_ptr, offs, step, mask, inside, index, axis, start, size, over_share,
    BINS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The gradient of an axis' logits; axis: (largest, what e is multiplied by, own e, sums of the e before and after)."""
    over_sum = axis[1] * over_share
    start, size = start * over_sum, size * over_sum
    less = size - start
    before, after = start * axis[4] - less * axis[2], -(start * axis[3] + size * axis[2])
    own = size * axis[4] + less * axis[3]
    for b in range(BINS):
        e = exp_minus_abs(axis[0] - tl.load(p_ptr + offs + b * step, mask=mask, other=0.0).to(WIDE))
        mine = tl.where(b < index, before, tl.where(b > index, after, own))
        grad = tl.where(inside, axis[1] * e * mine, 0.0)
        tl.store(to_ptr + to_offs + b * to_step, cast(grad, to_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=_RUNTIME)
def rational_quadratic_spline_bwd_kernel(
    grad_ptr,  # [N, part], or None
    grad_log_det_ptr,  # [N], or None
    x_ptr,  # [N, part]
    p_ptr,  # [N, part], the first of each place's numbers
    grad_x_ptr,  # [N, part], written, or None where not wanted, as the next
    grad_p_ptr,  # [N, part], the first of each place's numbers
    rest_grad_ptr,  # or None
    rest_grad_x_ptr,  # or None
    grad_place,
    x_place,
    p_place,
    grad_x_place,
    grad_p_place,
    rest_grad_place,
    rest_grad_x_place,
    step,
    grad_step,
    numbers,
    sizes,
    rest_sizes,
    weights,
    count,
    rest_count,
    rows,
    tiles,
    even,
    grad_log_det_stride,
    BINS: tl.constexpr,
    LINEAR: tl.constexpr,
    INVERSE: tl.constexpr,
    FLAT: tl.constexpr,
    REST_FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, _, e = coupling_place(rows, tiles, ROWS, BLOCK)
    mask = (row < rows) & (e < count)
    i, j, k = coupling_indices(e, sizes, FLAT)
    v = tl.load(x_ptr + coupling_offsets(row, i, j, k, x_place, FLAT), mask=mask, other=0.0).to(WIDE)
    g = tl.zeros((ROWS, BLOCK), WIDE)
    g_log = g
    if grad_ptr is not None:
        g = tl.load(grad_ptr + coupling_offsets(row, i, j, k, grad_place, FLAT), mask=mask, other=0.0).to(WIDE)
    if grad_log_det_ptr is not None:
        g_log += tl.load(grad_log_det_ptr + row * grad_log_det_stride, mask=row < rows, other=0.0)
    p_offs = coupling_offsets(row, i, j, k, p_place, FLAT)
    axes, sides, slopes, index = spline_bin(v, p_ptr, p_offs, step, mask, numbers, BINS, LINEAR, INVERSE, WIDE)
    place, of = spline_place(v, sides, slopes, INVERSE)
    to_input, to_sides, to_raw = spline_gradients(sides, slopes, place, of, g, g_log, INVERSE)
    inside = spline_inside(v, numbers, LINEAR, WIDE)
    if grad_x_ptr is not None:
        to_input = tl.where(inside, to_input, g if LINEAR else 0.0)
        offs = coupling_offsets(row, i, j, k, grad_x_place, FLAT)
        tl.store(grad_x_ptr + offs, cast(to_input, grad_x_ptr.dtype.element_ty), mask=mask)
    if grad_p_ptr is not None:
        offs = coupling_offsets(row, i, j, k, grad_p_place, FLAT)
        over_x, over_y = 1.0 / bits_float(numbers[4], WIDE), 1.0 / bits_float(numbers[5], WIDE)
        _store_axis(grad_p_ptr, offs, grad_step, p_ptr, p_offs, step, mask, inside, index, axes[0], to_sides[0], to_sides[1],
                    over_x, BINS, WIDE)  # fmt: skip
        offs += BINS * grad_step
        _store_axis(grad_p_ptr, offs, grad_step, p_ptr, p_offs + BINS * step, step, mask, inside, index, axes[1], to_sides[2],
                    to_sides[3], over_y, BINS, WIDE)  # fmt: skip
        offs += BINS * grad_step
        first = index - 1.0 if LINEAR else index
        for slope in range(BINS - 1 if LINEAR else BINS + 1):
            grad = tl.where(first == slope, to_raw[0], tl.where(first + 1.0 == slope, to_raw[1], 0.0))
            grad = cast(tl.where(inside, grad, 0.0), grad_p_ptr.dtype.element_ty)
            tl.store(grad_p_ptr + offs + slope * grad_step, grad, mask=mask)
    if rest_grad_x_ptr is not None:
        rest_mask = (row < rows) & (e < rest_count)
        copy_rest(
            rest_grad_ptr, rest_grad_x_ptr, row, e, rest_mask, rest_sizes, rest_grad_place, rest_grad_x_place, REST_FLAT
        )


def _numbers(bins: int, low: float, high: float, width: float, height: float, slope: float, beta: float) -> tuple:
    span = high - low
    shares = span * (1 - width * bins), span * (1 - height * bins)
    return tuple(map(float_bits, (low, high, span * width, span * height, *shares, slope, beta, 1 / span)))


def forward(
    input: Tensor,  # [N, C, ...]
    params: Tensor,  # [N, C' * P, ...]
    mask: str,
    flip: bool,
    tails: str,
    low: float,
    high: float,
    min_bin_width: float,
    min_bin_height: float,
    min_derivative: float,
    beta: float,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    """(output like input, log_det [N])"""
    output = empty_output(input)
    make = torch.empty if input.numel() else torch.zeros
    log_det = make(len(input), dtype=wide(input), device=input.device)
    if input.numel() == 0:
        return output, log_det
    call = SplineCall(mask, flip, tails, [input], [output], [params], [])
    at = CouplingLaunch(call.plan, input, _blocks.SPLINE_BLOCK)
    (x, out), (p,) = call.whole, call.params
    partial = log_det if at.tiles == 1 else log_det.new_empty(len(input) * at.tiles)
    rest, rest_out = (None, None) if call.plan.rest is None else (x, out)
    numbers = _numbers(call.bins, low, high, min_bin_width, min_bin_height, min_derivative, beta)
    with device_of(input):
        rational_quadratic_spline_fwd_kernel[at.grid](
            x, p, out, rest, rest_out, partial, *at.places(at.live, (0, 2, 1)), *at.places(at.rest, (0, 1)),
            call.steps[0], numbers, *at.arguments(),
            BINS=call.bins, LINEAR=tails == "linear", **at.constants(input, inverse),
        )  # fmt: skip
        if at.tiles > 1:
            add_up(partial, log_det, 1.0)
    return output, log_det


def backward(
    grad_output: Tensor | None,  # [N, C, ...]
    grad_log_det: Tensor | None,  # [N]
    input: Tensor,  # [N, C, ...]
    params: Tensor,  # [N, C' * P, ...]
    mask: str,
    flip: bool,
    tails: str,
    low: float,
    high: float,
    min_bin_width: float,
    min_bin_height: float,
    min_derivative: float,
    beta: float,
    inverse: bool,
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of input and params; None where needs is False."""
    grads = [empty_output(t) if n else None for t, n in zip((input, params), needs, strict=True)]
    if input.numel() == 0 or not any(needs):
        return grads
    call = SplineCall(mask, flip, tails, [input, grad_output], [grads[0]], [params], [grads[1]])
    at = CouplingLaunch(call.plan, input, _blocks.SPLINE_BLOCK)
    (x, upstream, to_input), (p, to_params) = call.whole, call.params
    rest = call.plan.rest is not None
    numbers = _numbers(call.bins, low, high, min_bin_width, min_bin_height, min_derivative, beta)
    with device_of(input):
        rational_quadratic_spline_bwd_kernel[at.grid](
            upstream, grad_log_det, x, p, to_input, to_params, upstream if rest else None, to_input if rest else None,
            *at.places(at.live, (1, 0, 3, 2, 4)), *at.places(at.rest, (1, 2)), *call.steps, numbers, *at.arguments(),
            0 if grad_log_det is None else grad_log_det.stride(0),
            BINS=call.bins, LINEAR=tails == "linear", **at.constants(input, inverse),
        )  # fmt: skip
    return grads
