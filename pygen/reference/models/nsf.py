"""A neural spline flow as people usually write it in plain PyTorch: oracle and baseline of `pygen.models.NSF`.

Durkan, Bekasov, Murray, Papamakarios, "Neural Spline Flows" (2019). Same constructor, same `state_dict`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .nice import Flow


def _knots(logits: Tensor, least: float, low: float, high: float, rounded: Callable[..., Tensor]) -> Tensor:
    """[..., K + 1]"""
    shares = least + (1 - least * logits.shape[-1]) * torch.softmax(logits, -1)
    inner = low + (high - low) * torch.cumsum(shares, -1)[..., :-1]
    inner = rounded(inner, (high - low) * logits.shape[-1] ** 0.5)  # a sum's error, its terms' at random
    ends = [torch.full_like(logits[..., :1], end) for end in (low, high)]
    return torch.cat((ends[0], inner, ends[1]), -1)


def spline(
    v: Tensor,  # [...]
    params: Tensor,  # [..., 3 K - 1], without linear tails 3 K + 1
    inverse: bool = False,
    *,
    linear: bool = True,
    low: float = -3.0,
    high: float = 3.0,
    least: tuple[float, float, float] = (1e-3, 1e-3, 1e-3),  # of widths, heights and slopes
    beta: float = 1.0,
    masked: bool = True,  # False: all lie inside
    rounded: Callable[..., Tensor] = lambda t, size=0.0: t,  # what numbers in between go through
) -> tuple[Tensor, Tensor]:
    """(output, log-derivative), each [...]: knots of all bins, a search, six gathers, and a mask for what lies outside."""
    if not masked:
        return _inside(v, params, inverse, linear, low, high, least, beta, rounded)
    inside = (v > low) & (v < high) if linear else (v >= low) & (v <= high)
    out = v.clone() if linear else torch.full_like(v, math.nan)
    log = torch.zeros_like(v) if linear else torch.full_like(v, math.nan)
    out[inside], log[inside] = _inside(v[inside], params[inside], inverse, linear, low, high, least, beta, rounded)
    return out, log


def _inside(
    v: Tensor,
    p: Tensor,
    inverse: bool,
    linear: bool,
    low: float,
    high: float,
    least: tuple[float, float, float],
    beta: float,
    rounded: Callable[..., Tensor],
) -> tuple[Tensor, Tensor]:
    at = v.unsqueeze(-1)
    bins = (p.shape[-1] + (1 if linear else -1)) // 3
    x = _knots(p[..., :bins], least[0], low, high, rounded)
    y = _knots(p[..., bins : 2 * bins], least[1], low, high, rounded)
    d = rounded(least[2] + F.softplus(p[..., 2 * bins :], beta=beta))
    if linear:
        d = F.pad(d, (1, 1), value=1.0)
    index = torch.searchsorted((y if inverse else x)[..., 1:-1].contiguous(), at, right=True)
    w, h = x.diff(dim=-1).gather(-1, index), y.diff(dim=-1).gather(-1, index)
    left, bottom, d0, d1 = x.gather(-1, index), y.gather(-1, index), d.gather(-1, index), d.gather(-1, index + 1)
    s = h / w
    if inverse:
        total = (at - bottom) * (d0 + d1 - 2 * s)
        a, b, c = h * (s - d0) + total, h * d0 - total, -s * (at - bottom)
        t = rounded(2 * c / (-b - torch.sqrt(b * b - 4 * a * c)))
        result = left + w * t
    else:
        t = rounded((at - left) / w)
    below = s + (d0 + d1 - 2 * s) * t * (1 - t)
    if not inverse:
        result = bottom + h * (s * t**2 + d0 * t * (1 - t)) / below
    slope = s**2 * (d1 * t**2 + 2 * s * t * (1 - t) + d0 * (1 - t) ** 2)
    logs = torch.log(rounded(slope)) - 2 * torch.log(rounded(below))
    return result.squeeze(-1), (-logs if inverse else logs).squeeze(-1)


class _Coupling(nn.Module):
    """Cuts the numbers into even and odd ones, puts one half through splines, and puts them together again."""

    def __init__(self, sizes: Sequence[int], flip: bool, options: dict) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.conditioner = nn.Sequential(*layers[:-1])
        self.flip, self.options = flip, options
        last = self.conditioner[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, h: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        even, odd = h[:, ::2], h[:, 1::2]
        seen, live = (odd, even) if self.flip else (even, odd)
        params = self.conditioner(seen).reshape(*live.shape, -1)
        live, log = spline(live, params, inverse, **self.options)
        even, odd = (live, seen) if self.flip else (seen, live)
        out = torch.empty_like(h)
        out[:, ::2], out[:, 1::2] = even, odd
        return out, log.sum(1)


class NSF(Flow):
    """Spline couplings over even and odd numbers in turn.

    Args:
        num_inputs: D.
        hidden_sizes: widths of the networks' hidden layers.
        num_couplings: how many.
        num_bins: of each spline.
        bound: outside [-bound, bound] the splines are the identity.
        prior: "logistic" or "normal".
        num_levels: of x, or None where it is continuous.
    """

    def __init__(
        self,
        num_inputs: int,
        hidden_sizes: int | Sequence[int],
        *,
        num_couplings: int = 4,
        num_bins: int = 8,
        bound: float = 3.0,
        prior: str = "normal",
        num_levels: int | None = None,
    ) -> None:
        super().__init__()
        hidden = (hidden_sizes,) if isinstance(hidden_sizes, int) else tuple(hidden_sizes)
        self.prior, self.num_levels = prior, num_levels
        sizes, numbers = ((num_inputs + 1) // 2, num_inputs // 2), 3 * num_bins - 1
        options = {"low": -bound, "high": bound, "beta": math.log(2) / (1 - 1e-3)}
        self.couplings = nn.ModuleList(
            _Coupling((sizes[i % 2], *hidden, sizes[1 - i % 2] * numbers), i % 2 == 1, options)
            for i in range(num_couplings)
        )

    def _transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h, total = x.flatten(1), x.new_zeros(len(x))
        for coupling in self.couplings:
            h, log_det = coupling(h)
            total = total + log_det
        return h, total

    def inverse(self, z: Tensor) -> Tensor:
        h = z
        for coupling in reversed(self.couplings):
            h, _ = coupling(h, True)
        return h
