"""Triton kernels of pixel_lstm, and their launcher. Not yet run on a GPU.

A program takes an image through its lines; of a line, a tile of pixels by units at a time: four products of h, as it was in the
line before, with the four gates' weights, and behind them the gates. h of the last two lines and c lie in a workspace, which the
program's own threads alone read and write: 3 H numbers a pixel of a line, backward 9 H. Work of a pixel: 4 H^2 k multiply-adds,
forward and backward, in float32 (float64); the weight, 16 H^2 k bytes, comes by from L2 in each line.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen._layout import empty_images
from pygen._lstm import by_gate, grad_of_weight
from pygen.reference.pixel_lstm import empty_kept

from . import _blocks, masked_conv2d
from ._compat import OPTIONS, cast, device_of, dot, product_precision, tl_wide
from ._lstm import RUNTIME, at_line, gate_channel, line_of, sigmoid, tanh
from ._lstm_backward import pixel_lstm_bwd_kernel


@triton.jit(do_not_specialize=RUNTIME)
def pixel_lstm_fwd_kernel(
    input_ptr,  # [N, 4 H, R, W]
    weight_ptr,  # [k, 4, H, H], from unit to unit
    output_ptr,  # [N, H, R, W], written
    kept_ptr,  # [N, 5 H, R, W], written
    h_ptr,  # [N, 2, places, H], zeros; a workspace
    c_ptr,  # [N, places, H], zeros; a workspace
    rows,
    columns,
    hidden,
    each,
    pad,
    places,
    input_image,
    input_channel,
    input_row,
    input_column,
    output_image,
    output_channel,
    output_row,
    output_column,
    kept_image,
    kept_channel,
    kept_row,
    kept_column,
    TAPS: tl.constexpr,
    DOWN: tl.constexpr,
    MIRRORED: tl.constexpr,
    KEEP: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    PIXELS: tl.constexpr,
    UNITS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    image = tl.program_id(0).to(tl.int64)
    input_ptr += image * input_image
    output_ptr += image * output_image
    kept_ptr += image * kept_image
    h_ptr += image * 2 * places * hidden
    c_ptr += image * places * hidden
    matrix = hidden.to(tl.int64) * hidden
    count = rows if DOWN else rows + columns - 1
    for d in range(0, count):
        begin, end = line_of(d, rows, columns, DOWN)
        now_ptr, last_ptr = h_ptr + d % 2 * places * hidden, h_ptr + (1 - d % 2) * places * hidden
        for first in range(begin, end, PIXELS):
            pixel = first + tl.arange(0, PIXELS)
            has_pixel = pixel < end
            place = pad + pixel
            in_ptr = input_ptr + at_line(d, pixel, columns, input_row, input_column, DOWN, MIRRORED)[:, None]
            out_ptr = output_ptr + at_line(d, pixel, columns, output_row, output_column, DOWN, MIRRORED)[:, None]
            keep_ptr = kept_ptr + at_line(d, pixel, columns, kept_row, kept_column, DOWN, MIRRORED)[:, None]
            for some in range(0, hidden, UNITS):
                unit = some + tl.arange(0, UNITS)
                has_unit = unit < hidden
                both = has_pixel[:, None] & has_unit[None, :]
                o = tl.zeros((PIXELS, UNITS), WIDE)
                f, i, g = o, o, o
                for tap in range(0, TAPS):
                    shift = tap - TAPS // 2 if DOWN else tap - 1
                    for start in range(0, hidden, DEPTH):
                        k = start + tl.arange(0, DEPTH)
                        has_k = k < hidden
                        at = (place + shift)[:, None] * hidden + k[None, :]
                        h = tl.load(last_ptr + at, mask=has_pixel[:, None] & has_k[None, :], other=0.0)
                        w_ptr = weight_ptr + tap * 4 * matrix + k.to(tl.int64)[:, None] * hidden + unit[None, :]
                        seen = has_k[:, None] & has_unit[None, :]
                        o = dot(h, tl.load(w_ptr, mask=seen, other=0.0), o, PRECISION)
                        f = dot(h, tl.load(w_ptr + matrix, mask=seen, other=0.0), f, PRECISION)
                        i = dot(h, tl.load(w_ptr + 2 * matrix, mask=seen, other=0.0), i, PRECISION)
                        g = dot(h, tl.load(w_ptr + 3 * matrix, mask=seen, other=0.0), g, PRECISION)
                channel = gate_channel(0, unit, each).to(tl.int64)[None, :]
                o = sigmoid(o + tl.load(in_ptr + channel * input_channel, mask=both, other=0.0).to(WIDE))
                f = sigmoid(f + tl.load(in_ptr + (channel + each) * input_channel, mask=both, other=0.0).to(WIDE))
                i = sigmoid(i + tl.load(in_ptr + (channel + 2 * each) * input_channel, mask=both, other=0.0).to(WIDE))
                g = tanh(g + tl.load(in_ptr + (channel + 3 * each) * input_channel, mask=both, other=0.0).to(WIDE))
                own = place[:, None] * hidden + unit[None, :]
                c = f * tl.load(c_ptr + own, mask=both, other=0.0) + i * g
                h_now = o * tanh(c)
                tl.store(c_ptr + own, c, mask=both)
                tl.store(now_ptr + own, h_now, mask=both)
                T: tl.constexpr = output_ptr.dtype.element_ty
                tl.store(out_ptr + unit.to(tl.int64)[None, :] * output_channel, cast(h_now, T), mask=both)
                if KEEP:
                    part_ptr = keep_ptr + unit.to(tl.int64)[None, :] * kept_channel
                    along = hidden.to(tl.int64) * kept_channel
                    tl.store(part_ptr, cast(o, T), mask=both)
                    tl.store(part_ptr + along, cast(f, T), mask=both)
                    tl.store(part_ptr + 2 * along, cast(i, T), mask=both)
                    tl.store(part_ptr + 3 * along, cast(g, T), mask=both)
                    tl.store(part_ptr + 4 * along, cast(c, T), mask=both)
        tl.debug_barrier()


class _Call:
    """What both kernels take."""

    def __init__(self, weight: Tensor, output: Tensor, direction: str, color_groups: int, channels: int) -> None:
        n, self.hidden, self.rows, self.columns = output.shape
        down = direction == "down"
        wide = torch.promote_types(weight.dtype, torch.float32)
        self.weight = by_gate(weight.to(wide), color_groups)  # [4, H, H, k]
        length, self.pad = (self.columns, weight.shape[2] // 2) if down else (self.rows, 1)
        self.places, self.each = length + 2 * self.pad, self.hidden // color_groups
        numbers = (2 * channels + self.hidden) * self.places
        workspace = torch.zeros(n * numbers, dtype=wide, device=output.device)
        self.lines, self.c = workspace.split([n * 2 * channels * self.places, n * self.hidden * self.places])
        tile = _blocks.lstm_tile(weight.dtype, length)
        self.constants = {
            "TAPS": weight.shape[2],
            "DOWN": down,
            "MIRRORED": direction == "left",
            "WIDE": tl_wide(weight.dtype),
            "PRECISION": product_precision(self.weight),
            **tile,
        }

    def sizes(self) -> tuple[int, ...]:
        return self.rows, self.columns, self.hidden, self.each, self.pad, self.places


def forward(
    input: Tensor,  # [N, 4 H, R, W]
    weight: Tensor,  # [4 H, H, k]
    direction: str,
    color_groups: int,
    keep: bool,
) -> tuple[Tensor, Tensor | None]:
    """h [N, H, R, W], and what backward needs."""
    output = empty_images(input, weight.shape[1])
    kept = empty_kept(input, weight.shape[1], direction) if keep else None
    if output.numel() == 0:
        return output, kept
    call = _Call(weight, output, direction, color_groups, weight.shape[1])
    packed = call.weight.permute(3, 0, 2, 1).contiguous()
    with device_of(input):
        pixel_lstm_fwd_kernel[(len(input),)](
            input,
            packed,
            output,
            output if kept is None else kept,
            call.lines,
            call.c,
            *call.sizes(),
            *input.stride(),
            *output.stride(),
            *(output if kept is None else kept).stride(),
            KEEP=keep,
            **call.constants,
            **OPTIONS,
        )
    return output, kept


def backward(
    grad: Tensor,  # [N, H, R, W]
    weight: Tensor,  # [4 H, H, k]
    output: Tensor,  # [N, H, R, W]
    kept: Tensor,  # [N, 5 H, R, W]
    direction: str,
    color_groups: int,
    needs: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of input and weight, None where they are not needed."""
    sums = empty_images(output, weight.shape[0])
    if output.numel():
        call = _Call(weight, output, direction, color_groups, weight.shape[0])
        packed = call.weight.permute(3, 0, 1, 2).contiguous()
        with device_of(output):
            pixel_lstm_bwd_kernel[(len(output),)](
                sums,
                packed,
                grad,
                kept,
                call.lines,
                call.c,
                *call.sizes(),
                *sums.stride(),
                *grad.stride(),
                *kept.stride(),
                **call.constants,
                **OPTIONS,
            )
    taps = weight.shape[2]
    grad_weight = grad_of_weight(masked_conv2d.grad_weight, sums, output, direction, taps) if needs[1] else None
    return sums if needs[0] else None, grad_weight
