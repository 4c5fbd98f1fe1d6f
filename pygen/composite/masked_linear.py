"""masked_linear as one dense product with the dead weights replaced by 0, where what it multiplies is finite.

A 0 times infinity would be NaN: then the products go degree by degree, as in the reference.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from pygen._checks import without_autocast
from pygen._degrees import kept
from pygen.reference import masked_linear as reference


@lru_cache(maxsize=64)
def _mask(in_degrees: tuple[int, ...], out_degrees: tuple[int, ...], strict: bool, device: torch.device) -> Tensor:
    return kept(lambda: reference.live_mask(in_degrees, out_degrees, strict, device))


def _live_weight(weight: Tensor, in_degrees: Sequence[int], out_degrees: Sequence[int], strict: bool) -> Tensor:
    wide = torch.promote_types(weight.dtype, torch.float32)
    mask = _mask(tuple(in_degrees), tuple(out_degrees), strict, weight.device)
    return torch.where(mask, weight.to(wide), 0.0)


def _finite(t: Tensor) -> bool:
    """Known only where looking does not wait for a device; of a tensor without data it does not matter."""
    return t.is_meta or (t.is_cpu and bool(t.isfinite().all()))


def forward(
    input: Tensor,  # [..., in]
    weight: Tensor,  # [out, in]
    bias: Tensor | None,  # [out]
    in_degrees: Sequence[int],
    out_degrees: Sequence[int],
    strict: bool,
) -> Tensor:
    """[..., out]"""
    if not _finite(input):
        return reference.forward(input, weight, bias, in_degrees, out_degrees, strict)
    live = _live_weight(weight, in_degrees, out_degrees, strict)
    with without_autocast(input):
        out = torch.nn.functional.linear(input.to(live.dtype), live, None if bias is None else bias.to(live.dtype))
    return out.to(input.dtype).contiguous()


def grad_input(
    grad: Tensor, weight: Tensor, in_degrees: Sequence[int], out_degrees: Sequence[int], strict: bool
) -> Tensor:
    """grad [..., out] -> [..., in]"""
    if not _finite(grad):
        return reference.grad_input(grad, weight, in_degrees, out_degrees, strict)
    live = _live_weight(weight, in_degrees, out_degrees, strict)
    with without_autocast(grad):
        return (grad.to(live.dtype) @ live).to(grad.dtype).contiguous()


def grad_weight(
    grad: Tensor,  # [..., out]
    input: Tensor,  # [..., in]
    in_degrees: Sequence[int],
    out_degrees: Sequence[int],
    strict: bool,
    need_bias: bool,
) -> tuple[Tensor, Tensor | None]:
    """weight's gradient [out, in], 0 where it is dead, and bias's [out]."""
    wide = torch.promote_types(grad.dtype, torch.float32)
    g, x = (t.to(wide).reshape(t.shape[:-1].numel(), t.shape[-1]) for t in (grad, input))
    mask = _mask(tuple(in_degrees), tuple(out_degrees), strict, grad.device)
    with without_autocast(grad):
        total = torch.where(mask, g.transpose(0, 1) @ x, 0.0)  # a dead entry's NaN is thrown away with it
    return total.to(grad.dtype), g.sum(0).to(grad.dtype) if need_bias else None
