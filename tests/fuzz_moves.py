"""How fuzz.py moves numbers by their last bits, and makes a case smaller."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor


def nudged(t: Tensor, eps: float, g: torch.Generator) -> Tensor:
    """t in float64, each stored number moved by eps up or down; of an expanded dim all together."""
    stored = [n if stride else 1 for n, stride in zip(t.shape, t.stride(), strict=True)]
    return t.double() * (1 + eps * (torch.randint(2, stored, generator=g).double() * 2 - 1))


def _signs(t: Tensor, g: torch.Generator) -> Tensor:
    """+-1 by the number and the draw alone: equal numbers are rounded alike, and sums of them add such errors up."""
    odd, shift = (int(n) for n in torch.randint(2**31, (2,), generator=g))
    key = t.float().view(torch.int32).long() * (2 * odd + 1) + shift
    return ((key ^ (key >> 17)) * 0x9E3779B1 >> 40 & 1).double() * 2 - 1


class _Rounded(torch.autograd.Function):
    """Each element, or each of its gradient, moved by eps of itself or of size, up or down."""

    @staticmethod
    def forward(ctx, x, size, gradient, eps, g):
        ctx.gradient, ctx.eps, ctx.g = gradient, eps, g
        return x.clone() if gradient else x + eps * (size or x) * _signs(x, g)

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 + ctx.eps * _signs(grad, ctx.g)) if ctx.gradient else grad, None, None, None, None


def move_rounded(x: Tensor, size: float = 0.0, *, eps: float, g: torch.Generator, gradient: bool = False) -> Tensor:
    """size 0: that of each element."""
    return _Rounded.apply(x, size, gradient, eps, g)


def simpler(case: Any) -> Iterator[Any]:
    """The fuzz.Case with one thing less, the most telling first."""
    sizes = sorted({n for s in case.shapes.values() for n in s if n > 1}, reverse=True)
    for n in sizes:  # wherever that size stands: sizes that must agree stay equal
        for m in dict.fromkeys((1, 2, n // 2, n - 1)):
            if m < n:
                cut = {k: tuple(m if d == n else d for d in s) for k, s in case.shapes.items()}
                yield replace(case, shapes=cut)
    for k, s in case.shapes.items():
        for i, n in enumerate(s):
            for m in dict.fromkeys((1, n // 2, n - 1)):
                if 0 < m < n:
                    yield replace(case, shapes={**case.shapes, k: (*s[:i], m, *s[i + 1 :])})
    for k in case.layouts:
        yield replace(case, layouts={j: v for j, v in case.layouts.items() if j != k})
    for k in case.options:
        yield replace(case, options={j: v for j, v in case.options.items() if j != k})
    if case.upstream:
        yield replace(case, upstream=())
    for plain in ({"dtype": "float32"}, {"values": "normal"}, {"wanted": None}, {"threads": 2}, {"isa": None}):
        if replace(case, **plain) != case:
            yield replace(case, **plain)
