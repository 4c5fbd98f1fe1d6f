"""The Triton kernel of the gradient of pixel_lstm's input: from the last line to the first. Not yet run on a GPU."""

import triton
import triton.language as tl

from ._compat import cast, dot
from ._lstm import RUNTIME, at_line, gate_channel, line_of, tanh


@triton.jit(do_not_specialize=RUNTIME)
def pixel_lstm_bwd_kernel(
    grad_input_ptr,  # [N, 4 H, R, W], written
    weight_ptr,  # [k, 4, H, H], as it is
    grad_ptr,  # [N, H, R, W]
    kept_ptr,  # [N, 5 H, R, W]
    sums_ptr,  # [N, 2, places, 4, H], zeros; a workspace
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
    grad_image,
    grad_channel,
    grad_row,
    grad_column,
    kept_image,
    kept_channel,
    kept_row,
    kept_column,
    TAPS: tl.constexpr,
    DOWN: tl.constexpr,
    MIRRORED: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    PIXELS: tl.constexpr,
    UNITS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    image = tl.program_id(0).to(tl.int64)
    grad_input_ptr += image * input_image
    grad_ptr += image * grad_image
    kept_ptr += image * kept_image
    sums_ptr += image * 8 * places * hidden
    c_ptr += image * places * hidden
    matrix = hidden.to(tl.int64) * hidden
    count = rows if DOWN else rows + columns - 1
    for turn in range(0, count):
        d = count - 1 - turn
        begin, end = line_of(d, rows, columns, DOWN)
        _, end_before = line_of(d - 1, rows, columns, DOWN)
        end_before = tl.where(d == 0, 0, end_before)
        now_ptr = sums_ptr + d % 2 * 4 * places * hidden
        later_ptr = sums_ptr + (1 - d % 2) * 4 * places * hidden
        for first in range(begin, end, PIXELS):
            pixel = first + tl.arange(0, PIXELS)
            has_pixel = pixel < end
            place = pad + pixel
            to_ptr = grad_input_ptr + at_line(d, pixel, columns, input_row, input_column, DOWN, MIRRORED)[:, None]
            from_ptr = grad_ptr + at_line(d, pixel, columns, grad_row, grad_column, DOWN, MIRRORED)[:, None]
            keep_ptr = kept_ptr + at_line(d, pixel, columns, kept_row, kept_column, DOWN, MIRRORED)[:, None]
            before_ptr = kept_ptr + at_line(d - 1, pixel, columns, kept_row, kept_column, DOWN, MIRRORED)[:, None]
            for some in range(0, hidden, UNITS):
                unit = some + tl.arange(0, UNITS)
                has_unit = unit < hidden
                both = has_pixel[:, None] & has_unit[None, :]
                grad_h = tl.zeros((PIXELS, UNITS), WIDE)
                for tap in range(0, TAPS):
                    shift = tap - TAPS // 2 if DOWN else tap - 1
                    for start in range(0, 4 * hidden, DEPTH):
                        k = start + tl.arange(0, DEPTH)
                        has_k = (k < 4 * hidden) & (turn > 0)
                        at = (place - shift)[:, None] * 4 * hidden + k[None, :]
                        sums = tl.load(later_ptr + at, mask=has_pixel[:, None] & has_k[None, :], other=0.0)
                        w_ptr = weight_ptr + tap * 4 * matrix + k.to(tl.int64)[:, None] * hidden + unit[None, :]
                        w = tl.load(w_ptr, mask=has_k[:, None] & has_unit[None, :], other=0.0)
                        grad_h = dot(sums, w, grad_h, PRECISION)
                channel = unit.to(tl.int64)[None, :]
                grad_h += tl.load(from_ptr + channel * grad_channel, mask=both, other=0.0).to(WIDE)
                part_ptr, along = keep_ptr + channel * kept_channel, hidden.to(tl.int64) * kept_channel
                o = tl.load(part_ptr, mask=both, other=0.0).to(WIDE)
                f = tl.load(part_ptr + along, mask=both, other=0.0).to(WIDE)
                i = tl.load(part_ptr + 2 * along, mask=both, other=0.0).to(WIDE)
                g = tl.load(part_ptr + 3 * along, mask=both, other=0.0).to(WIDE)
                c = tl.load(part_ptr + 4 * along, mask=both, other=0.0).to(WIDE)
                known = both & (pixel < end_before)[:, None]  # where c does not begin
                before = tl.load(before_ptr + channel * kept_channel + 4 * along, mask=known, other=0.0).to(WIDE)
                own = place[:, None] * hidden + unit[None, :]
                tanh_c = tanh(c)
                down = tl.load(c_ptr + own, mask=both, other=0.0) + grad_h * o * (1.0 - tanh_c * tanh_c)
                tl.store(c_ptr + own, down * f, mask=both)
                grad_o = grad_h * tanh_c * o * (1.0 - o)
                grad_f = down * before * f * (1.0 - f)
                grad_i = down * g * i * (1.0 - i)
                grad_g = down * i * (1.0 - g * g)
                sum_ptr = now_ptr + place[:, None] * 4 * hidden + unit[None, :]
                tl.store(sum_ptr, grad_o, mask=both)
                tl.store(sum_ptr + hidden, grad_f, mask=both)
                tl.store(sum_ptr + 2 * hidden, grad_i, mask=both)
                tl.store(sum_ptr + 3 * hidden, grad_g, mask=both)
                T: tl.constexpr = grad_input_ptr.dtype.element_ty
                channel = gate_channel(0, unit, each).to(tl.int64)[None, :]
                tl.store(to_ptr + channel * input_channel, cast(grad_o, T), mask=both)
                tl.store(to_ptr + (channel + each) * input_channel, cast(grad_f, T), mask=both)
                tl.store(to_ptr + (channel + 2 * each) * input_channel, cast(grad_i, T), mask=both)
                tl.store(to_ptr + (channel + 3 * each) * input_channel, cast(grad_g, T), mask=both)
        tl.debug_barrier()
