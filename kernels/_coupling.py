"""What the kernels of couplings share: a log scale's factor, which element a lane has, the copy of what passes, the grid."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen._coupling import Part, Plan

from . import _blocks
from ._compat import OPTIONS, tl_wide
from ._elementary import exp_terms, exp_terms_float64
from ._softplus import log1p_positive


@triton.jit
def _root(f):
    """e^(f / 2), neither 0 nor infinite."""
    if f.dtype == tl.float64:
        root = tl.exp(0.5 * tl.where(f > 1416.0, 1416.0, tl.where(f < -1416.0, -1416.0, f)))
    else:
        root, _, _ = exp_terms(tl.where(f > 176.0, 176.0, tl.where(f < -176.0, -176.0, f)))
    return root


@triton.jit
def coupling_factor(s, bound, SCALE: tl.constexpr, INVERSE: tl.constexpr):
    """(root, rest, f, slope): e^f, or of the inverse e^-f, is root^2 rest; slope = df / ds."""
    rest = tl.full(s.shape, 1.0, s.dtype)
    slope = rest
    f = s
    if SCALE == "sigmoid":
        y = s + 2.0
        root = _root(-tl.abs(y))
        e = root * root
        total = e + 1.0
        negative = y < 0.0
        f = tl.where(negative, y, 0.0) - log1p_positive(e)
        slope = tl.where(negative, 1.0, e) / total
        rest = total if INVERSE else 1.0 / total
        root = tl.where(negative, 1.0 / root if INVERSE else root, 1.0)
    else:
        if SCALE == "tanh":
            a = s / bound
            x = tl.abs(a) * -2.0
            if s.dtype == tl.float64:
                half, em1, _ = exp_terms_float64(x)
            else:
                half, em1, _ = exp_terms(x)
            over = 1.0 / (em1 + 2.0)
            f = tl.where(a < 0.0, em1, -em1) * over * bound
            slope = 4.0 * (half * half) * (over * over)
        root = _root(-f if INVERSE else f)
    return root, rest, f, slope


@triton.jit
def coupling_place(rows, tiles, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Rows [R, 1], the part of them, elements [1, E]; all int64."""
    program = tl.program_id(0).to(tl.int64)
    row_block = program // tiles
    part = program - row_block * tiles
    row = (row_block * ROWS + tl.arange(0, ROWS).to(tl.int64))[:, None]
    e = (part * BLOCK + tl.arange(0, BLOCK).to(tl.int64))[None, :]
    return row, part, e


@triton.jit
def coupling_indices(e, sizes, FLAT: tl.constexpr):
    if FLAT:
        return e * 0, e * 0, e
    rest = e // sizes[2]
    outer = rest // sizes[1]
    return outer, rest - outer * sizes[1], e - rest * sizes[2]


@triton.jit
def coupling_offsets(row, i, j, k, place, FLAT: tl.constexpr):
    """place: the first element's offset, then strides over rows and the three dims."""
    offs = place[0] + row * place[1] + k * place[4]
    if not FLAT:
        offs += i * place[2] + j * place[3]
    return offs


@triton.jit
def copy_rest(from_ptr, to_ptr, row, e, mask, sizes, from_place, to_place, FLAT: tl.constexpr):
    """What passes unchanged; of from_ptr None zeros."""
    i, j, k = coupling_indices(e, sizes, FLAT)
    offs = coupling_offsets(row, i, j, k, to_place, FLAT)
    if from_ptr is None:
        tl.store(to_ptr + offs, tl.zeros(offs.shape, to_ptr.dtype.element_ty), mask=mask)
    else:
        value = tl.load(from_ptr + coupling_offsets(row, i, j, k, from_place, FLAT), mask=mask, other=0.0)
        tl.store(to_ptr + offs, value, mask=mask)


class CouplingLaunch:
    """The grid of a call, and its tensors' places as kernels take them."""

    def __init__(self, plan: Plan, like: Tensor, elements: int) -> None:
        self.live, self.rest = plan.live, plan.rest or Part((1, 1, 0), ())
        self.parity, self.weights, self.even = plan.weights is not None, plan.weights or (0, 0, 0), int(plan.even)
        self.rows, self.double = len(like), like.dtype == torch.float64
        longest = max(self.live.count, self.rest.count, 1)
        self.block = min(triton.next_power_of_2(longest), elements)
        self.at_once = elements // self.block
        self.tiles = -(-longest // self.block)
        self.grid = (-(-self.rows // self.at_once) * self.tiles,)

    @staticmethod
    def places(part: Part, numbers: Sequence[int | None]) -> list[tuple[int, ...]]:
        """(offset, strides) of these tensors, by their number in the plan; zeros where there is none."""
        found = [None if n is None or n >= len(part.places) else part.places[n] for n in numbers]
        return [(0,) * 5 if place is None else (place[0], *place[1]) for place in found]

    def arguments(self) -> tuple:
        return (self.live.sizes, self.rest.sizes, self.weights, self.live.count, self.rest.count, self.rows, self.tiles,
                self.even)  # fmt: skip

    def constants(self, like: Tensor, inverse: bool) -> dict[str, object]:
        return {
            "INVERSE": inverse,
            "FLAT": self.live.sizes[:2] == (1, 1),
            "REST_FLAT": self.rest.sizes[:2] == (1, 1),
            "WIDE": tl_wide(like.dtype),
            "ROWS": self.at_once,
            "BLOCK": self.block,
            "num_warps": _blocks.num_warps(like.dtype),
            **OPTIONS,
        }
