"""Triton kernels of gated_activation, and their launcher. Not yet run on a GPU. Formulas: csrc/common/gated_activation.h.

Traffic, T = bytes of the input: forward reads T and writes T / 2, backward reads 3/2 T and writes T; a full-size cond adds T each
way and, where it needs a gradient, T written; what the input's gradient has besides is T read. Nothing is kept between them. A
program takes [channels, pixels] of one half of one colour group in one image, along whichever of the two lies together in memory.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen._layout import empty_images

from . import _blocks
from ._compat import OPTIONS, cast, device_of, tl_wide
from ._gate import gate, parts_for
from ._rows import merge_inner

_RUNTIME = ("half", "pixels", "c_tiles", "p_tiles", "groups")


@triton.jit
def _place(half, pixels, c_tiles, p_tiles, groups, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr):
    """Image, group, part of the pixels, channels [C, 1] of a half, pixels [1, P] and which of these exist. All int64."""
    program = tl.program_id(0).to(tl.int64)
    rest = program // p_tiles
    part = program - rest * p_tiles
    tile = rest % c_tiles
    rest //= c_tiles
    image = rest // groups
    c = (tile * BLOCK_C + tl.arange(0, BLOCK_C))[:, None]
    p = (part * BLOCK_P + tl.arange(0, BLOCK_P))[None, :]
    return image, rest - image * groups, part, c, p, (c < half) & (p < pixels)


@triton.jit
def _offsets(image, group, c, p, sizes, strides):
    """strides: of images, groups, channels, then one for each of sizes."""
    offs = image * strides[0] + group * strides[1] + c * strides[2]
    if len(sizes) == 1:
        offs += p * strides[3]
    else:
        rest = p // sizes[2]
        outer = rest // sizes[1]
        offs += (p - rest * sizes[2]) * strides[5] + (rest - outer * sizes[1]) * strides[4] + outer * strides[3]
    return offs


@triton.jit
def _load_halves(
    a_ptr, b_ptr, cond_a_ptr, cond_b_ptr, image, group, c, p, mask, sizes, x_strides, cond_strides, WIDE: tl.constexpr
):
    offs = _offsets(image, group, c, p, sizes, x_strides)
    a = tl.load(a_ptr + offs, mask=mask, other=0.0).to(WIDE)
    b = tl.load(b_ptr + offs, mask=mask, other=0.0).to(WIDE)
    if cond_a_ptr is not None:
        offs = _offsets(image, group, c, p, sizes, cond_strides)
        a += tl.load(cond_a_ptr + offs, mask=mask, other=0.0).to(WIDE)
        b += tl.load(cond_b_ptr + offs, mask=mask, other=0.0).to(WIDE)
    return a, b


@triton.jit(do_not_specialize=_RUNTIME)
def gated_activation_fwd_kernel(
    a_ptr,  # [N, G, half, pixels], the first halves
    b_ptr,  # the second
    cond_a_ptr,  # the same of cond, or None
    cond_b_ptr,
    out_ptr,  # [N, G, half, pixels]
    x_strides,
    cond_strides,
    out_strides,
    sizes,
    half,
    pixels,
    c_tiles,
    p_tiles,
    groups,
    WIDE: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    image, group, _, c, p, mask = _place(half, pixels, c_tiles, p_tiles, groups, BLOCK_C, BLOCK_P)
    a, b = _load_halves(
        a_ptr, b_ptr, cond_a_ptr, cond_b_ptr, image, group, c, p, mask, sizes, x_strides, cond_strides, WIDE
    )
    out_offs = _offsets(image, group, c, p, sizes, out_strides)
    tl.store(out_ptr + out_offs, gate(a, b, out_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=_RUNTIME)
def gated_activation_bwd_kernel(
    grad_ptr,  # [N, G, half, pixels], as all but partial_ptr
    a_ptr,
    b_ptr,
    cond_a_ptr,  # or None, as the next
    cond_b_ptr,
    grad_a_ptr,  # or None where not wanted, as the next three
    grad_b_ptr,
    grad_cond_a_ptr,
    grad_cond_b_ptr,
    more_a_ptr,  # what is added to grad_a and grad_b, or None
    more_b_ptr,
    partial_ptr,  # [p_tiles, N, G, 2, half]: sums over pixels of both, or None
    images,
    grad_strides,
    x_strides,
    cond_strides,
    grad_x_strides,
    grad_cond_strides,
    more_strides,
    sizes,
    half,
    pixels,
    c_tiles,
    p_tiles,
    groups,
    WIDE: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    image, group, part, c, p, mask = _place(half, pixels, c_tiles, p_tiles, groups, BLOCK_C, BLOCK_P)
    a, b = _load_halves(
        a_ptr, b_ptr, cond_a_ptr, cond_b_ptr, image, group, c, p, mask, sizes, x_strides, cond_strides, WIDE
    )
    grad = tl.load(grad_ptr + _offsets(image, group, c, p, sizes, grad_strides), mask=mask, other=0.0).to(WIDE)
    NARROW: tl.constexpr = a_ptr.dtype.element_ty.primitive_bitwidth == 16
    tanh, tanh_over, exp_minus_2a, sigmoid, sigmoid_over, e = parts_for(a, b, NARROW)
    over = 1.0 / (tanh_over * sigmoid_over)
    both = grad * over * over
    grad_a = both * (sigmoid * sigmoid_over) * (exp_minus_2a * 4.0)
    grad_b = both * (tanh * tanh_over) * e
    if grad_cond_a_ptr is not None:
        offs = _offsets(image, group, c, p, sizes, grad_cond_strides)
        tl.store(grad_cond_a_ptr + offs, cast(grad_a, grad_cond_a_ptr.dtype.element_ty), mask=mask)
        tl.store(grad_cond_b_ptr + offs, cast(grad_b, grad_cond_b_ptr.dtype.element_ty), mask=mask)
    if partial_ptr is not None:
        row = ((part * images + image) * groups + group) * 2 * half + c
        c_mask = c < half
        tl.store(partial_ptr + row, tl.sum(tl.where(mask, grad_a, 0.0), axis=1)[:, None], mask=c_mask)
        tl.store(partial_ptr + row + half, tl.sum(tl.where(mask, grad_b, 0.0), axis=1)[:, None], mask=c_mask)
    if more_a_ptr is not None:
        offs = _offsets(image, group, c, p, sizes, more_strides)
        grad_a += tl.load(more_a_ptr + offs, mask=mask, other=0.0).to(WIDE)
        grad_b += tl.load(more_b_ptr + offs, mask=mask, other=0.0).to(WIDE)
    if grad_a_ptr is not None:
        offs = _offsets(image, group, c, p, sizes, grad_x_strides)
        tl.store(grad_a_ptr + offs, cast(grad_a, grad_a_ptr.dtype.element_ty), mask=mask)
        tl.store(grad_b_ptr + offs, cast(grad_b, grad_b_ptr.dtype.element_ty), mask=mask)


class _Frame:
    """A call's tensors as kernels take them: [N, G, half, pixels], each by its strides; contiguous copies where they must be."""

    def __init__(
        self, input: Tensor, color_groups: int, halved: Sequence[Tensor | None], whole: Sequence[Tensor | None]
    ) -> None:
        """`halved` have input's channels, `whole` half as many."""
        if input.dim() == 2:  # the batch takes the place of the pixels: [1, C, N]
            input, *turned = (None if t is None else t.t().unsqueeze(0) for t in (input, *halved, *whole))
            halved, whole = turned[: len(halved)], turned[len(halved) :]
        self.groups, self.half = color_groups, input.shape[1] // (2 * color_groups)
        self.pixels = input.shape[2:].numel()
        views = self._views(input, halved, whole)
        merged = self._merge(views)
        self.copies: list[tuple[Tensor, Tensor]] = []
        if merged is None:
            made = [None if t is None else t.contiguous() for t in (*halved, *whole)]
            self.copies = [
                (t, m)
                for t, m in zip((*halved, *whole), made, strict=True)
                if t is not None and m is not None and t is not m
            ]
            views = self._views(input, made[: len(halved)], made[len(halved) :])
            merged = self._merge(views)
            assert merged is not None
        self.sizes, inner = merged
        rest = iter(inner)
        none = (0,) * (3 + len(self.sizes))
        self.strides = [none if v is None else (*v[0].stride()[:3], *next(rest)) for v in views]
        self.pointers = [(None, None) if v is None else v for v in views]
        last = input.dim() > 2 and input.stride(1) == 1 and input.stride(-1) != 1
        side = max(1, min(_blocks.GATE_LAST_CHANNELS if last else 1, triton.next_power_of_2(self.half)))
        pixels = min(_blocks.GATE_BLOCK // side, triton.next_power_of_2(self.pixels))
        side = max(side, min(_blocks.GATE_BLOCK // max(pixels, 1), triton.next_power_of_2(self.half)))
        self.block_c, self.block_p = side, pixels
        self.c_tiles, self.p_tiles = -(-self.half // side), -(-self.pixels // pixels)
        self.grid = (len(input) * color_groups * self.c_tiles * self.p_tiles,)
        self.wide = tl_wide(input.dtype)

    def _views(self, input: Tensor, halved: Sequence[Tensor | None], whole: Sequence[Tensor | None]) -> list:
        views: list[tuple[Tensor, Tensor] | tuple[Tensor] | None] = []
        for t in halved:
            if t is not None and t.dim() < input.dim():
                t = t.view(*t.shape, *[1] * (input.dim() - 2)).expand(input.shape)
            views.append(None if t is None else t.unflatten(1, (self.groups, 2, self.half)).unbind(2))
        views += [None if t is None else (t.unflatten(1, (self.groups, self.half)),) for t in whole]
        return views

    @staticmethod
    def _merge(views: list) -> tuple[tuple[int, ...], list[tuple[int, ...]]] | None:
        return merge_inner([v[0][0, 0] for v in views if v is not None])

    def copy_back(self, *outputs: Tensor | None) -> None:
        for t, made in self.copies:
            if any(t is out for out in outputs):
                t.copy_(made)

    def arguments(self) -> tuple:
        return self.sizes, self.half, self.pixels, self.c_tiles, self.p_tiles, self.groups

    def constants(self) -> dict[str, object]:
        warps = {"num_warps": _blocks.num_warps(torch.float64 if self.wide == tl.float64 else torch.float32)}
        return {"WIDE": self.wide, "BLOCK_C": self.block_c, "BLOCK_P": self.block_p, **warps, **OPTIONS}


def forward(input: Tensor, cond: Tensor | None, color_groups: int) -> Tensor:
    """input [N, C, ...], cond [N, C] or like input -> [N, C / 2, ...]"""
    output = empty_images(input, input.shape[1] // 2)
    if output.numel() == 0:
        return output
    frame = _Frame(input, color_groups, (input, cond), (output,))
    [(a, b), (cond_a, cond_b), (out, *_)] = frame.pointers
    with device_of(input):
        gated_activation_fwd_kernel[frame.grid](
            a, b, cond_a, cond_b, out, *frame.strides, *frame.arguments(), **frame.constants()
        )  # fmt: skip
    frame.copy_back(output)
    return output


def backward(
    grad: Tensor,  # [N, C / 2, ...]
    input: Tensor,  # [N, C, ...]
    cond: Tensor | None,  # [N, C] or like input
    color_groups: int,
    needs: Sequence[bool],
    more: Tensor | None = None,  # [N, C, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of input, `more` added, and of cond; None where needs is False."""
    grad_input = torch.empty_like(input) if needs[0] else None
    grad_cond = torch.empty_like(cond) if cond is not None and needs[1] else None
    if input.numel() == 0:
        return grad_input, None if grad_cond is None else grad_cond.zero_()
    summed = grad_cond is not None and grad_cond.dim() < input.dim()
    written = None if summed else grad_cond
    more = None if grad_input is None else more
    frame = _Frame(input, color_groups, (input, cond, grad_input, written, more), (grad,))
    [(a, b), (cond_a, cond_b), (grad_a, grad_b), (grad_cond_a, grad_cond_b), (more_a, more_b), (upstream, *_)] = (
        frame.pointers
    )
    x_s, cond_s, grad_x_s, grad_cond_s, more_s, grad_s = frame.strides
    partial = None
    if summed:
        wide = torch.promote_types(input.dtype, torch.float32)
        partial = torch.empty((frame.p_tiles, *input.shape[:2]), dtype=wide, device=input.device)
    with device_of(input):
        gated_activation_bwd_kernel[frame.grid](
            upstream, a, b, cond_a, cond_b, grad_a, grad_b, grad_cond_a, grad_cond_b, more_a, more_b, partial, len(input),
            grad_s, x_s, cond_s, grad_x_s, grad_cond_s, more_s, *frame.arguments(), **frame.constants(),
        )  # fmt: skip
    frame.copy_back(grad_input, written)
    if grad_cond is not None and partial is not None:
        grad_cond.copy_(partial.sum(0))  # torch's sums repeat
    return grad_input, grad_cond
