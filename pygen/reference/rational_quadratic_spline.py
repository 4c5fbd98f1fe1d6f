"""Monotonic rational-quadratic splines in plain PyTorch. In a bin of width w and height h, between slopes d0 and d1:

    t = (x - left) / w,  s = h / w,  y = bottom + h (s t^2 + d0 t (1 - t)) / (s + (d0 + d1 - 2 s) t (1 - t))
    dy/dx = s^2 (d1 t^2 + 2 s t (1 - t) + d0 (1 - t)^2) / (s + (d0 + d1 - 2 s) t (1 - t))^2

and log_det is the sum of log dy/dx over a sample, of the inverse minus that. Durkan, Bekasov, Murray and Papamakarios 2019,
"Neural Spline Flows", section 3.1, equations 4 and 5; Gregory and Delbourgo 1982. Computed in float32 (float64 for float64).

The inverse, with v = (y - bottom) / h and u = 1 - v, solves the same quadratic as equations 6 to 8, its terms gathered so that
nothing cancels: r = d0 u - d1 v and R = sqrt(r^2 + 4 s^2 u v) + |r| give t = 2 s v / (2 s v + R) where r >= 0, and else
t = R / (2 s u + R).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pygen.reference._layout import in_layout_of
from pygen.reference._likelihood import softplus
from pygen.reference.affine_coupling import live_channels


class Knots(NamedTuple):
    """Of one axis; of the bin that an element is in, each [N, C', 1, ...]."""

    softmax: Tensor  # [N, C', K, ...]
    before: Tensor  # the softmaxes of the bins before it, together
    after: Tensor
    start: Tensor
    size: Tensor


class Piece(NamedTuple):
    """All that the formulas need of an element, [N, C', ...]; index [N, C', 1, ...]."""

    inside: Tensor
    t: Tensor
    u: Tensor  # 1 - t
    d0: Tensor
    d1: Tensor
    slope0: Tensor  # d d0 / d its parameter
    slope1: Tensor
    x: Knots
    y: Knots
    index: Tensor


def _bins(logits: Tensor, least: float, low: float, high: float) -> tuple[Tensor, Tensor, Tensor]:
    """Softmaxes of [N, C', K, ...], the bins' sizes, and where all but the first start: [N, C', K - 1, ...]. What rounding makes
    all of them together too small is dealt to them."""
    e = torch.exp(logits - logits.detach().amax(2, keepdim=True))
    p = e / e.sum(2, keepdim=True)
    sizes = (high - low) * (least + (1 - least * logits.shape[2]) * p)
    ends = low + sizes.cumsum(2)
    stretch = 1 + ((high - ends[:, :, -1:]) / (high - low)).detach()
    return p, sizes * stretch, low + (ends[:, :, :-1] - low) * stretch


def _along(p: Tensor) -> Tensor:
    """0, 1, ... along dim 2."""
    return torch.arange(p.shape[2], device=p.device).reshape(-1, *[1] * (p.dim() - 3))


def _select(bins: tuple[Tensor, Tensor, Tensor], index: Tensor, low: float) -> Knots:
    p, sizes, starts = bins
    at = _along(p)
    before, after = ((p * where).sum(2, keepdim=True) for where in (at < index, at > index))
    start = torch.cat((torch.full_like(p[:, :, :1], low), starts), 2).gather(2, index)
    return Knots(p, before, after, start, sizes.gather(2, index))


def _capped(t: Tensor, low: float, high: float) -> Tensor:
    """What rounding put outside, put back; the gradient is that of t."""
    return t + (t.clamp(low, high) - t).detach()


def _slope(raw: Tensor, index: Tensor, linear: bool, right: int, least: float, beta: float) -> tuple[Tensor, Tensor]:
    """The slope at the bin's left or right knot and its derivative; at the ends of linear tails 1 and 0."""
    count = raw.shape[2]
    at = index + right - int(linear)
    known = (at >= 0) & (at < count)
    if count == 0:
        return torch.ones_like(index, dtype=raw.dtype), torch.zeros_like(index, dtype=raw.dtype)
    y = beta * raw.gather(2, at.clamp(0, count - 1))
    zero = torch.zeros((), dtype=raw.dtype, device=raw.device)
    d = least + softplus(y) / beta
    return torch.where(known, d, zero + 1), torch.where(known, torch.sigmoid(y), zero)


def _piece(
    v: Tensor,  # [N, C', ...], x or of the inverse y
    params: Tensor,  # [N, C', P, ...]
    tails: str,
    low: float,
    high: float,
    min_bin_width: float,
    min_bin_height: float,
    min_derivative: float,
    beta: float,
    inverse: bool,
) -> Piece:
    linear = tails == "linear"
    inside = (v > low) & (v < high) if linear else (v >= low) & (v <= high)
    bins = (params.shape[2] + (1 if linear else -1)) // 3
    zero = torch.zeros((), dtype=v.dtype, device=v.device)
    params = torch.where(inside.unsqueeze(2), params, zero)
    v = torch.where(inside, v, zero + (low + (high - low) / 2)).unsqueeze(2)
    widths, heights, raw = params[:, :, :bins], params[:, :, bins : 2 * bins], params[:, :, 2 * bins :]
    columns, rows = _bins(widths, min_bin_width, low, high), _bins(heights, min_bin_height, low, high)
    index = (v >= (rows if inverse else columns)[2]).sum(2, keepdim=True)
    x, y = _select(columns, index, low), _select(rows, index, low)
    d0, slope0 = _slope(raw, index, linear, 0, min_derivative, beta)
    d1, slope1 = _slope(raw, index, linear, 1, min_derivative, beta)
    if inverse:
        s, part = y.size / x.size, _capped((v - y.start) / y.size, 0.0, 1.0)
        rest = 1 - part
        r = d0 * rest - d1 * part
        rising = r >= 0
        both = torch.sqrt(r * r + 4 * s * s * (part * rest)) + torch.where(rising, r, -r)
        near = 2 * s * torch.where(rising, part, rest)
        over = 1 / (near + both)
        t, u = torch.where(rising, near, both) * over, torch.where(rising, both, near) * over
    else:
        t = _capped((v - x.start) / x.size, 0.0, 1.0)
        u = 1 - t
    t, u, d0, d1, slope0, slope1 = (a.squeeze(2) for a in (t, u, d0, d1, slope0, slope1))
    return Piece(inside, t, u, d0, d1, slope0, slope1, x, y, index)


class Terms(NamedTuple):
    s: Tensor
    tu: Tensor
    numerator: Tensor  # of the rational function
    denominator: Tensor
    derivative: Tensor  # dy/dx is s^2 times this over the denominator's square


def _terms(b: Piece) -> Terms:
    s, tu = (b.y.size / b.x.size).squeeze(2), b.t * b.u
    return Terms(
        s,
        tu,
        s * b.t * b.t + b.d0 * tu,
        s + (b.d0 + b.d1 - 2 * s) * tu,
        b.d1 * b.t * b.t + 2 * s * tu + b.d0 * b.u * b.u,
    )


def _live(params: Tensor, channels: int) -> Tensor:
    """[N, C' * P, ...] -> [N, C', P, ...], in the dtype computed in."""
    return params.to(torch.promote_types(params.dtype, torch.float32)).unflatten(1, (channels, -1))


def _parts(channels: int, mask: str, flip: bool) -> tuple[list[int], list[int]]:
    """The transformed indices of dim 1, and the others."""
    if mask == "all":
        return list(range(channels)), []
    return list(live_channels(channels, mask, flip)), list(live_channels(channels, mask, not flip))


def _put(live: Tensor, rest: Tensor | None, parts: tuple[list[int], list[int]]) -> Tensor:
    if rest is None:
        return live
    order = torch.tensor([*parts[0], *parts[1]], device=live.device).argsort()
    return torch.cat((live, rest), 1).index_select(1, order)


def _take(t: Tensor, at: list[int]) -> Tensor:
    return t.index_select(1, torch.tensor(at, dtype=torch.int64, device=t.device))


def forward(
    input: Tensor,  # [N, C, ...]
    params: Tensor,  # [N, C' * P, ...], C' of the channels being transformed
    mask: str,
    flip: bool,
    tails: str,
    low: float,
    high: float,
    min_bin_width: float,
    min_bin_height: float,
    min_derivative: float,
    beta: float,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    """(output like input, log_det [N]); the output channels_last iff the input is."""
    options = (tails, low, high, min_bin_width, min_bin_height, min_derivative, beta, inverse)
    output, log_det = compose(input, params, mask, flip, *options)
    return in_layout_of(output, input), log_det


def compose(
    input: Tensor, params: Tensor, mask: str, flip: bool, tails: str, low: float, high: float, *options
) -> tuple[Tensor, Tensor]:
    """`forward` in whatever layout comes; differentiable to any order, and torch.func can transform it."""
    parts = _parts(input.shape[1], mask, flip)
    v = _take(input, parts[0]).to(torch.promote_types(input.dtype, torch.float32))
    b = _piece(v, _live(params, len(parts[0])), tails, low, high, *options)
    of, inverse = _terms(b), options[-1]
    if inverse:
        out = b.x.start.squeeze(2) + b.x.size.squeeze(2) * b.t
    else:
        out = b.y.start.squeeze(2) + b.y.size.squeeze(2) * (of.numerator / of.denominator)
    out = _capped(out, low, high)
    log = torch.log(of.derivative) + 2 * torch.log(of.s / of.denominator)
    nan = torch.full((), torch.nan, dtype=v.dtype, device=v.device)
    outside = torch.where(v.isnan(), nan, torch.zeros_like(nan)) if tails == "linear" else nan
    out = torch.where(b.inside, out, v if tails == "linear" else nan)
    log = torch.where(b.inside, -log if inverse else log, outside)
    rest = _take(input, parts[1]) if parts[1] else None
    return _put(out.to(input.dtype), rest, parts), log.reshape(len(log), -1).sum(1) if log.numel() else log.new_zeros(
        len(log)
    )


def _to_logits(k: Knots, index: Tensor, to_start: Tensor, to_size: Tensor, scale: float) -> Tensor:
    """The gradient of an axis' logits, of those of the bin's start and size [N, C', 1, ...]: of each bin less the mean of all, so
    that ones that cancel where one bin has nearly all are never added."""
    p, own, less = k.softmax, k.softmax.gather(2, index), to_size - to_start
    before, mine = to_start * k.after - less * own, to_size * k.after + less * k.before
    at, after = _along(p), -(to_start * k.before + to_size * own)
    return scale * p * torch.where(at < index, before, torch.where(at == index, mine, after))


def backward(
    grad_output: Tensor | None,  # [N, C, ...]
    grad_log_det: Tensor | None,  # [N]
    input: Tensor,  # [N, C, ...]
    params: Tensor,  # [N, C' * P, ...]
    mask: str,
    flip: bool,
    tails: str,
    low: float,
    high: float,
    min_bin_width: float,
    min_bin_height: float,
    min_derivative: float,
    beta: float,
    inverse: bool,
    needs: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of input and params, None where needs is False; differentiable to any order."""
    parts = _parts(input.shape[1], mask, flip)
    wide = torch.promote_types(input.dtype, torch.float32)
    p = _live(params, len(parts[0]))
    v = _take(input, parts[0]).to(wide)
    b = _piece(v, p, tails, low, high, min_bin_width, min_bin_height, min_derivative, beta, inverse)
    of = _terms(b)
    s, w, h, t, u, tu = of.s, b.x.size.squeeze(2), b.y.size.squeeze(2), b.t, b.u, of.tu
    out_grad = torch.zeros_like(v) if grad_output is None else _take(grad_output, parts[0]).to(wide)
    log_grad = torch.zeros_like(v)
    if grad_log_det is not None:
        log_grad = grad_log_det.to(wide).reshape(-1, *[1] * (v.dim() - 1)).expand_as(v)
    over, over_d = 1 / of.denominator, 1 / of.derivative
    slope = s * s * of.derivative * over * over
    log_t = 2 * (((b.d1 - s) * t - (b.d0 - s) * u) * over_d - (b.d0 + b.d1 - 2 * s) * (u - t) * over)
    to_input = out_grad * slope + log_grad * log_t / w
    g, log_g, left = out_grad, log_grad, -to_input
    if inverse:  # x = left + w t, where neither left nor w is part of t
        log_g, left = -log_grad, out_grad
        to_input = (out_grad + log_g * log_t / w) / slope
        g = -to_input
    gh = g * h * over
    to_s = gh * tu * (b.d1 * t * t - b.d0 * u * u) * over + log_g * 2 * tu * ((b.d0 + b.d1) * over / s + over_d)
    mirror = s * u * u + b.d1 * tu
    to_d0 = gh * tu * mirror * over + log_g * (u * u * over_d - 2 * tu * over)
    to_d1 = -gh * tu * of.numerator * over + log_g * (t * t * over_d - 2 * tu * over)
    to_w, to_h = left * t - to_s * s / w, g * of.numerator * over + to_s / w
    scale = high - low
    to_x, to_y = (
        _to_logits(k, b.index, start.unsqueeze(2), size.unsqueeze(2), scale * (1 - least * k.softmax.shape[2]))
        for k, start, size, least in ((b.x, left, to_w, min_bin_width), (b.y, g, to_h, min_bin_height))
    )
    at = _along(p[:, :, 2 * to_x.shape[2] :])
    first, zero = b.index - int(tails == "linear"), torch.zeros((), dtype=wide, device=p.device)
    to_raw = torch.where(at == first, (to_d0 * b.slope0).unsqueeze(2), zero)
    to_raw = torch.where(at == first + 1, (to_d1 * b.slope1).unsqueeze(2), to_raw)
    to_params = torch.where(b.inside.unsqueeze(2), torch.cat((to_x, to_y, to_raw), 2), zero).reshape(params.shape)
    to_input = torch.where(b.inside, to_input, out_grad if tails == "linear" else zero)
    rest = None
    if parts[1]:
        taken = input if grad_output is None else grad_output
        rest = (
            (torch.zeros_like(taken) if grad_output is None else taken)
            .to(wide)
            .index_select(1, torch.tensor(parts[1], device=taken.device))
        )
    grads = (_put(to_input, rest, parts), to_params)
    return tuple(g.to(input.dtype) if n else None for g, n in zip(grads, needs, strict=True))  # type: ignore[return-value]
