"""Masked convolution in plain PyTorch (van den Oord et al. 2016, "Pixel Recurrent Neural Networks").

    output[n, o, p] = bias[o] + sum over live (tap, i) of weight[o, i, tap] input[n, i, p + offset(tap)]

with zeros outside the image. One product per live tap over the pixels it reaches, so nothing dead is ever multiplied.
The three functions are bilinear, and each one's gradients are the other two. Computed in float32 (float64 for float64),
rounded once.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import wraps

import torch
import torch.nn.functional as F
from torch import Tensor

from pygen.reference._layout import in_layout_of


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _in_own_dtypes(function: Callable) -> Callable:
    """Autocast must not narrow what is computed in float32 on purpose."""

    @wraps(function)
    def wrapped(first: Tensor, *args):
        with torch.autocast(first.device.type, enabled=False):
            return function(first, *args)

    return wrapped


def live_blocks(
    kernel_size: Sequence[int],
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    out_channels: int,
    in_channels: int,
) -> Iterator[tuple[int, slice, slice]]:
    """(tap, output channels, input channels) of each block of the weight that is live."""
    for tap in taps:
        yield tap, slice(0, out_channels), slice(0, in_channels)
    if color_groups == 1:
        return
    height, width = kernel_size
    outs, ins = out_channels // color_groups, in_channels // color_groups
    for group in range(color_groups):
        end = group if strict else group + 1
        if end:
            yield (height // 2) * width + width // 2, slice(group * outs, (group + 1) * outs), slice(0, end * ins)


def _reach(
    tap: int, kernel: Sequence[int], dilation: int, size: torch.Size
) -> tuple[tuple[int, int, int, int], ...] | None:
    """Rows and columns of the output that the tap reaches inside the image, and those of the input it reads; or None."""
    spans = []
    for index, side, extent in zip(divmod(tap, kernel[1]), kernel, size[2:], strict=True):
        offset = (index - side // 2) * dilation
        start, stop = max(0, -offset), min(extent, extent - offset)
        if start >= stop:
            return None
        spans.append((start, stop, start + offset, stop + offset))
    (y0, y1, v0, v1), (x0, x1, u0, u1) = spans
    return (y0, y1, x0, x1), (v0, v1, u0, u1)


def _crop(t: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    return t.narrow(2, box[0], box[1] - box[0]).narrow(3, box[2], box[3] - box[2])


def _channels(t: Tensor, chosen: slice) -> Tensor:
    return t.narrow(1, chosen.start, chosen.stop - chosen.start)


def _tap_of(w: Tensor, outs: slice, ins: slice, tap: int) -> Tensor:
    """w[outs, ins] of one tap, [o, c]. Batched gradients have no rules for slices that take all, and none for flatten."""
    y, x = divmod(tap, w.shape[3])
    return _channels(w.narrow(0, outs.start, outs.stop - outs.start), ins).select(2, y).select(2, x)


def _mix(w: Tensor, t: Tensor) -> Tensor:
    """w [o, c] times t [N, c, H, W], pixel by pixel: [N, o, H, W].

    One channel after the other: a matrix product would be faster, but its sums depend on threads and addresses.
    """
    out = torch.zeros(len(t), len(w), *t.shape[2:], dtype=t.dtype, device=t.device)
    for c in range(t.shape[1]):
        out = out + w[:, c].view(-1, 1, 1) * t.narrow(1, c, 1)
    return out


def correlate(g: Tensor, x: Tensor) -> Tensor:
    """[o, c] = sum over N and pixels of g [N, o, H, W] times x [N, c, H, W]."""
    columns = [(g * x.narrow(1, c, 1)).sum((0, 2, 3)) for c in range(x.shape[1])]
    return torch.stack(columns, dim=1) if columns else g.new_zeros(g.shape[1], 0)


def _place(part: Tensor, box: tuple[int, int, int, int], channels: slice, like: tuple[int, int, int]) -> Tensor:
    """`part` where it belongs, zeros around it up to [N, *like]."""
    count, height, width = like
    pads = (box[2], width - box[3], box[0], height - box[1], channels.start, count - channels.stop)
    return F.pad(part, pads)


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
    """[N, Cout, H, W], channels_last iff the input is."""
    input, weight = input.resolve_neg(), weight.resolve_neg()
    return in_layout_of(compose(input, weight, bias, taps, color_groups, strict, dilation, add), input)


@_in_own_dtypes
def compose(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
    add: Tensor | None = None,
) -> Tensor:
    """`forward` in whatever layout comes; differentiable, and torch.func can transform it."""
    wide = compute_dtype(input.dtype)
    x, w = input.to(wide), weight.to(wide)
    out_channels, in_channels, *kernel = weight.shape
    batch, _, height, width = input.shape
    out = torch.zeros(batch, out_channels, height, width, dtype=wide, device=input.device)
    for tap, outs, ins in live_blocks(kernel, taps, color_groups, strict, out_channels, in_channels):
        reach = _reach(tap, kernel, dilation, input.shape)
        if reach is None:
            continue
        part = _mix(_tap_of(w, outs, ins, tap), _crop(_channels(x, ins), reach[1]))
        out = out + _place(part, reach[0], outs, (out_channels, height, width))
    if bias is not None:
        out = out + bias.to(wide).view(1, -1, 1, 1)
    if add is not None:
        out = out + add.to(wide)
    return out.to(input.dtype)


def grad_input(
    grad: Tensor,  # [N, Cout, H, W]
    weight: Tensor,  # [Cout, Cin, kH, kW]
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
) -> Tensor:
    """[N, Cin, H, W], channels_last iff grad is."""
    return in_layout_of(compose_grad_input(grad.contiguous(), weight, taps, color_groups, strict, dilation), grad)


@_in_own_dtypes
def compose_grad_input(
    grad: Tensor, weight: Tensor, taps: Sequence[int], color_groups: int, strict: bool, dilation: int
) -> Tensor:
    """`grad_input` in whatever layout comes; torch.func can transform it."""
    wide = compute_dtype(grad.dtype)
    g, w = grad.to(wide), weight.to(wide)
    out_channels, in_channels, *kernel = weight.shape
    batch, _, height, width = grad.shape
    out = torch.zeros(batch, in_channels, height, width, dtype=wide, device=grad.device)
    for tap, outs, ins in live_blocks(kernel, taps, color_groups, strict, out_channels, in_channels):
        reach = _reach(tap, kernel, dilation, grad.shape)
        if reach is None:
            continue
        part = _mix(_tap_of(w, outs, ins, tap).t(), _crop(_channels(g, outs), reach[0]))
        out = out + _place(part, reach[1], ins, (in_channels, height, width))
    return out.to(grad.dtype)


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
    return compose_grad_weight(grad.contiguous(), input, kernel_size, taps, color_groups, strict, dilation, need_bias)


@_in_own_dtypes
def compose_grad_weight(
    grad: Tensor,
    input: Tensor,
    kernel_size: Sequence[int],
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
    need_bias: bool,
) -> tuple[Tensor, Tensor | None]:
    """`grad_weight` in whatever layout comes; torch.func can transform it."""
    wide = compute_dtype(grad.dtype)
    g, x = grad.to(wide), input.to(wide)
    kernel, out_channels, in_channels = tuple(kernel_size), grad.shape[1], input.shape[1]
    by_tap = [
        torch.zeros(out_channels, in_channels, dtype=wide, device=grad.device) for _ in range(kernel[0] * kernel[1])
    ]
    for tap, outs, ins in live_blocks(kernel, taps, color_groups, strict, out_channels, in_channels):
        reach = _reach(tap, kernel, dilation, input.shape)
        if reach is None:
            continue
        part = correlate(_crop(_channels(g, outs), reach[0]), _crop(_channels(x, ins), reach[1]))
        pads = (ins.start, in_channels - ins.stop, outs.start, out_channels - outs.stop)
        by_tap[tap] = by_tap[tap] + F.pad(part, pads)
    grad_w = torch.stack(by_tap, dim=-1).view(out_channels, in_channels, *kernel).to(grad.dtype)
    return grad_w, g.sum((0, 2, 3)).to(grad.dtype) if need_bias else None
