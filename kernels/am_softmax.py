"""Triton kernels of am_softmax, and their launcher. Not yet run on a GPU.

Traffic of a product, 4 bytes: the loss reads it once; with gradients it is read again and T bytes are written, 10 bytes of
16-bit gradients. A sample is a program: 64 samples of a million classes are 256 MB, more than the caches, so the second
reading comes from memory there. Of across, D numbers of a row: grad and t twice, the second time from L1 or L2, and T D
bytes written.

Exponentials are the hardware's, as categorical_nll's.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks
from ._compat import OPTIONS, bits_float, cast, device_of, float_bits, tl_wide
from ._softplus import log1p_positive


@triton.jit
def _logits(products, column_scale_ptr, scale, shift, target, start, classes, BLOCK: tl.constexpr):
    """A block of a row's logits, -inf beyond the last class, and which is the target's; `products` points to the row."""
    j = start + tl.arange(0, BLOCK)
    mask = j < classes
    product = tl.load(products + j, mask=mask, other=0.0)
    logit = product * (tl.load(column_scale_ptr + j, mask=mask, other=0.0) * scale)
    is_target = j == target
    return tl.where(mask, tl.where(is_target, logit - shift, logit), float("-inf")), is_target


@triton.jit
def am_softmax_rows_kernel(
    products_ptr,  # [rows, classes]
    row_scale_ptr,  # [rows]
    column_scale_ptr,  # [classes]
    target_ptr,  # [rows], int64
    upstream_ptr,  # [rows]
    nll_ptr,  # [rows], written
    grads_ptr,  # [rows, classes], written; products' own memory perhaps
    classes,
    shift_bits,
    GRADS: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    LOWEST: tl.constexpr = -1.7976931348623157e308 if tl.float64 == WIDE else -3.402823466e38
    row = tl.program_id(0).to(tl.int64)
    products = products_ptr + row * classes
    scale = tl.load(row_scale_ptr + row)
    shift = bits_float(shift_bits, WIDE)
    given = tl.load(target_ptr + row)
    target = tl.where((given < 0) | (given >= classes), -1, given).to(tl.int32)

    tops = tl.full((BLOCK,), LOWEST, WIDE)  # lane by lane
    sums = tl.zeros((BLOCK,), WIDE)
    drawn = tl.zeros((BLOCK,), WIDE)
    for start in range(0, classes, BLOCK):
        logit, is_target = _logits(products, column_scale_ptr, scale, shift, target, start, classes, BLOCK)
        before = tops
        tops = tl.where(logit > tops, logit, tops)
        drawn += tl.where(is_target, logit, 0.0)
        sums = sums * tl.exp(before - tops) + tl.where(is_target, 0.0, tl.exp(logit - tops))
    top = tl.max(tops, axis=0)
    others = tl.sum(sums * tl.exp(tops - top), axis=0)
    target_logit = tl.where(target < 0, float("nan"), tl.sum(drawn, axis=0))
    own = tl.exp(target_logit - top)
    beyond = tl.where(target_logit == top, others, (others - 1.0) + own)
    tl.store(nll_ptr + row, (top - target_logit) + log1p_positive(beyond))
    if GRADS:
        factor = tl.load(upstream_ptr + row) / (others + own)
        for start in range(0, classes, BLOCK):
            logit, is_target = _logits(products, column_scale_ptr, scale, shift, target, start, classes, BLOCK)
            j = start + tl.arange(0, BLOCK)
            columns = tl.load(column_scale_ptr + j, mask=j < classes, other=0.0)
            slope = tl.where(is_target, -others, tl.exp(logit - top)) * factor * (columns * scale)
            tl.store(grads_ptr + row * classes + j, cast(slope, grads_ptr.dtype.element_ty), mask=j < classes)


@triton.jit
def am_softmax_across_kernel(
    grad_ptr,  # [rows, features]
    t_ptr,  # [rows, features]
    norm_ptr,  # [rows]
    factor_ptr,  # one number
    result_ptr,  # [rows, features], written
    features,
    least_bits,
    SCALED: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    place = row * features
    norm = tl.load(norm_ptr + row)
    sums = tl.zeros((BLOCK,), WIDE)
    for start in range(0, features, BLOCK):
        j = start + tl.arange(0, BLOCK)
        grad = tl.load(grad_ptr + place + j, mask=j < features, other=0.0)
        sums += grad * tl.load(t_ptr + place + j, mask=j < features, other=0.0).to(WIDE)
    no_direction = norm <= bits_float(least_bits, WIDE)
    along = tl.where(no_direction, 0.0, tl.sum(sums, axis=0) / norm / norm)
    factor = tl.full((), 1.0, WIDE)
    if SCALED:
        factor = tl.load(factor_ptr)
    for start in range(0, features, BLOCK):
        j = start + tl.arange(0, BLOCK)
        grad = tl.load(grad_ptr + place + j, mask=j < features, other=0.0)
        t = tl.load(t_ptr + place + j, mask=j < features, other=0.0).to(WIDE)
        value = tl.where(no_direction, grad, grad - t * along) * factor
        tl.store(result_ptr + place + j, cast(value, result_ptr.dtype.element_ty), mask=j < features)


def rows(
    products: Tensor,  # [n, C] float32 or float64, contiguous, overwritten
    row_scale: Tensor,  # [n], like all numbers here of the products' dtype
    column_scale: Tensor,  # [C]
    target: Tensor,  # [n], int64
    shift: float,
    upstream: Tensor | None,  # [n]; None: no gradients
    dtype: torch.dtype,  # of the gradients
) -> tuple[Tensor, Tensor | None]:
    """The losses [n] and the gradients of the products [n, C], which may take their place."""
    nll = products.new_empty(len(products))
    grads = None
    if upstream is not None:
        grads = products if dtype == products.dtype else torch.empty_like(products, dtype=dtype)
    with device_of(products):
        am_softmax_rows_kernel[(len(products),)](
            products, row_scale, column_scale, target, nll if upstream is None else upstream, nll,
            nll if grads is None else grads, products.shape[1], float_bits(shift), GRADS=grads is not None,
            WIDE=tl_wide(products.dtype), BLOCK=_blocks.AM_SOFTMAX_CLASSES, num_warps=_blocks.AM_SOFTMAX_WARPS, **OPTIONS,
        )  # fmt: skip
    return nll, grads


def across(
    grad: Tensor,  # [n, D] float32 or float64, contiguous
    t: Tensor,  # [n, D], contiguous
    norm: Tensor,  # [n], of grad's dtype
    least: float,
    factor: Tensor | None,  # 0-dim, of grad's dtype
) -> Tensor:
    """factor (grad - t <t, grad> / norm^2), row by row, where the norm is beyond `least`; in t's dtype."""
    result = torch.empty_like(t)
    if result.numel() == 0:
        return result
    with device_of(t):
        am_softmax_across_kernel[(len(t),)](
            grad, t, norm, norm if factor is None else factor, result, t.shape[1], float_bits(least),
            SCALED=factor is not None, WIDE=tl_wide(grad.dtype), BLOCK=_blocks.AM_SOFTMAX_FEATURES,
            num_warps=_blocks.AM_SOFTMAX_FEATURE_WARPS, **OPTIONS,
        )  # fmt: skip
    return result
