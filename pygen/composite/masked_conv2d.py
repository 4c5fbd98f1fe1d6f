"""Masked convolution as the split: torch's conv2d over each rectangle of live taps, added up.

For types A and B: one call for the rows above, one for the live part of the current row, and one per colour group for the
centre. Dead taps lie in no rectangle, so unlike a kernel cropped to its live rows this multiplies nothing that is dead.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad as conv_grad

from pygen._layout import is_channels_last, to_output_layout
from pygen.reference.masked_conv2d import live_blocks

Rectangle = tuple[int, int, int, int]  # rows y0 .. y1, columns x0 .. x1 of the kernel


@cache
def rectangles(taps: tuple[int, ...], width: int) -> tuple[Rectangle, ...]:
    """Covers the taps with disjoint rectangles: runs of each row, joined where rows repeat."""
    done: list[Rectangle] = []
    growing: dict[tuple[int, int], int] = {}
    last = max(taps, default=-1) // width
    for row in range(last + 2):
        live = [tap - row * width for tap in taps if tap // width == row]
        starts = [x for x in live if x - 1 not in live]
        runs = {(x, next(e for e in range(x, width + 1) if e not in live)) for x in starts}
        for run in [r for r in growing if r not in runs]:
            done.append((growing.pop(run), row, *run))
        for run in runs:
            growing.setdefault(run, row)
    return tuple(sorted(done))


def _pieces(
    image: Tensor, kernel: Sequence[int], taps: Sequence[int], color_groups: int, strict: bool, outs: int, ins: int
) -> Iterator[tuple[Rectangle, slice, slice]]:
    if outs == 0 or ins == 0 or 0 in image.shape[2:]:  # conv2d refuses these
        return
    for box in rectangles(tuple(taps), kernel[1]):
        yield box, slice(0, outs), slice(0, ins)
    for tap, out, in_ in live_blocks(kernel, (), color_groups, strict, outs, ins):
        y, x = divmod(tap, kernel[1])
        yield (y, y + 1, x, x + 1), out, in_


def _shifts(box: Rectangle, kernel: Sequence[int], dilation: int) -> tuple[int, int, int, int]:
    """How far the input grows (shrinks, if negative) at the left, right, top and bottom for a conv2d without padding."""
    y0, y1, x0, x1 = box
    cy, cx = kernel[0] // 2, kernel[1] // 2
    return (cx - x0) * dilation, (x1 - 1 - cx) * dilation, (cy - y0) * dilation, (y1 - 1 - cy) * dilation


def _shift(t: Tensor, by: Sequence[int]) -> Tensor:
    """Grows first, then shrinks: an image may be smaller than what is cut off."""
    if any(b > 0 for b in by):
        t = F.pad(t, [max(b, 0) for b in by])
    left, right, top, bottom = (max(-b, 0) for b in by)
    return t[:, :, top : t.shape[2] - bottom, left : t.shape[3] - right]


def forward(
    input: Tensor,  # [N, Cin, H, W]
    weight: Tensor,  # [Cout, Cin, kH, kW]
    bias: Tensor | None,  # [Cout]
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
    add: Tensor | None = None,  # [N, Cout, H, W]
) -> Tensor:
    """[N, Cout, H, W]"""
    outs, ins, *kernel = weight.shape
    total: Tensor | None = None
    for box, out, in_ in _pieces(input, kernel, taps, color_groups, strict, outs, ins):
        x = _shift(input[:, in_], _shifts(box, kernel, dilation))
        w = weight[out, in_, box[0] : box[1], box[2] : box[3]]
        whole = out == slice(0, outs)
        part = F.conv2d(x, w, bias if total is None and whole else None, dilation=dilation)
        if total is None:
            total = part if whole else _bias_only(input, outs, bias)
        if part is not total:
            (total if whole else total[:, out]).add_(part)
    result = to_output_layout(_bias_only(input, outs, bias) if total is None else total, input)
    return result if add is None else result.add_(add)


def _bias_only(input: Tensor, outs: int, bias: Tensor | None) -> Tensor:
    total = input.new_zeros(input.shape[0], outs, *input.shape[2:])
    return total if bias is None else total.add_(bias.view(1, -1, 1, 1))


def grad_input(
    grad: Tensor,  # [N, Cout, H, W]
    weight: Tensor,  # [Cout, Cin, kH, kW]
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
) -> Tensor:
    """[N, Cin, H, W]"""
    outs, ins, *kernel = weight.shape
    batch, _, height, width = grad.shape
    total = grad.new_zeros(batch, ins, height, width)
    for box, out, in_ in _pieces(grad, kernel, taps, color_groups, strict, outs, ins):
        by = _shifts(box, kernel, dilation)
        w = weight[out, in_, box[0] : box[1], box[2] : box[3]]
        shape = (batch, w.shape[1], height + by[2] + by[3], width + by[0] + by[1])
        part = conv_grad.conv2d_input(shape, w, grad[:, out].contiguous(), dilation=dilation)
        total[:, in_] += _shift(part, tuple(-b for b in by))
    return to_output_layout(total, grad)


def grad_weight(
    grad: Tensor,  # [N, Cout, H, W]
    input: Tensor,  # [N, Cin, H, W]
    kernel_size: Sequence[int],
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
    need_bias: bool,
) -> tuple[Tensor, Tensor | None]:
    """weight's gradient [Cout, Cin, kH, kW], 0 where it is dead, and bias's [Cout]."""
    outs, ins = grad.shape[1], input.shape[1]
    total = grad.new_zeros(outs, ins, *kernel_size)
    for box, out, in_ in _pieces(grad, kernel_size, taps, color_groups, strict, outs, ins):
        x = _shift(input[:, in_], _shifts(box, kernel_size, dilation))
        g = grad[:, out].contiguous(memory_format=_format(x))
        shape = (g.shape[1], x.shape[1], box[1] - box[0], box[3] - box[2])
        total[out, in_, box[0] : box[1], box[2] : box[3]] = conv_grad.conv2d_weight(x, shape, g, dilation=dilation)
    return total, grad.sum((0, 2, 3)) if need_bias else None


def _format(t: Tensor) -> torch.memory_format:
    return torch.channels_last if is_channels_last(t) else torch.contiguous_format
