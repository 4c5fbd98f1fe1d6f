"""How Triton kernels see tensors: rows (dimension 0), and inside a row one stride, or three where one cannot serve all."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks
from ._compat import OPTIONS, cast, tl_wide

MAX_INNER = 3


def merge_inner(tensors: list[Tensor]) -> tuple[tuple[int, ...], list[tuple[int, ...]]] | None:
    """The dimensions 1.. of equally shaped tensors, merged where every tensor allows: 1 or 3 sizes and each tensor's strides.

    None if more than three remain.
    """
    shape = tensors[0].shape[1:]
    sizes: list[int] = []
    strides: list[list[int]] = [[] for _ in tensors]
    for i in reversed(range(len(shape))):
        if shape[i] == 1:
            continue
        step = [t.stride(i + 1) for t in tensors]
        if sizes and all(s == inner[0] * sizes[0] for s, inner in zip(step, strides, strict=True)):
            sizes[0] *= shape[i]
            continue
        sizes.insert(0, shape[i])
        for s, inner in zip(step, strides, strict=True):
            inner.insert(0, s)
    if len(sizes) > MAX_INNER:
        return None
    missing = (1 if len(sizes) <= 1 else MAX_INNER) - len(sizes)
    return (1,) * missing + tuple(sizes), [(1,) * missing + tuple(inner) for inner in strides]


class Frame:
    """How the tensors of one call are seen: as rows, or as one long row where one sum runs over all and all is dense.

    Args:
        shape: [N, ...], which every tensor expands to, some after a dimension of Monte-Carlo samples.
        tensors: None where absent. Where three sizes cannot describe them all, `tensors` become contiguous copies.
        total: nothing is summed per row.
        max_turns: 1 where nothing is summed.
    """

    def __init__(self, shape: torch.Size, tensors: tuple[Tensor | None, ...], total: bool, max_turns: int) -> None:
        self.dims, self.tensors = len(shape), list(tensors)
        views = self._views(shape)
        self.copied = False
        merged = merge_inner(views)
        if merged is None:
            self.copied = True
            self.tensors = [
                None if t is None else t.expand(t.shape[: t.dim() - self.dims] + shape).contiguous() for t in tensors
            ]
            views = self._views(shape)
            merged = merge_inner(views)
            assert merged is not None
        if total and all(v.is_contiguous() for v in views):
            self.rows, self.row_size, self.sizes = 1, shape.numel(), (1,)
            strides: list[tuple[int, ...]] = [(0, 1)] * len(views)
        else:
            self.rows, self.row_size = shape[0], shape[1:].numel()
            self.sizes, inner = merged
            strides = [(v.stride(0), *s) for v, s in zip(views, inner, strict=True)]
        rest = iter(strides)
        self.strides = [(0,) * len(strides[0]) if t is None else next(rest) for t in self.tensors]
        self.tiling = _blocks.tile(self.rows, self.row_size, total=total, max_turns=max_turns)

    def _views(self, shape: torch.Size) -> list[Tensor]:
        views = [t[0] if t.dim() > self.dims else t for t in self.tensors if t is not None]
        return [v if v.shape == shape else v.expand(shape) for v in views]

    def sample_stride(self, index: int) -> int:
        t = self.tensors[index]
        return t.stride(0) if t is not None and t.dim() > self.dims else 0

    def copy_back(self, *outputs: Tensor | None) -> None:
        """Fills the outputs, which were the last of `tensors`, if the kernel wrote to copies of them."""
        if self.copied:
            for out, work in zip(outputs, self.tensors[-len(outputs) :], strict=True):
                if out is not None and work is not None:
                    out.copy_(work)

    def constants(self) -> dict[str, object]:
        first = next(t for t in self.tensors if t is not None)
        return {
            "WIDE": tl_wide(first.dtype),
            "ROWS": self.tiling.rows,
            "QUADS": self.tiling.quads,
            "WHOLE": self.row_size % 4 == 0,
            "num_warps": _blocks.num_warps(first.dtype),
            **OPTIONS,
        }


@triton.jit
def offsets(row, d, sizes, strides):
    """Of the int64 indices d within the rows; strides: that between rows, then one for each of sizes."""
    if len(sizes) == 1:
        inner_offs = d * strides[1]
    else:
        rest = d // sizes[2]
        outer = rest // sizes[1]
        inner_offs = (d - rest * sizes[2]) * strides[3] + (rest - outer * sizes[1]) * strides[2] + outer * strides[1]
    return row * strides[0] + inner_offs


@triton.jit
def place(program, turn, rows, row_size, per_row, turns, ROWS: tl.constexpr, QUADS: tl.constexpr, WHOLE: tl.constexpr):
    """Rows [R, 1], the part of them, quads [R, Q], indices within the row [R, 4 Q] and which of these exist. All int64."""
    row_block = program // per_row
    part = program - row_block * per_row
    first = (part * turns + turn) * QUADS
    row = (row_block * ROWS + tl.arange(0, ROWS).to(tl.int64))[:, None]
    begin = row * row_size
    quad = begin // 4 + (first + tl.arange(0, QUADS).to(tl.int64))[None, :]
    d = (first * 4 + tl.arange(0, 4 * QUADS).to(tl.int64))[None, :]
    mask = (row < rows) & (d < row_size)
    if not WHOLE:  # the first quad may belong to the row before as well
        d = d - begin % 4
        mask = (row < rows) & (d >= 0) & (d < row_size)
    return row, part, quad, d, mask


@triton.jit
def load_rows(ptr, row, d, mask, sizes, strides, WIDE: tl.constexpr):
    return tl.load(ptr + offsets(row, d, sizes, strides), mask=mask, other=0.0).to(WIDE)


@triton.jit
def store_rows(ptr, row, d, mask, sizes, strides, value):
    tl.store(ptr + offsets(row, d, sizes, strides), cast(value, ptr.dtype.element_ty), mask=mask)
