"""The affine coupling of NICE and RealNVP in plain PyTorch. At the transformed places, with the other places as they are:

    forward  y = x e^f + t,  log_det =  sum of f        inverse  x = (y - t) e^-f,  log_det = -sum of f

f = f(log_scale): log_scale itself ("exp"), bound tanh(log_scale / bound) ("tanh"), log sigmoid(log_scale + 2) ("sigmoid");
without log_scale f = 0. Dinh et al. 2014, "NICE: Non-linear Independent Components Estimation", section 3.2; Dinh et al. 2016,
"Density estimation using Real NVP", equations 4 to 9. Computed in float32 (float64 for float64), rounded once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen.reference._layout import in_layout_of


def live_channels(channels: int, mask: str, flip: bool) -> range:
    """The transformed indices of dim 1, of the masks "channel" and "even_odd"."""
    if mask == "channel":
        middle = (channels + 1) // 2
        return range(middle) if flip else range(middle, channels)
    return range(0 if flip else 1, channels, 2)


def live_places(input: Tensor, mask: str, flip: bool) -> Tensor:
    """Which places are transformed: bool, broadcasts to input [N, C, ...]."""
    if mask == "checkerboard":
        height, width = (torch.arange(n, device=input.device) for n in input.shape[-2:])
        return (height[:, None] + width) % 2 == int(flip)
    c = torch.arange(input.shape[1], device=input.device)
    if mask == "all":
        return (c >= 0).reshape(-1, *[1] * (input.dim() - 2))
    middle = (input.shape[1] + 1) // 2
    live = ((c >= middle) if mask == "channel" else (c % 2 == 1)) != flip
    return live.reshape(-1, *[1] * (input.dim() - 2))


def _spread(t: Tensor, like: Tensor, live: Tensor, mask: str, flip: bool) -> Tensor:
    """A parameter in like's shape and the dtype computed in, 0 where nothing is transformed."""
    t = t.to(torch.promote_types(t.dtype, torch.float32))
    if t.shape[1] != like.shape[1]:
        if t.shape[1] == 0:
            return torch.zeros_like(like, dtype=t.dtype)
        first = (like.shape[1] + 1) // 2 if mask == "channel" and not flip else 0
        c = torch.arange(like.shape[1], device=t.device)
        at = (c - first if mask == "channel" else c // 2).clamp(0, t.shape[1] - 1)
        t = t.index_select(1, at)
    return torch.where(live, t, torch.zeros((), dtype=t.dtype, device=t.device))


def _gather(t: Tensor, half: bool, mask: str, flip: bool) -> Tensor:
    """What _spread came from."""
    if not half:
        return t
    at = live_channels(t.shape[1], mask, flip)
    return t[:, at.start : at.stop : at.step]


def _root(f: Tensor) -> Tensor:
    """e^(f / 2), neither 0 nor infinite: 0 times it is 0."""
    most = 88.0 if f.dtype == torch.float32 else 708.0
    return torch.exp((0.5 * f).clamp(-most, most))


def _factor(s: Tensor, scale: str, bound: float, inverse: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(root, rest, f, slope): the factor, e^f or e^-f, is root^2 rest, and slope = df / ds."""
    sign = -1.0 if inverse else 1.0
    if scale == "exp":
        return _root(sign * s), torch.ones_like(s), s, torch.ones_like(s)
    if scale == "tanh":
        a = s / bound
        f = bound * torch.tanh(a)
        return _root(sign * f), torch.ones_like(s), f, 4 * torch.sigmoid(2 * a) * torch.sigmoid(-2 * a)
    y = s + 2
    low = torch.where(
        y < 0, y, 0
    )  # it and |y| have derivatives at 0 that belong together; those of clamp and abs do not
    rest = 1 + torch.exp(torch.where(y < 0, y, -y))
    f = torch.nn.functional.logsigmoid(y)
    return _root(sign * low), rest if inverse else 1 / rest, f, torch.sigmoid(-y)


def forward(
    input: Tensor,  # [N, C, ...]
    shift: Tensor,  # input's shape, or that of its transformed half
    log_scale: Tensor | None,  # like shift
    mask: str,
    flip: bool,
    scale: str,
    bound: float,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    """(output like input, log_det [N]); the output channels_last iff the input is."""
    output, log_det = compose(input, shift, log_scale, mask, flip, scale, bound, inverse)
    return in_layout_of(output, input), log_det


def compose(
    input: Tensor,  # [N, C, ...], the others as in forward
    shift: Tensor,
    log_scale: Tensor | None,
    mask: str,
    flip: bool,
    scale: str,
    bound: float,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    """`forward` in whatever layout comes; differentiable to any order, and torch.func can transform it."""
    live = live_places(input, mask, flip)
    t = _spread(shift, input, live, mask, flip)
    x = input.to(t.dtype)
    if log_scale is None:
        out = x - t if inverse else x + t
        return torch.where(live, out, x).to(input.dtype), x.new_zeros(x.shape[0])
    root, rest, f, _ = _factor(_spread(log_scale, input, live, mask, flip), scale, bound, inverse)
    out = (x - t) * root * root * rest if inverse else x * root * root * rest + t
    f = torch.where(live, -f if inverse else f, torch.zeros_like(f))
    return torch.where(live, out, x).to(input.dtype), f.reshape(f.shape[0], -1).sum(1) if f.numel() else f.new_zeros(
        f.shape[0]
    )


def backward(
    grad_output: Tensor | None,  # [N, C, ...]
    grad_log_det: Tensor | None,  # [N]
    input: Tensor | None,  # [N, C, ...]; None without log_scale, as nothing depends on it
    shift: Tensor | None,  # None where nothing depends on it: forward, or without log_scale
    log_scale: Tensor | None,
    half: bool,  # whether shift and log_scale have the transformed half's shape
    mask: str,
    flip: bool,
    scale: str,
    bound: float,
    inverse: bool,
    needs: Sequence[bool],
    together: bool = False,  # whether the parameters' gradients may be halves of one tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of input, shift and log_scale, None where needs is False; differentiable to any order."""
    like = grad_output if input is None else input
    assert like is not None
    live = live_places(like, mask, flip)
    wide = torch.promote_types(like.dtype, torch.float32)
    zero = torch.zeros((), dtype=wide, device=like.device)
    g = torch.zeros_like(like, dtype=wide) if grad_output is None else grad_output.to(wide)
    g_live, g_dead = torch.where(live, g, zero), torch.where(live, zero, g)
    if log_scale is None:
        grads = (g.clone(), -g_live if inverse else g_live, None)  # an op must not hand on what it was given
    else:
        assert input is not None
        s = _spread(log_scale, like, live, mask, flip)
        root, rest, _, slope = _factor(s, scale, bound, inverse)
        u = torch.where(live, input.to(wide), zero)
        if inverse:
            assert shift is not None
            u = u - _spread(shift, like, live, mask, flip)
        times = total = g_live
        if grad_output is not None:  # else zeros, which what is infinite or NaN must not be multiplied by
            times, total = g_live * root * root * rest, (u * root) * (g_live * root) * rest
        if grad_log_det is not None:
            total = total + grad_log_det.to(wide).reshape(-1, *[1] * (like.dim() - 1))
        to_scale = torch.where(live, (-total if inverse else total) * slope, zero)
        grads = (times + g_dead, -times if inverse else g_live, to_scale)
    whole = (False, half, half)
    return tuple(  # type: ignore[return-value]
        _gather(grad, h, mask, flip).to(like.dtype) if n and grad is not None else None
        for grad, h, n in zip(grads, whole, needs, strict=True)
    )
