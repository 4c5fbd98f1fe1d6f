"""The LSTM of PixelRNN, which scans an image line by line, in plain PyTorch.

Van den Oord, Kalchbrenner, Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", sections 3.1 and 3.2. Lines are rows ("down") or
diagonals ("right", "left"); a pixel of a line reads h of the line before at its taps, and c at one pixel of it:

    pre[p] = input[p] + sum_t weight[:, :, t] h[p reads tap t],      o, f, i = sigmoid, g = tanh of pre's four gates
    c[p] = f c[before p] + i g,    h[p] = o tanh(c[p])

    "down"   taps are the k columns around p in the row above; c of the pixel above
    "right"  taps are the pixels above and to the left; c of the pixel to the left
    "left"   "right" in a mirror: above and to the right; c of the pixel to the right

Outside of the image h and c are 0, and what would read them is skipped. Computed in float32 (float64 for float64), rounded once.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pygen.reference._layout import in_layout_of
from pygen.reference.masked_conv2d import correlate

DIRECTIONS = ("down", "right", "left")
GATES = 4
_TOGETHER = 64  # channels, to spare memory

Span = tuple[int, int]  # the pixels of a line: rows of a diagonal, columns of a row


def empty_kept(input: Tensor, hidden: int, direction: str) -> Tensor:
    """Where forward leaves o, f, i, g and c for backward: [N, 5 H, R, W], in memory as the kernels go through it."""
    n, _, rows, columns = input.shape
    if input.device.type == "cpu" and direction == "down":
        return input.new_empty((rows, n, 5 * hidden, columns)).permute(1, 2, 0, 3)
    if input.device.type == "cpu":  # images side by side
        return input.new_empty((rows, columns, 5 * hidden, n)).permute(3, 2, 0, 1)
    return input.new_empty((n, rows, columns, 5 * hidden)).permute(0, 3, 1, 2)


def shifts(direction: str, kernel: int) -> range:
    """Which pixel of the line before each tap reads, from a line's own."""
    return range(-(kernel // 2), kernel - kernel // 2) if direction == "down" else range(-1, 1)


def spans(direction: str, rows: int, columns: int) -> list[Span]:
    """Of each line, in turn."""
    if direction == "down":
        return [(0, columns)] * rows
    return [(max(0, d - columns + 1), min(rows, d + 1)) for d in range(rows + columns - 1)]


def lines(t: Tensor, direction: str) -> list[Tensor]:
    """t [..., R, W] -> each line [..., L]."""
    if direction == "down":
        return list(t.unbind(-2))
    rows, columns = t.shape[-2:]
    t = t.flip(-1) if direction == "left" else t
    flat = F.pad(t, (0, rows)).reshape(*t.shape[:-2], -1)[..., :-rows]
    skewed = flat.reshape(*t.shape[:-1], columns + rows - 1)  # row r moved by r
    return [skewed.select(-1, d).narrow(-1, lo, hi - lo) for d, (lo, hi) in enumerate(spans(direction, rows, columns))]


def image(parts: Sequence[Tensor], direction: str, rows: int, columns: int) -> Tensor:
    """The inverse of `lines`."""
    if direction == "down":
        return torch.stack(list(parts), -2)
    where = spans(direction, rows, columns)
    skewed = torch.stack([F.pad(t, (lo, rows - hi)) for t, (lo, hi) in zip(parts, where, strict=True)], -1)
    lead = skewed.shape[:-2]
    t = F.pad(skewed.reshape(*lead, -1), (0, rows)).reshape(*lead, rows, columns + rows)[..., :columns]
    return t.flip(-1) if direction == "left" else t


def _common(own: Span, other: Span, shift: int) -> Span:
    """The pixels of `own` whose neighbour at that shift is in `other`."""
    low = max(own[0], other[0] - shift)
    return low, max(low, min(own[1], other[1] - shift))


def _seen(t: Tensor, own: Span, other: Span, shift: int) -> Tensor:
    """t [..., pixels of other] as the pixels of `own` see it at that shift; 0 where there is none."""
    low, high = _common(own, other, shift)
    start = low + shift - other[0]
    return F.pad(t.narrow(-1, start, high - low), (low - own[0], own[1] - high)) if high > low else _zeros(t, own)


def _mix(w: Tensor, line: Tensor) -> Tensor:
    """w [o, c] times line [N, c, L]: [N, o, L]. A matrix product would be faster, but its sums depend on threads."""
    parts = zip(w.split(_TOGETHER, 1), line.split(_TOGETHER, 1), strict=True)
    return sum((a.unsqueeze(2) * b.unsqueeze(1)).sum(2) for a, b in parts)


def _zeros(t: Tensor, span: Span) -> Tensor:
    return t.new_zeros((*t.shape[:-1], span[1] - span[0]))


def _by_gate(t: Tensor, color_groups: int) -> Tensor:
    """[groups, 4, H / groups] along dim 1 -> [4, H]"""
    each = t.shape[1] // (color_groups * GATES)
    return t.reshape(len(t), color_groups, GATES, each, *t.shape[2:]).transpose(1, 2).reshape(t.shape)


def _by_group(t: Tensor, color_groups: int) -> Tensor:
    """The inverse of `_by_gate`."""
    each = t.shape[1] // (color_groups * GATES)
    return t.reshape(len(t), GATES, color_groups, each, *t.shape[2:]).transpose(1, 2).reshape(t.shape)


def _weight_by_gate(weight: Tensor, color_groups: int) -> Tensor:
    return _by_gate(weight.unsqueeze(0), color_groups).squeeze(0)


def compose(input: Tensor, weight: Tensor, direction: str, color_groups: int) -> tuple[Tensor, Tensor]:
    """h [N, H, R, W] and what backward needs [N, 5 H, R, W], in whatever layout comes; torch.func can transform it."""
    hidden, (rows, columns) = weight.shape[1], input.shape[2:]
    if 0 in (*input.shape, hidden):
        return input[:, :hidden] + 0, input.new_zeros((len(input), 5 * hidden, rows, columns))
    wide = torch.promote_types(input.dtype, torch.float32)
    where = spans(direction, rows, columns)
    taps = _weight_by_gate(weight.to(wide), color_groups).unbind(2)
    outputs: list[Tensor] = []
    kept: list[Tensor] = []
    c = None
    for d, pre in enumerate(lines(_by_gate(input.to(wide), color_groups), direction)):
        if d:
            for tap, shift in zip(taps, shifts(direction, len(taps)), strict=True):
                pre = pre + _seen(_mix(tap, outputs[-1]), where[d], where[d - 1], shift)
        o, f, i, g = pre.chunk(GATES, 1)
        o, f, i, g = o.sigmoid(), f.sigmoid(), i.sigmoid(), g.tanh()
        before = _zeros(g, where[d]) if c is None else _seen(c, where[d], where[d - 1], 0)
        c = f * before + i * g
        outputs.append(o * c.tanh())
        kept.append(torch.cat((o, f, i, g, c), 1))
    made = (image(parts, direction, rows, columns).to(input.dtype) for parts in (outputs, kept))
    return next(made), next(made)


def forward(
    input: Tensor,  # [N, 4 H, R, W]
    weight: Tensor,  # [4 H, H, k]
    direction: str,
    color_groups: int,
    keep: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """h [N, H, R, W], channels_last iff the input is, and what backward needs."""
    output, kept = compose(input, weight, direction, color_groups)
    laid = empty_kept(input, weight.shape[1], direction).copy_(kept) if keep else None
    return in_layout_of(output, input), laid


def backward(
    grad_output: Tensor | None,  # [N, H, R, W]
    weight: Tensor,  # [4 H, H, k]
    output: Tensor,  # [N, H, R, W]
    kept: Tensor,  # [N, 5 H, R, W]
    direction: str,
    color_groups: int,
    needs: Sequence[bool],
    grad_kept: Tensor | None = None,  # like kept: of second order
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of input [N, 4 H, R, W] and weight, None where they are not needed; differentiable to any order."""
    n, hidden, rows, columns = output.shape
    if 0 in output.shape:
        nothing = kept.new_zeros((n, GATES * hidden, rows, columns)), torch.zeros_like(weight)
        return nothing[0] if needs[0] else None, nothing[1] if needs[1] else None
    wide = torch.promote_types(output.dtype, torch.float32)
    where = spans(direction, rows, columns)
    taps = _weight_by_gate(weight.to(wide), color_groups).unbind(2)
    moves = shifts(direction, len(taps))
    given = [lines(t.to(wide), direction) for t in (output, kept)]
    grads = [None if t is None else lines(t.to(wide), direction) for t in (grad_output, grad_kept)]
    pres: list[Tensor] = []
    dc_later = None
    for d in reversed(range(len(where))):
        _, f, _, _, c = given[1][d].chunk(5, 1)
        dh = torch.zeros_like(c) if grads[0] is None else grads[0][d]
        dc = torch.zeros_like(c)
        if dc_later is not None:
            for tap, shift in zip(taps, moves, strict=True):
                dh = dh + _seen(_mix(tap.T, pres[-1]), where[d], where[d + 1], -shift)
            dc = _seen(dc_later, where[d], where[d + 1], 0)
        before = _seen(given[1][d - 1][:, 4 * hidden :], where[d], where[d - 1], 0) if d else torch.zeros_like(c)
        more = None if grads[1] is None else grads[1][d]
        pre, dc = _through_gates(given[1][d], before, dh, dc, more)
        pres.append(pre)
        dc_later = dc * f
    pres.reverse()
    grad_input = grad_weight = None
    if needs[0]:
        flat = image(pres, direction, rows, columns)
        grad_input = in_layout_of(_by_group(flat, color_groups).to(output.dtype), output)
    if needs[1]:
        sums = [_correlate(pres, given[0], where, shift) for shift in moves]
        stacked = torch.stack([torch.zeros_like(t) if s is None else s for s, t in zip(sums, taps, strict=True)], 2)
        grad_weight = _by_group(stacked.unsqueeze(0), color_groups).squeeze(0).to(weight.dtype)
    return grad_input, grad_weight


def _through_gates(
    kept: Tensor, before: Tensor, dh: Tensor, dc: Tensor, grad_kept: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Of a line: the gradients of its sums [N, 4 H, L] and of c [N, H, L], from those of h and of the next line's c."""
    o, f, i, g, c = kept.chunk(5, 1)
    more: Sequence[Tensor | int] = (0,) * 5 if grad_kept is None else grad_kept.chunk(5, 1)
    tanh = c.tanh()
    dc = dc + dh * o * (1 - tanh * tanh) + more[4]
    grad_o, grad_f = (dh * tanh + more[0]) * o * (1 - o), (dc * before + more[1]) * f * (1 - f)
    grad_i, grad_g = (dc * g + more[2]) * i * (1 - i), (dc * i + more[3]) * (1 - g * g)
    return torch.cat((grad_o, grad_f, grad_i, grad_g), 1), dc


def _correlate(pres: list[Tensor], outputs: list[Tensor], where: list[Span], shift: int) -> Tensor | None:
    """One tap's gradient [4 H, H]; None where it reads nothing."""
    left, right = [], []
    for d in range(1, len(where)):
        low, high = _common(where[d], where[d - 1], shift)
        if low == high:
            continue
        left.append(pres[d].narrow(-1, low - where[d][0], high - low))
        start = low + shift - where[d - 1][0]
        right.append(outputs[d - 1].narrow(-1, start, high - low))
    return correlate(torch.cat(left, 2).unsqueeze(2), torch.cat(right, 2).unsqueeze(2)) if left else None
