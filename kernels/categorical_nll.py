"""Triton kernels of categorical_nll, and their launcher. Not yet run on a GPU.

Traffic of a channel's position, L logits of T bytes: forward reads L T and its level (1 byte, or 8), backward reads them and
writes L T. Nothing is saved between them: a log-sum-exp would add 4 bytes each way and spare backward no reading of logits but
a program's second one, which comes out of registers where one block holds all levels, else out of the caches.
Bfloat16 [64, 256, 32, 32]: 34 MB forward, 67 MB backward, at 4.8 TB/s 7 and 14 us.

A unit is a channel of an image at a position: L logits and a level. A program takes a block of units and of levels, one after
the other where there are more levels. Exponentials are the hardware's: what they lack is at most 2^-22 of a sum of 1 or more.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks
from ._compat import OPTIONS, bits_float, cast, device_of, float_bits, index_type, tl_wide
from ._loss_sums import add_up
from ._softplus import log1p_positive

_RUNTIME = ("tiles", "grad_stride")  # no compilation of their own for 1


@triton.jit
def _units(row_units, tiles, per_image, positions, BLOCK: tl.constexpr):
    """Numbers of the program's units, whether there are such, and their image, channel and position."""
    program = tl.program_id(0).to(tl.int64)
    row = program // tiles
    within = (program - row * tiles) * BLOCK + tl.arange(0, BLOCK)
    live = within < row_units
    unit = row * row_units + within
    rest = unit % per_image  # of a remainder the compiler knows that units side by side stay so
    return unit, live, unit // per_image, rest // positions, rest % positions


@triton.jit
def _levels_of(x_ptr, image, channel, position, strides, live, levels):
    """int32, -1 of what is no level."""
    x = tl.load(x_ptr + image * strides[0] + channel * strides[1] + position * strides[2], mask=live, other=0)
    x = x.to(tl.int64)
    return tl.where((x < 0) | (x >= levels), -1, x).to(tl.int32)


@triton.jit
def _read(
    logits_ptr,
    place,
    start,
    live,
    level,
    levels,
    strides,
    WIDE: tl.constexpr,
    INDEX: tl.constexpr,
    LEVELS: tl.constexpr,
):
    """Logits [BLOCK, LEVELS] from level `start` on, -inf where there are none, and where the drawn ones are."""
    k = tl.arange(0, LEVELS)[None, :]
    mask = live[:, None] & (k + start < levels)
    place += (tl.zeros((), tl.int64) + start) * strides[1]
    logit = tl.load(logits_ptr + place + k.to(INDEX) * strides[1], mask=mask, other=float("-inf")).to(WIDE)
    return logit, mask, k + start == level[:, None]


