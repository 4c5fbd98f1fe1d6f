"""Triton kernels of nade_nll, and their launcher. Not yet run on a GPU.

A program takes a tile of samples and hidden units through all D inputs, a in registers. Traffic of a program: 2 D rows of its
units forward, 4 D backward beside the 2 D that it writes. What it lacks for a sum leaves as partial sums, which are added up
in fixed order: forward [tiles of units, D, N] of the logits, backward [parts, D, H] of either weight's gradient, at most
NADE_PARTS of them. N = 64, D = 784, H = 500: 3 MB and 50 MB, 1 and 21 us at 4.8 TB/s; a chain of 784 sigmoids takes longer.

Backward keeps a at the segments of about sqrt(D) inputs; from the last segment to the first it makes the units anew, which
lie in a buffer of its own, and goes back: grad_output_weight_d = sum g h, grad_weight_d = sum x G, G += g v h (1 - h).
Nothing is subtracted from a: that would drift.
"""

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen.reference import nade_nll as reference
from pygen.reference.bernoulli_nll import targets

from . import _blocks
from ._compat import OPTIONS, device_of, tl_wide
from ._softplus import exp_minus_abs, sigmoid_of

_RUNTIME = ("images", "inputs", "hidden", "length", "tiles_each")  # no compilation of their own for 1


@triton.jit
def _row(row_ptr, d, hidden, unit, has_unit, WIDE: tl.constexpr):
    """[1, UNITS] of a weight's row d."""
    at = d.to(tl.int64) * hidden + unit
    return tl.load(row_ptr + at, mask=has_unit, other=0.0).to(WIDE)[None, :]


@triton.jit
def _column(column_ptr, d, images, image, is_image):
    """[SAMPLES, 1] of row d of a tensor [D, N]."""
    return tl.load(column_ptr + d.to(tl.int64) * images + image, mask=is_image, other=0.0)[:, None]


@triton.jit
def _taken(a, x, w):
    """a + x w; where x is 0 nothing is added, whatever w is."""
    return a + x * tl.where(x == 0.0, 0.0, w)


@triton.jit(do_not_specialize=_RUNTIME)
def nade_nll_fwd_kernel(
    x_ptr,  # [D, N]
    weight_ptr,  # [D, H]
    bias_ptr,  # [H]
    output_ptr,  # [D, H]
    partial_ptr,  # [tiles of units, D, N], written
    images,
    inputs,
    hidden,
    WIDE: tl.constexpr,
    SAMPLES: tl.constexpr,
    UNITS: tl.constexpr,
):
    image = tl.program_id(0).to(tl.int64) * SAMPLES + tl.arange(0, SAMPLES)
    unit = tl.program_id(1) * UNITS + tl.arange(0, UNITS)
    is_image, has_unit = image < images, unit < hidden
    a = tl.zeros((SAMPLES, UNITS), WIDE) + tl.load(bias_ptr + unit, mask=has_unit, other=0.0).to(WIDE)[None, :]
    partial_ptr += tl.program_id(1).to(tl.int64) * inputs * images
    for step in range(0, inputs):
        d = tl.zeros((), tl.int64) + step
        units = sigmoid_of(a, exp_minus_abs(a))
        sums = tl.sum(units * _row(output_ptr, d, hidden, unit, has_unit, WIDE), axis=1)
        tl.store(partial_ptr + d * images + image, sums, mask=is_image)
        x = _column(x_ptr, d, images, image, is_image)
        a = _taken(a, x, _row(weight_ptr, d, hidden, unit, has_unit, WIDE))


@triton.jit
def _add_to(ptr, d, hidden, unit, has_unit, sums, AGAIN):
    at = d.to(tl.int64) * hidden + unit
    before = tl.load(ptr + at, mask=has_unit & AGAIN, other=0.0)
    tl.store(ptr + at, before + sums, mask=has_unit)


