"""Launcher of the C++ kernels of masked_linear."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen._degrees import backward_plan, flat_rows, forward_plan
from pygen.native._arguments import DTYPE_NAMES, strided, target


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
    x, bias = flat_rows(input), bias if bias is None else bias.contiguous()
    compiled, where = target(input)
    plan = forward_plan(in_degrees, out_degrees, strict)
    compiled.masked_linear_product(
        DTYPE_NAMES[input.dtype],
        (x.shape[0], weight.shape[1], weight.shape[0]),
        plan.addresses(),
        strided(x),
        strided(flat_rows(output)),
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
    g = flat_rows(grad)
    compiled, where = target(grad)
    plan = backward_plan(in_degrees, out_degrees, strict)
    compiled.masked_linear_product(
        DTYPE_NAMES[grad.dtype],
        (g.shape[0], weight.shape[0], weight.shape[1]),
        plan.addresses(),
        strided(g),
        strided(flat_rows(result)),
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
    g, x = flat_rows(grad), flat_rows(input)
    weight = torch.zeros((g.shape[1], x.shape[1]), dtype=grad.dtype, device=grad.device)
    bias = torch.zeros(g.shape[1], dtype=grad.dtype, device=grad.device) if need_bias else None
    compiled, where = target(grad)
    plan = forward_plan(in_degrees, out_degrees, strict)
    compiled.masked_linear_grad_weight(
        DTYPE_NAMES[grad.dtype],
        (x.shape[0], x.shape[1], g.shape[1]),
        plan.addresses(),
        strided(x),
        strided(g),
        strided(weight),
        None if bias is None else strided(bias)[0],
        *where,
    )
    return weight, bias
