"""Launcher of the C++ and the CUDA C++ kernels of masked_linear. CUDA: not yet run on a GPU."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen import _tf32
from pygen._degrees import Plan, backward_plan, flat_rows, forward_plan
from pygen.native._arguments import DTYPE_NAMES, launch, on_gpu, strided, target


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, out: Tensor) -> None:
    """out [N, n] of x [N, k] and a weight [n, k], seen so."""
    where, bias = target(x), None if bias is None else bias.contiguous()
    launch(
        where,
        x.device,
        "masked_linear_product",
        _tf32.allowed_in_products(x),
        DTYPE_NAMES[x.dtype],
        (x.shape[0], weight.shape[1], weight.shape[0]),
        plan.addresses(x.device, on_gpu(where)),
        strided(x),
        strided(out),
        strided(weight),
        None if bias is None else strided(bias)[0],
    )


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
    _product(flat_rows(input), weight, bias, forward_plan(in_degrees, out_degrees, strict), flat_rows(output))
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
    _product(flat_rows(grad), weight.t(), None, backward_plan(in_degrees, out_degrees, strict), flat_rows(result))
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
    where = target(grad)
    gpu = on_gpu(where)
    weight = torch.zeros((g.shape[1], x.shape[1]), dtype=grad.dtype, device=grad.device)
    bias = None
    if need_bias:  # on a GPU torch's own sum: in float32 within, and the same each time
        bias = g.sum(0) if gpu else torch.zeros(g.shape[1], dtype=grad.dtype, device=grad.device)
    launch(
        where,
        grad.device,
        "masked_linear_grad_weight",
        _tf32.allowed_in_products(grad),
        DTYPE_NAMES[grad.dtype],
        (x.shape[0], x.shape[1], g.shape[1]),
        forward_plan(in_degrees, out_degrees, strict).addresses(grad.device, gpu),
        strided(x),
        strided(g),
        strided(weight),
        None if bias is None or gpu else strided(bias)[0],
    )
    return weight, bias
