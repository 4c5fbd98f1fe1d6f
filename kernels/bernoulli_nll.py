"""Triton kernels of bernoulli_nll, and their launcher. Not yet run on a GPU.

Formula: csrc/common/bernoulli_nll.h. Traffic of an element, T = bytes of a logit: forward reads T and x (a byte, 8 of int64, T
of floats), backward reads them and writes T: 5 and 9 bytes of float32 beside bytes, which at 4.8 TB/s is 1 and 1.9 ps. The
logarithm of a program's turns is one, of their product.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen._layout import in_memory_order
from pygen.native._likelihood import empty_nll, scale

from . import _blocks
from ._compat import bits_float, device_of, float_bits
from ._loss_sums import add_up
from ._rows import Frame, load_rows, offsets, place, store_rows
from ._softplus import exp_minus_abs, log1p_positive, quick_exp_minus_abs

_RUNTIME = ("rows", "per_row", "turns", "grad_stride", "scale_bits")  # no compilation of their own for 1


@triton.jit
def load_targets(ptr, row, d, mask, sizes, strides, LEVELS: tl.constexpr, WIDE: tl.constexpr):
    """x in [0, 1]; NaN of levels other than 0 and 1."""
    x = tl.load(ptr + offsets(row, d, sizes, strides), mask=mask, other=0)
    if LEVELS:  # noqa: SIM108
        x = tl.where(x == 0, 0.0, tl.where(x == 1, 1.0, float("nan"))).to(WIDE)
    else:
        x = x.to(WIDE)
    return x


@triton.jit(do_not_specialize=_RUNTIME)
def bernoulli_nll_fwd_kernel(
    logits_ptr,  # [N, D]
    x_ptr,  # [N, D]
    nll_ptr,  # [N], [1] or the partial sums of either
    logits_strides,
    x_strides,
    sizes,
    row_size,
    rows,
    per_row,
    turns,
    scale_bits,
    PER_ROW: tl.constexpr,
    LEVELS: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    QUADS: tl.constexpr,
    WHOLE: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    sums = tl.zeros((ROWS, 4 * QUADS), WIDE)
    product = tl.zeros((ROWS, 4 * QUADS), WIDE)  # of 1 + e over the turns, less 1; positive numbers alone are added
    for turn in range(turns):
        row, _, _, d, mask = place(program, turn, rows, row_size, per_row, turns, ROWS, QUADS, WHOLE)
        logit = load_rows(logits_ptr, row, d, mask, sizes, logits_strides, WIDE)
        x = load_targets(x_ptr, row, d, mask, sizes, x_strides, LEVELS, WIDE)
        wrong = tl.where(logit < 0.0, x, 1.0 - x)
        sums += tl.where(mask, tl.where(wrong == 0.0, 0.0, tl.abs(logit) * wrong), 0.0)
        e = tl.where(mask, quick_exp_minus_abs(logit), 0.0)
        product = product * (1.0 + e) + e
    row_sums = tl.sum(sums + log1p_positive(product), axis=1)
    if PER_ROW:
        row, part, _, _, _ = place(program, 0, rows, row_size, per_row, turns, ROWS, QUADS, WHOLE)
        row = tl.reshape(row, (ROWS,))
        tl.store(nll_ptr + row * per_row + part, row_sums, mask=row < rows)
    else:
        tl.store(nll_ptr + program, tl.sum(row_sums, axis=0) * bits_float(scale_bits, WIDE))


@triton.jit(do_not_specialize=_RUNTIME)
def bernoulli_nll_bwd_kernel(
    grad_nll_ptr,  # [N] or one number
    logits_ptr,  # [N, D]
    x_ptr,  # [N, D]
    grad_logits_ptr,  # [N, D], written
    logits_strides,
    x_strides,
    grad_logits_strides,
    sizes,
    row_size,
    rows,
    per_row,
    grad_stride,
    scale_bits,
    LEVELS: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    QUADS: tl.constexpr,
    WHOLE: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    row, _, _, d, mask = place(program, 0, rows, row_size, per_row, 1, ROWS, QUADS, WHOLE)
    logit = load_rows(logits_ptr, row, d, mask, sizes, logits_strides, WIDE)
    x = load_targets(x_ptr, row, d, mask, sizes, x_strides, LEVELS, WIDE)
    upstream = tl.load(grad_nll_ptr + row * grad_stride, mask=row < rows, other=0.0)
    e = exp_minus_abs(logit)
    slope = tl.where(logit < 0.0, (1.0 - x) * e - x, (1.0 - x) - x * e) / (1.0 + e)
    grad = slope * bits_float(scale_bits, WIDE) * upstream
    store_rows(grad_logits_ptr, row, d, mask, sizes, grad_logits_strides, grad)


class _Call:
    """The tensors of a call as rows, in the order that logits lie in."""

    def __init__(self, logits: Tensor, x: Tensor, grad_logits: Tensor | None, reduction: str, max_turns: int) -> None:
        self.reduce = reduction != "none"
        levels = x.view(torch.uint8) if x.dtype == torch.bool else x
        tensors = in_memory_order(logits, levels.expand(logits.shape), grad_logits)
        assert tensors[0] is not None
        self.frame = Frame(tensors[0].shape, tensors, self.reduce, max_turns)
        self.scale = scale(reduction, logits.shape[0])
        self.constants = {"LEVELS": not x.is_floating_point(), **self.frame.constants()}


def forward(
    logits: Tensor,  # [N, ...]
    x: Tensor,  # broadcasts to logits
    reduction: str,
) -> Tensor:
    """The negative log-likelihood, [N] or a scalar."""
    nll = empty_nll(logits, reduction)
    if logits.numel() == 0:
        return nll.fill_(0.0 * scale(reduction, logits.shape[0]))
    call = _Call(logits, x, None, reduction, _blocks.MAX_TURNS)
    frame, tiling = call.frame, call.frame.tiling
    partials = tiling.programs if call.reduce else tiling.per_row
    once = partials == 1
    sums = nll if once else nll.new_empty(partials * nll.numel())
    with device_of(logits):
        bernoulli_nll_fwd_kernel[(tiling.programs,)](
            *frame.tensors[:2], sums, *frame.strides[:2], frame.sizes, frame.row_size, frame.rows, tiling.per_row,
            tiling.turns, float_bits(call.scale if once else 1.0), PER_ROW=not call.reduce, **call.constants,
        )  # fmt: skip
        if not once:
            add_up(sums, nll, call.scale)
    return nll


def backward(
    grad_nll: Tensor,  # [N] or []
    logits: Tensor,  # [N, ...]
    x: Tensor,  # broadcasts to logits
    reduction: str,
) -> Tensor:
    """The gradient of logits."""
    grad_logits = torch.empty_like(logits)
    if logits.numel() == 0:
        return grad_logits
    call = _Call(logits, x, grad_logits, reduction, 1)
    frame = call.frame
    with device_of(logits):
        bernoulli_nll_bwd_kernel[(frame.tiling.programs,)](
            grad_nll, *frame.tensors, *frame.strides, frame.sizes, frame.row_size, frame.rows, frame.tiling.per_row,
            0 if call.reduce else grad_nll.stride(0), float_bits(call.scale), **call.constants,
        )  # fmt: skip
    frame.copy_back(*in_memory_order(logits, grad_logits)[1:])
    return grad_logits
