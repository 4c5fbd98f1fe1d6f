"""Launcher of the C++ kernels of masked_linear."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from pygen.native._arguments import DTYPE_NAMES, strided, target

Plan = tuple[Tensor, Tensor, Tensor]


@lru_cache(maxsize=256)
def _plan(source_degrees: tuple[int, ...], target_degrees: tuple[int, ...], strict: bool) -> Plan:
    """(source order, target order, live sources of each target so sorted), as masked_linear.h has them."""
    sources = torch.tensor(source_degrees, dtype=torch.int64)
    targets, target_order = torch.tensor(target_degrees, dtype=torch.int64).sort(stable=True)
    sources, source_order = sources.sort(stable=True)
    return source_order, target_order, torch.searchsorted(sources, targets, right=not strict)


def _forward_plan(in_degrees: Sequence[int], out_degrees: Sequence[int], strict: bool) -> Plan:
    return _plan(tuple(in_degrees), tuple(out_degrees), strict)


def _backward_plan(in_degrees: Sequence[int], out_degrees: Sequence[int], strict: bool) -> Plan:
    """With inputs and outputs exchanged: -in_degree > or >= -out_degree."""
    return _plan(tuple(-d for d in out_degrees), tuple(-d for d in in_degrees), strict)


def _addresses(plan: Plan) -> tuple[int, ...]:
    return tuple(t.data_ptr() for t in plan)


def _rows(t: Tensor) -> Tensor:
    """[..., D] as [N, D]"""
    return t if t.dim() == 2 else t.reshape(t.shape[:-1].numel(), t.shape[-1])


def forward(
    input: Tensor,  # [..., in]
    weight: Tensor,  # [out, in]
    bias: Tensor | None,  # [out]
    in_degrees: Sequence[int],
    out_degrees: Sequence[int],
    strict: bool,
) -> Tensor:
    """[..., out]"""
    output = torch.empty((*input.shape[:-1], weight.shape[0]), dtype=input.dtype, device=input.device)
    x, bias = _rows(input), bias if bias is None else bias.contiguous()
    compiled, where = target(input)
    plan = _forward_plan(in_degrees, out_degrees, strict)
    compiled.masked_linear_product(
        DTYPE_NAMES[input.dtype],
        (x.shape[0], weight.shape[1], weight.shape[0]),
        _addresses(plan),
        strided(x),
        strided(_rows(output)),
        strided(weight),
        None if bias is None else strided(bias)[0],
        *where,
    )
    return output


def grad_input(
    grad: Tensor,  # [..., out]
    weight: Tensor,  # [out, in]
    in_degrees: Sequence[int],
    out_degrees: Sequence[int],
    strict: bool,
) -> Tensor:
    """[..., in]"""
    result = torch.empty((*grad.shape[:-1], weight.shape[1]), dtype=grad.dtype, device=grad.device)
    g = _rows(grad)
    compiled, where = target(grad)
    plan = _backward_plan(in_degrees, out_degrees, strict)
    compiled.masked_linear_product(
        DTYPE_NAMES[grad.dtype],
        (g.shape[0], weight.shape[0], weight.shape[1]),
        _addresses(plan),
        strided(g),
        strided(_rows(result)),
        strided(weight.t()),
        None,
        *where,
    )
    return result


def grad_weight(
    grad: Tensor,  # [..., out]
    input: Tensor,  # [..., in]
    in_degrees: Sequence[int],
    out_degrees: Sequence[int],
    strict: bool,
    need_bias: bool,
) -> tuple[Tensor, Tensor | None]:
    """weight's gradient [out, in], 0 where it is dead, and bias's [out]."""
    g, x = _rows(grad), _rows(input)
    weight = torch.zeros((g.shape[1], x.shape[1]), dtype=grad.dtype, device=grad.device)
    bias = torch.zeros(g.shape[1], dtype=grad.dtype, device=grad.device) if need_bias else None
    compiled, where = target(grad)
    plan = _forward_plan(in_degrees, out_degrees, strict)
    compiled.masked_linear_grad_weight(
        DTYPE_NAMES[grad.dtype],
        (x.shape[0], x.shape[1], g.shape[1]),
        _addresses(plan),
        strided(x),
        strided(g),
        strided(weight),
        None if bias is None else strided(bias)[0],
        *where,
    )
    return weight, bias
