"""Triton kernels of noise_contrastive, and their launchers. Not yet run on a GPU.

Traffic of a sample: D numbers of its own and 1 + K rows of the weights, D T bytes each from anywhere in memory; where input's
gradient is wanted they are read again, from L1 or L2 (K = 25 rows of 128 float32 are 13 KB). A sample is a program. Shared
negatives: K products read and their slopes written, 8 bytes each, sampled softmax twice.

Sums over classes: a program for each entry, of which those that begin a class work; an entry is a vector of D numbers read, a
class one written. A class that comes often keeps one program busy: the order of its sum is fixed.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen.ops._reduction import reduced

from . import _blocks
from ._compat import OPTIONS, bits_float, cast, device_of, float_bits, tl_wide
from ._softplus import exp_minus_abs, log1p_positive, log1p_unit, relu, sigmoid_of


@triton.jit
def _scores(
    input_ptr, weight_ptr, bias_ptr, noise_ptr, weight_stride, noise_stride, log_count, ids, live, features, classes,
    BIAS: tl.constexpr, NOISE: tl.constexpr, WIDE: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Those of classes ids [BLOCK_K], less log(K q); NaN of a class that there is none. input_ptr: the sample's."""
    known = live & (ids >= 0) & (ids < classes)
    sums = tl.zeros((BLOCK_K,), WIDE)
    rows = weight_ptr + (tl.where(known, ids, 0) * weight_stride)[:, None]
    for start in range(0, features, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        x = tl.load(input_ptr + d, mask=d < features, other=0.0).to(WIDE)
        w = tl.load(rows + d[None, :], mask=known[:, None] & (d < features)[None, :], other=0.0).to(WIDE)
        sums += tl.sum(w * x[None, :], axis=1)
    if BIAS:
        sums += tl.load(bias_ptr + ids, mask=known, other=0.0).to(WIDE)
    if NOISE:
        sums -= (tl.load(noise_ptr + ids * noise_stride, mask=known, other=0.0) + log_count).to(WIDE)
    return tl.where(known, sums, float("nan"))


@triton.jit
def noise_contrastive_rows_kernel(
    input_ptr,  # [N, D], rows input_stride apart
    weight_ptr,  # [C, D], rows weight_stride apart
    bias_ptr,  # [C]
    noise_ptr,  # [C], float64, noise_stride apart
    shift_ptr,  # [K]
    target_ptr,  # [N]
    negatives_ptr,  # [N, K], or [K] where SHARED
    scores_ptr,  # [N, K], products where SHARED; slopes take their place
    slopes_ptr,  # [N], written
    nll_ptr,  # [N], written
    grad_ptr,  # [N, D], written where GRAD
    input_stride,
    weight_stride,
    noise_stride,
    count,
    features,
    classes,
    log_count_bits,
    BIAS: tl.constexpr,
    NOISE: tl.constexpr,
    SHARED: tl.constexpr,
    SOFTMAX: tl.constexpr,
    HITS: tl.constexpr,
    GRAD: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    LOWEST: tl.constexpr = -1.7976931348623157e308 if tl.float64 == WIDE else -3.402823466e38
    row = tl.program_id(0).to(tl.int64)
    x_ptr = input_ptr + row * input_stride
    scores = scores_ptr + row * count
    negatives = negatives_ptr + (0 if SHARED else row * count)
    log_count = bits_float(log_count_bits, tl.float64)
    first = tl.arange(0, 2)  # the target, and nothing
    target = tl.load(target_ptr + row)
    both = _scores(
        x_ptr, weight_ptr, bias_ptr, noise_ptr, weight_stride, noise_stride, log_count, target + 0 * first, first == 0,
        features, classes, BIAS, NOISE, WIDE, 2, BLOCK_D,
    )  # fmt: skip
    own = tl.sum(tl.where(first == 0, both, 0.0), axis=0)

    tops = tl.full((BLOCK_K,), LOWEST, WIDE)  # lane by lane
    sums = tl.zeros((BLOCK_K,), WIDE)
    for start in range(0, count, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        live = k < count
        ids = tl.load(negatives + k, mask=live, other=0)
        if SHARED:
            score = tl.load(scores + k, mask=live, other=0.0) + tl.load(shift_ptr + k, mask=live, other=0.0)
            score = tl.where((ids >= 0) & (ids < classes), score, float("nan"))
        else:
            score = _scores(
                x_ptr, weight_ptr, bias_ptr, noise_ptr, weight_stride, noise_stride, log_count, ids, live, features,
                classes, BIAS, NOISE, WIDE, BLOCK_K, BLOCK_D,
            )  # fmt: skip
        score = tl.where(live, score, float("-inf"))
        if HITS:
            score = tl.where(ids == target, float("-inf"), score)
        if SOFTMAX:
            before = tops
            tops = tl.where(score > tops, score, tops)
            sums = sums * tl.exp(before - tops) + tl.exp(score - tops)
            tl.store(scores + k, score, mask=live)
        else:
            e = exp_minus_abs(score)
            sums += relu(score) + log1p_unit(e)
            tl.store(scores + k, sigmoid_of(score, e), mask=live)
    if SOFTMAX:
        top = tl.max(tops, axis=0)
        top = tl.where(own > top, own, top)
        others = tl.sum(sums * tl.exp(tops - top), axis=0)
        own_term = tl.exp(own - top)
        inverse = 1.0 / (others + own_term)
        beyond = tl.where(own == top, others, (others - 1.0) + own_term)
        tl.store(nll_ptr + row, (top - own) + log1p_positive(beyond))
        slope = -others * inverse
        tl.debug_barrier()
        for start in range(0, count, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            score = tl.load(scores + k, mask=k < count, other=0.0)
            tl.store(scores + k, tl.exp(score - top) * inverse, mask=k < count)
    else:
        e = exp_minus_abs(-own)
        tl.store(nll_ptr + row, relu(-own) + log1p_unit(e) + tl.sum(sums, axis=0))
        slope = -sigmoid_of(-own, e)
    tl.store(slopes_ptr + row, slope)
    if GRAD:
        tl.debug_barrier()
        known = tl.where(target < 0, 0, tl.where(target < classes, features, 0))  # numbers of its row
        target_row = weight_ptr + tl.where(known > 0, target, 0) * weight_stride
        for begin in range(0, features, BLOCK_D):
            d = begin + tl.arange(0, BLOCK_D)
            total = slope * tl.load(target_row + d, mask=d < known, other=0.0).to(WIDE)
            if not SHARED:
                for start in range(0, count, BLOCK_K):
                    k = start + tl.arange(0, BLOCK_K)
                    ids = tl.load(negatives + k, mask=k < count, other=-1)
                    live = (ids >= 0) & (ids < classes)
                    at = weight_ptr + (tl.where(live, ids, 0) * weight_stride)[:, None] + d[None, :]
                    w = tl.load(at, mask=live[:, None] & (d < features)[None, :], other=0.0).to(WIDE)
                    each = tl.load(scores + k, mask=k < count, other=0.0)
                    total += tl.sum(w * each[:, None], axis=0)
            tl.store(grad_ptr + row * features + d, total, mask=d < features)


@triton.jit
def noise_contrastive_sums_kernel(
    classes_ptr,  # [M], sorted
    order_ptr,  # [M]
    ends_ptr,  # [M], where each entry's class ends
    place_ptr,  # [M]
    scale_ptr,  # [M]
    bias_scale_ptr,  # [M]
    head_ptr,  # [targets, D]
    tail_ptr,  # [.., D]
    out_ptr,  # [rows, D], written
    bias_ptr,  # [rows], written where BIAS
    head_stride,
    tail_stride,
    targets,
    per,
    features,
    rows,
    BIAS: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    first = tl.program_id(0).to(tl.int64)
    own = tl.load(classes_ptr + first)
    before = tl.where(first > 0, tl.load(classes_ptr + tl.maximum(first - 1, 0)), -1)
    to = tl.load(place_ptr + first)
    end = tl.where(before == own, first, tl.load(ends_ptr + first))  # no entries but where a class begins
    end = tl.where(to < 0, first, tl.where(to < rows, end, first))
    each = tl.arange(0, BLOCK_E)
    if end > first:
        for start_d in range(0, features, BLOCK_D):
            d = start_d + tl.arange(0, BLOCK_D)
            total = tl.zeros((BLOCK_D,), WIDE)
            for start in range(first, end, BLOCK_E):
                live = start + each < end
                entry = tl.load(order_ptr + start + each, mask=live, other=0)
                scale = tl.load(scale_ptr + entry, mask=live, other=0.0)
                mask = live[:, None] & (d < features)[None, :]
                negative = (entry >= targets)[:, None]
                at = head_ptr + (tl.where(entry < targets, entry, 0) * head_stride)[:, None] + d[None, :]
                v = tl.load(at, mask=mask & (entry < targets)[:, None], other=0.0).to(WIDE)
                at = (
                    tail_ptr
                    + (tl.where(entry < targets, 0, (entry - targets) // per) * tail_stride)[:, None]
                    + d[None, :]
                )
                v += tl.load(at, mask=mask & negative, other=0.0).to(WIDE)
                total += tl.sum(v * scale[:, None], axis=0)
            tl.store(out_ptr + to * features + d, cast(total, out_ptr.dtype.element_ty), mask=d < features)
        if BIAS:
            sums = tl.zeros((BLOCK_E,), WIDE)
            for start in range(first, end, BLOCK_E):
                live = start + each < end
                entry = tl.load(order_ptr + start + each, mask=live, other=0)
                sums += tl.load(bias_scale_ptr + entry, mask=live, other=0.0)
            tl.store(bias_ptr + to, cast(tl.sum(sums, axis=0), bias_ptr.dtype.element_ty))


def rows(
    input: Tensor,  # [N, D]; the numbers of a row side by side, as of weight
    weight: Tensor,  # [C, D]
    bias: Tensor | None,  # [C], contiguous
    classes: tuple[Tensor, Tensor],  # target [N] and negatives [N, K], or [K] with a shift; contiguous
    log_noise: Tensor | None,  # [C], float64
    log_count: float,
    softmax: bool,
    hits: bool,
    shift: Tensor | None,  # [K], contiguous: what is added to the products
    scores: Tensor,  # [N, K], contiguous, in the dtype computed in: products, or nothing yet; slopes take their place
    slopes: Tensor,  # [N], written: the targets'
    reduction: str,
    grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """The loss and the gradient of input [N, D] (with a shift, what the targets give), in the dtype computed in."""
    nll = torch.empty_like(slopes)
    made = torch.empty(input.shape, dtype=slopes.dtype, device=input.device) if grad else None
    if not len(input):
        return reduced(nll, reduction), made
    tile = _blocks.contrast_tile(input.dtype, scores.shape[1], input.shape[1], shift is not None)
    with device_of(input):
        noise_contrastive_rows_kernel[(len(input),)](
            input, weight, input if bias is None else bias, scores if log_noise is None else log_noise,
            scores if shift is None else shift, *classes, scores, slopes, nll, nll if made is None else made,
            input.stride(0), weight.stride(0), 0 if log_noise is None else log_noise.stride(0), scores.shape[1],
            input.shape[1], len(weight), float_bits(log_count), BIAS=bias is not None, NOISE=log_noise is not None,
            SHARED=shift is not None, SOFTMAX=softmax, HITS=hits, GRAD=grad, WIDE=tl_wide(slopes.dtype), **tile, **OPTIONS,
        )  # fmt: skip
    return reduced(nll, reduction), made


def order(
    given: Tensor,  # [M] classes
    most: int,  # C
) -> tuple[Tensor, Tensor]:
    """The classes sorted and which entries they are; equal ones stay in their order."""
    return torch.sort(given, stable=True)


def sums(
    sorted_classes: Tensor,  # [M]
    entries: Tensor,  # [M], of order()
    place: Tensor | None,  # [M], the rows of out; None: the classes
    scale: Tensor,  # [M], by entry, in the dtype computed in
    bias_scale: Tensor | None,  # [M], what the bias gets; None: scale
    head: Tensor,  # [N, D], vectors of the first N entries; rows as of rows()
    tail: Tensor,  # [R, D], of the others, as many to each
    out: Tensor,  # [.., D], contiguous: rows of classes that come are written
    bias: Tensor | None,  # [..], contiguous, as out
) -> None:
    """out[c] = the sum over the entries of class c of their scale times their vector."""
    ends = torch.searchsorted(sorted_classes, sorted_classes, right=True)
    per = max(1, (len(entries) - len(head)) // max(1, len(tail)))
    with device_of(out):
        noise_contrastive_sums_kernel[(len(entries),)](
            sorted_classes, entries, ends, sorted_classes if place is None else place, scale,
            scale if bias_scale is None else bias_scale, head, tail, out, out if bias is None else bias, head.stride(0),
            tail.stride(0), len(head), per, out.shape[1], len(out), BIAS=bias is not None, WIDE=tl_wide(scale.dtype),
            BLOCK_E=_blocks.CONTRAST_ENTRIES, BLOCK_D=_blocks.power_of_2(out.shape[1], _blocks.CONTRAST_FEATURES),
            num_warps=_blocks.CONTRAST_WARPS, **OPTIONS,
        )  # fmt: skip
