"""Triton kernels of logistic_mixture_nll, and their launcher. Not yet run on a GPU.

Traffic of a pixel, P parameters of T bytes and C levels: forward reads P T + C bytes (8 C of int64), backward reads them and
writes P T. A program takes a block of positions of one image and a block of components of all of them at once, so that the
gradient needs nothing twice; more components than MIXTURE_COMPONENTS take turns, in backward twice.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks
from ._compat import OPTIONS, bits_float, cast, device_of, float_bits, tl_wide
from ._logistic import log_or_nan
from ._logistic_parts import add_terms, colour_parts, grey_parts, level_of, place_of
from ._loss_sums import add_up
from ._softplus import exp_minus_abs

_RUNTIME = (
    "positions",
    "tiles",
    "components",
    "num_levels",
    "grad_stride",
)  # no compilation of their own for 1


@triton.jit(do_not_specialize=_RUNTIME)
def logistic_mixture_nll_fwd_kernel(
    params_ptr,  # [N, P, positions]
    x_ptr,  # [N, C, positions]
    partial_ptr,  # [programs], or with EACH [positions]
    strides,
    x_strides,
    positions,
    tiles,
    components,
    num_levels,
    least_bits,
    CHANNELS: tl.constexpr,
    EACH: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    KINDS: tl.constexpr,
):
    LOWEST: tl.constexpr = -1.7976931348623157e308 if tl.float64 == WIDE else -3.402823466e38
    image, position, live = place_of(tiles, positions, strides, BLOCK)
    num_levels = num_levels.to(tl.int32)
    least = bits_float(least_bits, WIDE)
    red, at_red = level_of(x_ptr, image, position, live, 0, x_strides, num_levels, WIDE)
    green, at_green = red, at_red
    blue, at_blue = red, at_red
    if CHANNELS == 3:
        green, at_green = level_of(x_ptr, image, position, live, 1, x_strides, num_levels, WIDE)
        blue, at_blue = level_of(x_ptr, image, position, live, 2, x_strides, num_levels, WIDE)
    place = (image * strides[0] + position * strides[2])[:, None]
    top = tl.full((BLOCK,), LOWEST, WIDE)
    top_logit = tl.full((BLOCK,), LOWEST, WIDE)
    total = tl.zeros((BLOCK,), WIDE)
    total_logits = tl.zeros((BLOCK,), WIDE)
    for start in range(0, components, KINDS):
        k = (start + tl.arange(0, KINDS).to(tl.int64))[None, :]
        mask = live[:, None] & (k < components)
        if CHANNELS == 3:
            logit, joint, _ = colour_parts(
                params_ptr, place, k, strides, mask, red, green, blue, at_red, at_green, at_blue, components, least,
                num_levels, WIDE,
            )  # fmt: skip
        else:
            logit, joint, _, _, _ = grey_parts(
                params_ptr, place, k, strides, mask, red, at_red, components, least, num_levels, WIDE
            )
        top, total = add_terms(top, total, joint, mask)
        top_logit, total_logits = add_terms(top_logit, total_logits, logit, mask)
    inner = tl.where(at_red == 0.0, 1.0, 0.0)
    if CHANNELS == 3:
        inner += tl.where(at_green == 0.0, 1.0, 0.0) + tl.where(at_blue == 0.0, 1.0, 0.0)
    log_width = log_or_nan(2.0 / (num_levels - 1).to(WIDE))
    nll = (
        (top_logit - top) + (log_or_nan(total_logits) - log_or_nan(total)) - tl.sum(inner, axis=1).to(WIDE) * log_width
    )
    nll = tl.where(total == 0.0, float("inf"), nll)  # no component gives the level any chance
    nll = tl.where(total_logits == 0.0, float("nan"), nll)  # no component
    if EACH:
        tl.store(partial_ptr + position, nll, mask=live)
    else:
        tl.store(partial_ptr + tl.program_id(0).to(tl.int64), tl.sum(tl.where(live, nll, 0.0), axis=0))


@triton.jit
def _give(grads_ptr, place, at, strides, mask, value):
    tl.store(grads_ptr + place + at * strides[1], cast(value, grads_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=_RUNTIME)
def logistic_mixture_nll_bwd_kernel(
    params_ptr,  # [N, P, positions]
    x_ptr,  # [N, C, positions]
    grad_ptr,  # [N], or one number
    grads_ptr,  # [N, P, positions], written
    strides,
    x_strides,
    grads_strides,
    positions,
    tiles,
    components,
    num_levels,
    grad_stride,
    least_bits,
    scale_bits,
    CHANNELS: tl.constexpr,
    EACH: tl.constexpr,  # a number of grad_ptr for each position
    ONCE: tl.constexpr,  # one block of components
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    KINDS: tl.constexpr,
):
    LOWEST: tl.constexpr = -1.7976931348623157e308 if tl.float64 == WIDE else -3.402823466e38
    image, position, live = place_of(tiles, positions, strides, BLOCK)
    num_levels = num_levels.to(tl.int32)
    least = bits_float(least_bits, WIDE)
    red, at_red = level_of(x_ptr, image, position, live, 0, x_strides, num_levels, WIDE)
    green, at_green = red, at_red
    blue, at_blue = red, at_red
    if CHANNELS == 3:
        green, at_green = level_of(x_ptr, image, position, live, 1, x_strides, num_levels, WIDE)
        blue, at_blue = level_of(x_ptr, image, position, live, 2, x_strides, num_levels, WIDE)
    place = (image * strides[0] + position * strides[2])[:, None]
    grads_place = (image * grads_strides[0] + position * grads_strides[2])[:, None]
    if EACH:  # noqa: SIM108
        g = tl.load(grad_ptr + position * grad_stride, mask=live, other=0.0)
    else:
        g = tl.load(grad_ptr + image * grad_stride)
    g = g * bits_float(scale_bits, WIDE)
    top = tl.full((BLOCK,), LOWEST, WIDE)
    top_logit = tl.full((BLOCK,), LOWEST, WIDE)
    total = tl.zeros((BLOCK,), WIDE)
    total_logits = tl.zeros((BLOCK,), WIDE)
    if not ONCE:
        for start in range(0, components, KINDS):
            k = (start + tl.arange(0, KINDS).to(tl.int64))[None, :]
            mask = live[:, None] & (k < components)
            if CHANNELS == 3:
                logit, joint, _ = colour_parts(
                    params_ptr, place, k, strides, mask, red, green, blue, at_red, at_green, at_blue, components, least,
                    num_levels, WIDE,
                )  # fmt: skip
            else:
                logit, joint, _, _, _ = grey_parts(
                    params_ptr, place, k, strides, mask, red, at_red, components, least, num_levels, WIDE
                )
            top, total = add_terms(top, total, joint, mask)
            top_logit, total_logits = add_terms(top_logit, total_logits, logit, mask)
    for start in range(0, components, KINDS):
        k = (start + tl.arange(0, KINDS).to(tl.int64))[None, :]
        mask = live[:, None] & (k < components)
        if CHANNELS == 3:
            logit, joint, slopes = colour_parts(
                params_ptr, place, k, strides, mask, red, green, blue, at_red, at_green, at_blue, components, least,
                num_levels, WIDE,
            )  # fmt: skip
        else:
            logit, joint, m0, l0, f0 = grey_parts(
                params_ptr, place, k, strides, mask, red, at_red, components, least, num_levels, WIDE
            )
        if ONCE:
            top, total = add_terms(top, total, joint, mask)
            top_logit, total_logits = add_terms(top_logit, total_logits, logit, mask)
        weight = exp_minus_abs(joint - top[:, None]) * (g / total)[:, None]
        prior = exp_minus_abs(logit - top_logit[:, None]) * (g / total_logits)[:, None]
        _give(grads_ptr, grads_place, k, grads_strides, mask, prior - weight)
        if CHANNELS == 3:
            for c in tl.static_range(3):
                first = (1 + 3 * c) * components + k
                scale = tl.where(slopes[4 * c + 2], 0.0, weight * slopes[4 * c + 1])
                _give(grads_ptr, grads_place, first, grads_strides, mask, weight * slopes[4 * c])
                _give(grads_ptr, grads_place, first + components, grads_strides, mask, scale)
                _give(grads_ptr, grads_place, first + 2 * components, grads_strides, mask, weight * slopes[4 * c + 3])
        else:
            _give(grads_ptr, grads_place, components + k, grads_strides, mask, weight * m0)
            scale = tl.where(f0, 0.0, weight * l0)
            _give(grads_ptr, grads_place, 2 * components + k, grads_strides, mask, scale)


class _Call:
    """Tensors as [N, C, positions] with one stride over the positions; of samples of one position the batch takes their place."""

    def __init__(self, params: Tensor, x: Tensor, num_levels: int, min_log_scale: float, reduction: str) -> None:
        self.turned = params[0, 0].numel() == 1 if len(params) else False
        self.params, self.x = self.flat(params), self.flat(x)
        self.images, num_params, self.positions = self.params.shape
        self.channels = x.shape[1]
        self.components = num_params // (3 if self.channels == 1 else 10)
        self.wide = torch.promote_types(params.dtype, torch.float32)
        self.block, self.kinds = _blocks.mixture_tile(params.dtype, self.components)
        self.tiles = -(-self.positions // self.block)
        self.programs = self.images * self.tiles
        self.each = self.turned and reduction == "none"
        self.reduce = reduction != "none"
        self.scale = 1.0 if reduction != "batchmean" else 1.0 / len(params) if len(params) else math.nan
        self.sizes = (self.positions, self.tiles, self.components, num_levels)
        self.least = float_bits(min_log_scale)

    def flat(self, t: Tensor) -> Tensor:
        t = t.unsqueeze(2) if t.dim() == 2 else t.flatten(2)
        return t.transpose(0, 2) if self.turned else t

    def constants(self) -> dict:
        return {
            "CHANNELS": self.channels,
            "EACH": self.each,
            "WIDE": tl_wide(self.wide),
            "BLOCK": self.block,
            "KINDS": self.kinds,
            "num_warps": _blocks.MIXTURE_WARPS,
            **OPTIONS,
        }


def forward(
    params: Tensor,  # [N, P, *spatial]
    x: Tensor,  # [N, C, *spatial]
    num_levels: int,
    min_log_scale: float,
    reduction: str,
) -> Tensor:
    """The negative log-likelihood, [N] or a scalar."""
    call = _Call(params, x, num_levels, min_log_scale, reduction)
    nll = torch.empty(() if call.reduce else params.shape[:1], dtype=call.wide, device=params.device)
    if x.numel() == 0:
        return nll.fill_(math.nan) if call.scale != call.scale else nll.zero_()
    partial = nll if call.each else torch.empty(call.programs, dtype=call.wide, device=params.device)
    with device_of(params):
        logistic_mixture_nll_fwd_kernel[(call.programs,)](
            call.params, call.x, partial, call.params.stride(), call.x.stride(), *call.sizes, call.least, **call.constants()
        )  # fmt: skip
        if not call.each:
            add_up(partial, nll, call.scale)
    return nll


def backward(
    grad_nll: Tensor,  # [N] or []
    params: Tensor,  # [N, P, *spatial]
    x: Tensor,  # [N, C, *spatial]
    num_levels: int,
    min_log_scale: float,
    reduction: str,
) -> Tensor:
    """The gradient of params."""
    grad_params = torch.empty_like(params)
    if x.numel() == 0:
        return grad_params
    call = _Call(params, x, num_levels, min_log_scale, reduction)
    written = call.flat(grad_params)
    with device_of(params):
        logistic_mixture_nll_bwd_kernel[(call.programs,)](
            call.params, call.x, grad_nll, written, call.params.stride(), call.x.stride(), written.stride(), *call.sizes,
            0 if call.reduce else grad_nll.stride(0), call.least, float_bits(call.scale),
            ONCE=call.components <= call.kinds, **call.constants(),
        )  # fmt: skip
    if written.data_ptr() != grad_params.data_ptr():
        grad_params.copy_((written.transpose(0, 2) if call.turned else written).view(grad_params.shape))
    return grad_params