@triton.jit(do_not_specialize=_RUNTIME)
def nade_nll_bwd_kernel(
    x_ptr,  # [D, N]
    grad_ptr,  # [D, N]
    weight_ptr,  # [D, H]
    bias_ptr,  # [H]
    output_ptr,  # [D, H]
    starts_ptr,  # [programs, segments, SAMPLES, UNITS], a workspace
    units_ptr,  # [programs, length, SAMPLES, UNITS], a workspace
    grad_weight_ptr,  # [parts, D, H], written
    grad_bias_ptr,  # [parts, H], written
    grad_output_ptr,  # [parts, D, H], written
    images,
    inputs,
    hidden,
    length,
    tiles_each,
    WIDE: tl.constexpr,
    SAMPLES: tl.constexpr,
    UNITS: tl.constexpr,
):
    part = tl.program_id(0).to(tl.int64)
    unit = tl.program_id(1) * UNITS + tl.arange(0, UNITS)
    has_unit = unit < hidden
    segments = (inputs + length - 1) // length
    program = part * tl.num_programs(1) + tl.program_id(1)
    TILE: tl.constexpr = SAMPLES * UNITS
    own = tl.arange(0, SAMPLES)[:, None] * UNITS + tl.arange(0, UNITS)[None, :]
    starts_ptr += program * segments * TILE + own
    units_ptr += program * length * TILE + own
    grad_weight_ptr += part * inputs * hidden
    grad_output_ptr += part * inputs * hidden
    bias = tl.load(bias_ptr + unit, mask=has_unit, other=0.0).to(WIDE)[None, :]
    bias_sums = tl.zeros((UNITS,), WIDE)
    for turn in range(0, tiles_each):
        image = (part * tiles_each + turn) * SAMPLES + tl.arange(0, SAMPLES)
        is_image = image < images
        a = tl.zeros((SAMPLES, UNITS), WIDE) + bias
        for segment in range(0, segments):
            tl.store(starts_ptr + (tl.zeros((), tl.int64) + segment) * TILE, a)
            for step in range(segment * length, tl.minimum((segment + 1) * length, inputs)):
                d = tl.zeros((), tl.int64) + step
                x = _column(x_ptr, d, images, image, is_image)
                a = _taken(a, x, _row(weight_ptr, d, hidden, unit, has_unit, WIDE))
        tl.debug_barrier()
        down = tl.zeros((SAMPLES, UNITS), WIDE)
        for back in range(0, segments):
            segment = segments - 1 - back
            first = segment * length
            count = tl.minimum(length, inputs - first)
            a = tl.load(starts_ptr + (tl.zeros((), tl.int64) + segment) * TILE)
            for step in range(0, count):
                tl.store(units_ptr + (tl.zeros((), tl.int64) + step) * TILE, sigmoid_of(a, exp_minus_abs(a)))
                d = tl.zeros((), tl.int64) + first + step
                x = _column(x_ptr, d, images, image, is_image)
                a = _taken(a, x, _row(weight_ptr, d, hidden, unit, has_unit, WIDE))
            tl.debug_barrier()
            for step in range(0, count):
                d = tl.zeros((), tl.int64) + first + count - 1 - step
                x = _column(x_ptr, d, images, image, is_image)
                sums = tl.sum(x * tl.where(x == 0.0, 0.0, down), axis=0)
                _add_to(grad_weight_ptr, d, hidden, unit, has_unit, sums, turn > 0)
                h = tl.load(units_ptr + (d - first) * TILE)
                g = _column(grad_ptr, d, images, image, is_image)
                sums = tl.sum(tl.where(is_image[:, None], g * h, 0.0), axis=0)
                _add_to(grad_output_ptr, d, hidden, unit, has_unit, sums, turn > 0)
                down += g * _row(output_ptr, d, hidden, unit, has_unit, WIDE) * (h * (1.0 - h))
            tl.debug_barrier()
        bias_sums += tl.sum(tl.where(is_image[:, None], down, 0.0), axis=0)
    tl.store(grad_bias_ptr + part * hidden + unit, bias_sums, mask=has_unit)


