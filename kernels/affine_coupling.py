"""Triton kernels of affine_coupling, and their launcher. Not yet run on a GPU. Formulas: csrc/common/affine_coupling.h.

Traffic of a transformed element, T = its bytes: forward reads 3 T and writes T, backward reads 3 T (of the inverse 4 T) and
writes 3 T; of another element T is read and written. A program takes [rows, elements] of the part that holds the transformed
places, and as many elements of the rest; log-determinants of samples that several programs share are added up by a second
launch, in a fixed order.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen._coupling import Call, empty_gradients, wide, zero_gradients
from pygen._layout import empty_output

from . import _blocks
from ._compat import bits_float, cast, device_of, float_bits
from ._coupling import CouplingLaunch, copy_rest, coupling_factor, coupling_indices, coupling_offsets, coupling_place
from ._loss_sums import add_up

_RUNTIME = ("count", "rest_count", "rows", "tiles", "even", "bound_bits", "grad_log_det_stride")


@triton.jit(do_not_specialize=_RUNTIME)
def affine_coupling_fwd_kernel(
    x_ptr,  # [N, part], as the next three
    t_ptr,
    s_ptr,  # or None
    out_ptr,  # written
    rest_ptr,  # the input's rest, or None where there is none
    rest_out_ptr,  # written
    partial_ptr,  # [N, tiles] sums of log factors, or None
    x_place,
    t_place,
    s_place,
    out_place,
    rest_place,
    rest_out_place,
    sizes,
    rest_sizes,
    weights,
    count,
    rest_count,
    rows,
    tiles,
    even,
    bound_bits,
    SCALE: tl.constexpr,
    INVERSE: tl.constexpr,
    PARITY: tl.constexpr,
    FLAT: tl.constexpr,
    REST_FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, part, e = coupling_place(rows, tiles, ROWS, BLOCK)
    mask = (row < rows) & (e < count)
    i, j, k = coupling_indices(e, sizes, FLAT)
    x = tl.load(x_ptr + coupling_offsets(row, i, j, k, x_place, FLAT), mask=mask, other=0.0).to(WIDE)
    t = tl.load(t_ptr + coupling_offsets(row, i, j, k, t_place, FLAT), mask=mask, other=0.0).to(WIDE)
    u = x - t if INVERSE else x
    if s_ptr is not None:
        s = tl.load(s_ptr + coupling_offsets(row, i, j, k, s_place, FLAT), mask=mask, other=0.0).to(WIDE)
        root, rest, f, _ = coupling_factor(s, bits_float(bound_bits, WIDE), SCALE, INVERSE)
        u = u * root * root * rest
    out = u if INVERSE else u + t
    if PARITY:
        live = ((i * weights[0] + j * weights[1] + k * weights[2] + even) & 1) != 0
        out = tl.where(live, out, x)
    tl.store(out_ptr + coupling_offsets(row, i, j, k, out_place, FLAT), cast(out, out_ptr.dtype.element_ty), mask=mask)
    if s_ptr is not None:
        f = tl.where(mask & live if PARITY else mask, -f if INVERSE else f, 0.0)
        tl.store(partial_ptr + row * tiles + part, tl.sum(f, axis=1)[:, None], mask=row < rows)
    if rest_ptr is not None:
        rest_mask = (row < rows) & (e < rest_count)
        copy_rest(rest_ptr, rest_out_ptr, row, e, rest_mask, rest_sizes, rest_place, rest_out_place, REST_FLAT)


@triton.jit(do_not_specialize=_RUNTIME)
def affine_coupling_bwd_kernel(
    grad_ptr,  # [N, part], as all but the rest's and grad_log_det_ptr; or None
    grad_log_det_ptr,  # [N], or None
    x_ptr,  # None without a scale, as the next two
    t_ptr,  # of the inverse
    s_ptr,
    grad_x_ptr,  # or None where not wanted, as the next two
    grad_t_ptr,
    grad_s_ptr,
    rest_grad_ptr,  # or None
    rest_grad_x_ptr,  # or None
    grad_place,
    x_place,
    t_place,
    s_place,
    grad_x_place,
    grad_t_place,
    grad_s_place,
    rest_grad_place,
    rest_grad_x_place,
    sizes,
    rest_sizes,
    weights,
    count,
    rest_count,
    rows,
    tiles,
    even,
    bound_bits,
    grad_log_det_stride,
    SCALE: tl.constexpr,
    INVERSE: tl.constexpr,
    PARITY: tl.constexpr,
    FLAT: tl.constexpr,
    REST_FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, _, e = coupling_place(rows, tiles, ROWS, BLOCK)
    mask = (row < rows) & (e < count)
    i, j, k = coupling_indices(e, sizes, FLAT)
    if grad_ptr is not None:
        g = tl.load(grad_ptr + coupling_offsets(row, i, j, k, grad_place, FLAT), mask=mask, other=0.0).to(WIDE)
    else:
        g = tl.zeros((ROWS, BLOCK), WIDE)
    grad_x = g
    if s_ptr is not None:
        s = tl.load(s_ptr + coupling_offsets(row, i, j, k, s_place, FLAT), mask=mask, other=0.0).to(WIDE)
        root, rest, _, slope = coupling_factor(s, bits_float(bound_bits, WIDE), SCALE, INVERSE)
        grad_x = g * root * root * rest
        if grad_s_ptr is not None:
            total = g  # zeros, unless there is what to multiply
            if grad_ptr is not None:
                u = tl.load(x_ptr + coupling_offsets(row, i, j, k, x_place, FLAT), mask=mask, other=0.0).to(WIDE)
                if INVERSE:
                    u -= tl.load(t_ptr + coupling_offsets(row, i, j, k, t_place, FLAT), mask=mask, other=0.0).to(WIDE)
                total = (u * root) * (g * root) * rest
            if grad_log_det_ptr is not None:
                total += tl.load(grad_log_det_ptr + row * grad_log_det_stride, mask=row < rows, other=0.0)
            grad_s = (-total if INVERSE else total) * slope
    grad_t = -grad_x if INVERSE else g
    if PARITY:
        live = ((i * weights[0] + j * weights[1] + k * weights[2] + even) & 1) != 0
        grad_x = tl.where(live, grad_x, g)
        grad_t = tl.where(live, grad_t, 0.0)
    if grad_x_ptr is not None:
        offs = coupling_offsets(row, i, j, k, grad_x_place, FLAT)
        tl.store(grad_x_ptr + offs, cast(grad_x, grad_x_ptr.dtype.element_ty), mask=mask)
    if grad_t_ptr is not None:
        offs = coupling_offsets(row, i, j, k, grad_t_place, FLAT)
        tl.store(grad_t_ptr + offs, cast(grad_t, grad_t_ptr.dtype.element_ty), mask=mask)
    if grad_s_ptr is not None:
        if PARITY:
            grad_s = tl.where(live, grad_s, 0.0)
        offs = coupling_offsets(row, i, j, k, grad_s_place, FLAT)
        tl.store(grad_s_ptr + offs, cast(grad_s, grad_s_ptr.dtype.element_ty), mask=mask)
    if rest_grad_x_ptr is not None:
        rest_mask = (row < rows) & (e < rest_count)
        copy_rest(
            rest_grad_ptr, rest_grad_x_ptr, row, e, rest_mask, rest_sizes, rest_grad_place, rest_grad_x_place, REST_FLAT
        )


def forward(
    input: Tensor,  # [N, C, ...]
    shift: Tensor,  # like input, or its transformed half
    log_scale: Tensor | None,  # like shift
    mask: str,
    flip: bool,
    scale: str,
    bound: float,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    """(output like input, log_det [N])"""
    output = empty_output(input)
    affine = log_scale is not None and input.numel() > 0
    log_det = (torch.empty if affine else torch.zeros)(len(input), dtype=wide(input), device=input.device)
    if input.numel() == 0:
        return output, log_det
    half = shift.shape != input.shape
    call = Call(input, half, mask, flip, ([input], [shift, log_scale]), ([output], []))
    at = CouplingLaunch(call.plan, input, _blocks.COUPLING_BLOCK)
    (x, out), (t, s) = call.whole, call.params
    partial = None
    if affine:
        partial = log_det if at.tiles == 1 else log_det.new_empty(len(input) * at.tiles)
    rest, rest_out = (None, None) if call.plan.rest is None else (x, out)
    with device_of(input):
        affine_coupling_fwd_kernel[at.grid](
            x, t, s, out, rest, rest_out, partial, *at.places(at.live, (0, 2, 3, 1)), *at.places(at.rest, (0, 1)),
            *at.arguments(), float_bits(bound), SCALE=scale, PARITY=at.parity, **at.constants(input, inverse),
        )  # fmt: skip
        if partial is not None and at.tiles > 1:
            add_up(partial, log_det, 1.0)
    return output, log_det


def backward(
    grad_output: Tensor | None,  # [N, C, ...]
    grad_log_det: Tensor | None,  # [N]
    input: Tensor | None,  # [N, C, ...]
    shift: Tensor | None,  # of the inverse
    log_scale: Tensor | None,
    half: bool,
    mask: str,
    flip: bool,
    scale: str,
    bound: float,
    inverse: bool,
    needs: Sequence[bool],
    together: bool = False,  # whether the parameters' gradients may be halves of one tensor
) -> list[Tensor | None]:
    """Gradients of input, shift and log_scale; None where needs is False."""
    like = grad_output if input is None else input
    assert like is not None
    grads = empty_gradients(like, half, mask, flip, tuple(needs), together)
    if like.numel() == 0 or not any(needs):
        return grads
    grad_input, grad_shift, grad_log_scale = grads if grad_output is not None else zero_gradients(grads)
    read = [like, grad_output if like is not grad_output else None]
    call = Call(like, half, mask, flip, (read, [shift, log_scale]), ([grad_input], [grad_shift, grad_log_scale]))
    at = CouplingLaunch(call.plan, like, _blocks.COUPLING_BLOCK)
    first, second, to_input = call.whole
    t, s, to_shift, to_scale = call.params
    x, upstream, number = (None, first, 0) if input is None else (first, second, 1)
    rest = call.plan.rest is not None
    with device_of(like):
        affine_coupling_bwd_kernel[at.grid](
            upstream, grad_log_det, x, t, s, to_input, to_shift, to_scale,
            upstream if rest else None, to_input if rest else None,
            *at.places(at.live, (number, 0, 3, 4, 2, 5, 6)), *at.places(at.rest, (number, 2)),
            *at.arguments(), float_bits(bound), 0 if grad_log_det is None else grad_log_det.stride(0),
            SCALE=scale, PARITY=at.parity, **at.constants(like, inverse),
        )  # fmt: skip
    return grads