@triton.jit
def _write(grads_ptr, place, start, strides, slope, mask, INDEX: tl.constexpr, LEVELS: tl.constexpr):
    place += (tl.zeros((), tl.int64) + start) * strides[1]
    at = place + tl.arange(0, LEVELS)[None, :].to(INDEX) * strides[1]
    tl.store(grads_ptr + at, cast(slope, grads_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _sweep(
    logits_ptr, place, live, level, levels, strides, WIDE: tl.constexpr, INDEX: tl.constexpr, BLOCK: tl.constexpr,
    LEVELS: tl.constexpr,
):  # fmt: skip
    """The largest logit, the drawn one, and the sum of e^(logit - largest) over the others."""
    LOWEST: tl.constexpr = -1.7976931348623157e308 if tl.float64 == WIDE else -3.402823466e38
    top = tl.full((BLOCK,), LOWEST, WIDE)
    drawn = tl.zeros((BLOCK,), WIDE)
    others = tl.zeros((BLOCK,), WIDE)
    for start in range(0, levels, LEVELS):
        logit, _, is_drawn = _read(logits_ptr, place, start, live, level, levels, strides, WIDE, INDEX, LEVELS)
        largest = tl.max(tl.where(logit > LOWEST, logit, LOWEST), axis=1)
        before = top
        top = tl.where(largest > top, largest, top)
        drawn += tl.sum(tl.where(is_drawn, logit, 0.0), axis=1)
        terms = tl.where(is_drawn, 0.0, tl.exp(logit - top[:, None]))
        others = others * tl.exp(before - top) + tl.sum(terms, axis=1)
    return top, tl.where(level < 0, float("nan"), drawn), others


@triton.jit(do_not_specialize=_RUNTIME)
def categorical_nll_fwd_kernel(
    logits_ptr,  # [N, C * L, positions]
    x_ptr,  # [N, C, positions]
    partial_ptr,  # [programs], or with EACH [units]
    strides,
    x_strides,
    row_units,
    tiles,
    per_image,
    positions,
    levels,
    EACH: tl.constexpr,
    WIDE: tl.constexpr,
    INDEX: tl.constexpr,  # of a level's offset from the first of its block
    BLOCK: tl.constexpr,
    LEVELS: tl.constexpr,
):
    unit, live, image, channel, position = _units(row_units, tiles, per_image, positions, BLOCK)
    level = _levels_of(x_ptr, image, channel, position, x_strides, live, levels)
    place = (image * strides[0] + channel * levels * strides[1] + position * strides[2])[:, None]
    top, drawn, others = _sweep(logits_ptr, place, live, level, levels, strides, WIDE, INDEX, BLOCK, LEVELS)
    own = tl.exp(drawn - top)
    beyond = tl.where(
        drawn == top, others, (others - 1.0) + own
    )  # the sum over all levels, less 1; of none -1, whose logarithm is NaN
    nll = (top - drawn) + log1p_positive(beyond)
    if EACH:
        tl.store(partial_ptr + unit, nll, mask=live)
    else:
        tl.store(partial_ptr + tl.program_id(0).to(tl.int64), tl.sum(tl.where(live, nll, 0.0), axis=0))


@triton.jit(do_not_specialize=_RUNTIME)
def categorical_nll_bwd_kernel(
    logits_ptr,  # [N, C * L, positions]
    x_ptr,  # [N, C, positions]
    grad_ptr,  # [N], or one number
    grads_ptr,  # [N, C * L, positions], written
    strides,
    x_strides,
    grads_strides,
    row_units,
    tiles,
    per_image,
    positions,
    levels,
    grad_stride,
    scale_bits,
    ONCE: tl.constexpr,  # one block of levels
    WIDE: tl.constexpr,
    INDEX: tl.constexpr,  # of a level's offset from the first of its block
    BLOCK: tl.constexpr,
    LEVELS: tl.constexpr,
):
    _, live, image, channel, position = _units(row_units, tiles, per_image, positions, BLOCK)
    level = _levels_of(x_ptr, image, channel, position, x_strides, live, levels)
    place = (image * strides[0] + channel * levels * strides[1] + position * strides[2])[:, None]
    grads_place = (image * grads_strides[0] + channel * levels * grads_strides[1] + position * grads_strides[2])[
        :, None
    ]
    g = tl.load(grad_ptr + image * grad_stride, mask=live, other=0.0)
    scale = bits_float(scale_bits, WIDE)
    if ONCE:
        LOWEST: tl.constexpr = -1.7976931348623157e308 if tl.float64 == WIDE else -3.402823466e38
        start = 0
        logit, mask, is_drawn = _read(logits_ptr, place, start, live, level, levels, strides, WIDE, INDEX, LEVELS)
        top = tl.max(tl.where(logit > LOWEST, logit, LOWEST), axis=1)
        terms = tl.exp(logit - top[:, None])
        own = tl.sum(tl.where(is_drawn, terms, 0.0), axis=1)
        others = tl.sum(tl.where(is_drawn, 0.0, terms), axis=1)
        factor = tl.where(level < 0, float("nan"), 1.0 / (others + own)) * scale
        slope = tl.where(is_drawn, -others[:, None], terms) * factor[:, None] * g[:, None]
        _write(grads_ptr, grads_place, start, grads_strides, slope, mask, INDEX, LEVELS)
    else:
        top, drawn, others = _sweep(logits_ptr, place, live, level, levels, strides, WIDE, INDEX, BLOCK, LEVELS)
        factor = 1.0 / (others + tl.exp(drawn - top)) * scale
        for start in range(0, levels, LEVELS):
            logit, mask, is_drawn = _read(logits_ptr, place, start, live, level, levels, strides, WIDE, INDEX, LEVELS)
            slope = tl.where(is_drawn, -others[:, None], tl.exp(logit - top[:, None])) * factor[:, None] * g[:, None]
            _write(grads_ptr, grads_place, start, grads_strides, slope, mask, INDEX, LEVELS)


class _Call:
    """Tensors as [N, channels, positions]; units in rows that are summed each for itself, or all in one."""

    def __init__(self, logits: Tensor, x: Tensor, reduction: str) -> None:
        self.logits, self.x = self.flat(logits), self.flat(x)
        images, channels, self.positions = self.x.shape
        self.levels = logits.shape[1] // channels
        self.per_image = channels * self.positions
        self.wide = torch.promote_types(logits.dtype, torch.float32)
        self.together = self.logits.stride(1) == 1 and self.logits.stride(2) != 1
        self.block, self.at_once = _blocks.categorical_tile(logits.dtype, self.levels, self.together)
        self.reduce = reduction != "none"
        self.each = self.per_image == 1 and not self.reduce
        joined = self.reduce or self.each
        self.row_units = images * self.per_image if joined else self.per_image
        self.tiles = -(-self.row_units // self.block)
        self.programs = self.tiles * (1 if joined else images)
        self.scale = 1.0 if reduction != "batchmean" else 1.0 / images if images else math.nan

    @staticmethod
    def flat(t: Tensor) -> Tensor:
        return t.unsqueeze(2) if t.dim() == 2 else t.flatten(2)

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.row_units, self.tiles, self.per_image, self.positions, self.levels

    def constants(self) -> dict:
        return {
            "WIDE": tl_wide(self.wide),
            "INDEX": index_type(0, self.logits[:1, : self.at_once, :1]),
            "BLOCK": self.block,
            "LEVELS": self.at_once,
            "num_warps": _blocks.CATEGORICAL_WARPS,
            **OPTIONS,
        }


def forward(
    logits: Tensor,  # [N, C * L, *spatial]
    x: Tensor,  # [N, C, *spatial]
    reduction: str,
) -> Tensor:
    """The negative log-likelihood, [N] or a scalar."""
    call = _Call(logits, x, reduction)
    nll = torch.empty(() if call.reduce else logits.shape[:1], dtype=call.wide, device=logits.device)
    if x.numel() == 0:
        return nll.fill_(math.nan) if call.scale != call.scale else nll.zero_()
    partial = nll if call.each else torch.empty(call.programs, dtype=call.wide, device=logits.device)
    with device_of(logits):
        categorical_nll_fwd_kernel[(call.programs,)](
            call.logits, call.x, partial, call.logits.stride(), call.x.stride(), *call.sizes, EACH=call.each, **call.constants()
        )  # fmt: skip
        if not call.each:
            add_up(partial, nll, call.scale)
    return nll


def backward(
    grad_nll: Tensor,  # [N] or []
    logits: Tensor,  # [N, C * L, *spatial]
    x: Tensor,  # [N, C, *spatial]
    reduction: str,
) -> Tensor:
    """The gradient of logits."""
    grad_logits = torch.empty_like(logits)
    if x.numel() == 0:
        return grad_logits
    call = _Call(logits, x, reduction)
    written = call.flat(grad_logits)
    with device_of(logits):
        categorical_nll_bwd_kernel[(call.programs,)](
            call.logits, call.x, grad_nll, written, call.logits.stride(), call.x.stride(), written.stride(), *call.sizes,
            0 if call.reduce else grad_nll.stride(0), float_bits(call.scale), ONCE=call.levels <= call.at_once,
            **call.constants(),
        )  # fmt: skip
    if written.data_ptr() != grad_logits.data_ptr():
        grad_logits.copy_(written.view(grad_logits.shape))
    return grad_logits