class _Call:
    """Contiguous tensors, and who takes what of them."""

    def __init__(self, input: Tensor, weight: Tensor, hidden_bias: Tensor, output_weight: Tensor) -> None:
        self.wide = torch.promote_types(weight.dtype, torch.float32)
        self.x = self.turned(targets(input, self.wide))
        self.parameters = tuple(t.contiguous() for t in (weight, hidden_bias, output_weight))
        self.sizes = (*input.shape, weight.shape[1])
        images, self.inputs, hidden = self.sizes
        self.tiles = -(-images // _blocks.NADE_SAMPLES)  # of samples
        self.unit_tiles = -(-hidden // _blocks.NADE_UNITS)

    @staticmethod
    def turned(t: Tensor) -> Tensor:
        """[N, D] as [D, N]: a step reads numbers that lie side by side."""
        return t.T.contiguous()

    def new(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.wide, device=self.x.device)

    def constants(self) -> dict:
        return {
            "WIDE": tl_wide(self.wide),
            "SAMPLES": _blocks.NADE_SAMPLES,
            "UNITS": _blocks.NADE_UNITS,
            "num_warps": _blocks.NADE_WARPS,
            **OPTIONS,
        }


def forward(
    input: Tensor,  # [N, D]
    weight: Tensor,  # [D, H]
    hidden_bias: Tensor,  # [H]
    output_weight: Tensor,  # [D, H]
    output_bias: Tensor,  # [D]
) -> Tensor:
    """The logits [N, D]."""
    call = _Call(input, weight, hidden_bias, output_weight)
    partial = call.new(call.unit_tiles, *call.x.shape)
    if partial.numel():
        with device_of(weight):
            nade_nll_fwd_kernel[(call.tiles, call.unit_tiles)](
                call.x, *call.parameters, partial, *call.sizes, **call.constants()
            )
    return (partial.sum(0).T + output_bias.to(call.wide)).contiguous()


def backward(
    grad_logits: Tensor,  # [N, D]
    input: Tensor,  # [N, D]
    weight: Tensor,  # [D, H]
    hidden_bias: Tensor,  # [H]
    output_weight: Tensor,  # [D, H]
    needs: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of input, weight, hidden_bias, output_weight and output_bias, None where they are not needed."""
    given = (input, weight, hidden_bias, output_weight)
    grads = _gradients(grad_logits, *given) if any(needs[1:4]) else (None,) * 3
    return (
        reference.grad_input(grad_logits, *given) if needs[0] else None,
        *(grad if n else None for grad, n in zip(grads, needs[1:4], strict=True)),
        grad_logits.sum(0).to(weight.dtype) if needs[4] else None,
    )


def _gradients(grad_logits: Tensor, *given: Tensor) -> list[Tensor]:
    """Of weight, hidden_bias and output_weight."""
    call = _Call(*given)
    g = call.turned(grad_logits)
    _, inputs, hidden = call.sizes
    tiles_each = max(1, -(-call.tiles // _blocks.NADE_PARTS))
    parts = -(-call.tiles // tiles_each)
    length = max(1, math.isqrt(max(0, inputs - 1)) + 1)
    tile = (_blocks.NADE_SAMPLES, _blocks.NADE_UNITS)
    programs = parts * call.unit_tiles
    workspaces = (call.new(programs, -(-inputs // length), *tile), call.new(programs, length, *tile))
    partial = call.new(parts, inputs, hidden), call.new(parts, hidden), call.new(parts, inputs, hidden)
    if programs:
        with device_of(g):
            nade_nll_bwd_kernel[(parts, call.unit_tiles)](
                call.x, g, *call.parameters, *workspaces, *partial, *call.sizes, length, tiles_each, **call.constants()
            )
    return [t.sum(0).to(given[1].dtype) for t in partial]
