"""The masked layer of MADE in plain PyTorch (Germain et al. 2015, equations 13 and 14).

    output[n, o] = bias[o] + sum over live i of weight[o, i] input[n, i],   live: out_degree[o] > (strict) or >= in_degree[i]

Input by input over the outputs it feeds, so nothing dead is ever multiplied; a matrix product would be faster, but its sums
depend on threads and addresses. The three functions are bilinear, and each one's gradients are the other two. Computed in
float32 (float64 for float64), rounded once.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import torch
from torch import Tensor


def live_mask(in_degrees: Sequence[int], out_degrees: Sequence[int], strict: bool, device: torch.device) -> Tensor:
    """bool [out, in]"""
    ins = torch.tensor(in_degrees, dtype=torch.int64, device=device)
    outs = torch.tensor(out_degrees, dtype=torch.int64, device=device).unsqueeze(1)
    return outs > ins if strict else outs >= ins


@cache
def _fed(in_degrees: tuple[int, ...], out_degrees: tuple[int, ...], strict: bool) -> tuple[tuple[int, ...], ...]:
    """The outputs that each input feeds."""
    return tuple(tuple(o for o, d in enumerate(out_degrees) if (d > i if strict else d >= i)) for i in in_degrees)


def _each(
    in_degrees: Sequence[int], out_degrees: Sequence[int], strict: bool, device: torch.device
) -> Iterator[tuple[int, Tensor]]:
    """(input, indices of the outputs it feeds), of inputs that feed any."""
    for i, outs in enumerate(_fed(tuple(in_degrees), tuple(out_degrees), strict)):
        if outs:
            yield i, torch.tensor(outs, dtype=torch.int64, device=device)


def forward(
    input: Tensor,  # [..., in]
    weight: Tensor,  # [out, in]
    bias: Tensor | None,  # [out]
    in_degrees: Sequence[int],
    out_degrees: Sequence[int],
    strict: bool,
) -> Tensor:
    """[..., out]; differentiable, and torch.func can transform it."""
    wide = torch.promote_types(input.dtype, torch.float32)
    with torch.autocast(input.device.type, enabled=False):
        x, w = input.to(wide), weight.to(wide)
        out = torch.zeros(*input.shape[:-1], weight.shape[0], dtype=wide, device=input.device)
        for i, outs in _each(in_degrees, out_degrees, strict, input.device):
            out = out.index_add(-1, outs, x.narrow(-1, i, 1) * w.narrow(1, i, 1).squeeze(1).index_select(0, outs))
        return (out if bias is None else out + bias.to(wide)).to(input.dtype)


def grad_input(
    grad: Tensor,  # [..., out]
    weight: Tensor,  # [out, in]
    in_degrees: Sequence[int],
    out_degrees: Sequence[int],
    strict: bool,
) -> Tensor:
    """[..., in]"""
    wide = torch.promote_types(grad.dtype, torch.float32)
    with torch.autocast(grad.device.type, enabled=False):
        g, w = grad.contiguous().to(wide), weight.to(wide)
        columns = [torch.zeros(grad.shape[:-1], dtype=wide, device=grad.device) for _ in in_degrees]
        for i, outs in _each(in_degrees, out_degrees, strict, grad.device):
            columns[i] = (g.index_select(-1, outs) * w.narrow(1, i, 1).squeeze(1).index_select(0, outs)).sum(-1)
        return torch.stack(columns, dim=-1).to(grad.dtype) if columns else grad.new_zeros(*grad.shape[:-1], 0)


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
    with torch.autocast(grad.device.type, enabled=False):
        g, x = (t.contiguous().to(wide).reshape(t.shape[:-1].numel(), t.shape[-1]) for t in (grad, input))
        columns = [torch.zeros(g.shape[1], dtype=wide, device=grad.device) for _ in in_degrees]
        for i, outs in _each(in_degrees, out_degrees, strict, grad.device):
            columns[i] = columns[i].index_add(0, outs, (g.index_select(1, outs) * x.narrow(1, i, 1)).sum(0))
        total = torch.stack(columns, dim=1) if columns else g.new_zeros(g.shape[1], 0)
        return total.to(grad.dtype), g.sum(0).to(grad.dtype) if need_bias else None
