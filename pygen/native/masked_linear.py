"""Launcher of the C++ and the CUDA C++ kernels of masked_linear. CUDA: not yet run on a GPU."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pygen import _backends, _tf32
from pygen._degrees import Plan, backward_plan, dense_plan, flat_rows, forward_plan
from pygen.native._arguments import DTYPE_NAMES, contiguous, launch, on_gpu, strided, target


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, out: Tensor) -> None:
    """out [N, n] of x [N, k] and a weight [n, k], seen so."""
    where, bias = target(x), None if bias is None else contiguous(bias)
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
    return _grad_weight(flat_rows(grad), flat_rows(input), forward_plan(in_degrees, out_degrees, strict), need_bias)


def _grad_weight(
    g: Tensor, x: Tensor, plan: Plan, need_bias: bool, weight: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    where = target(g)
    gpu = on_gpu(where)
    if weight is None:
        weight = torch.empty((g.shape[1], x.shape[1]), dtype=g.dtype, device=g.device)
    bias = None
    if need_bias:  # on a GPU torch's own sum: in float32 within, and the same each time and in each layout
        bias = g.contiguous().sum(0) if gpu else torch.empty(g.shape[1], dtype=g.dtype, device=g.device)
    launch(
        where,
        g.device,
        "masked_linear_grad_weight",
        _tf32.allowed_in_products(g),
        DTYPE_NAMES[g.dtype],
        (x.shape[0], x.shape[1], g.shape[1]),
        plan.addresses(g.device, gpu),
        strided(x),
        strided(g),
        strided(weight),
        None if bias is None or gpu else strided(bias)[0],
    )
    return weight, bias


def has_dense(t: Tensor) -> bool:
    """Whether dense products of tensors like `t` are worth it: in C++."""
    return t.is_cpu and _backends.compiled_or_none("_cpu") is not None and not on_gpu(target(t))


def dense_product(
    x: Tensor,  # [N, k]
    weight: Tensor,  # [n, k]
    out: Tensor,  # [N, n], written; on a GPU contiguous
) -> Tensor:
    """out = x weight^T, each sum in one order whatever the threads, strides and addresses."""
    _product(x, weight, None, dense_plan(x.shape[1], weight.shape[0]), out)
    return out


def dense_grad_weight(
    grad: Tensor,  # [N, n]
    x: Tensor,  # [N, k]
    out: Tensor,  # [n, k], written; on a GPU contiguous
) -> Tensor:
    """out = grad^T x, as repeatable."""
    return _grad_weight(grad, x, dense_plan(x.shape[1], grad.shape[1]), False, out)[0]


class PlainPlan(NamedTuple):
    """A layer's degrees as the C++ kernel wants them, found out once, and the functions of the compiled module."""

    rows: Callable[..., int | None]  # of the output of (compiled, input, weight, bias), where these are plain and fit
    product: Callable[..., None]
    gradients: Callable[..., bool]
    compiled: object
    outs: int
    options: tuple  # the degrees, strict, the backend's name
    orders: tuple[Plan, ...]  # their memory


@lru_cache(maxsize=256)
def _orders(in_degrees: tuple[int, ...], out_degrees: tuple[int, ...], strict: bool) -> tuple[Plan, Plan, object]:
    plans = forward_plan(in_degrees, out_degrees, strict), backward_plan(in_degrees, out_degrees, strict)
    addresses = (plan.addresses(torch.device("cpu"), False) for plan in plans)
    compiled = _backends.compiled("_cpu").masked_linear_plan(len(in_degrees), len(out_degrees), *addresses)
    return *plans, compiled


def plain_plan(in_degrees: tuple[int, ...], out_degrees: tuple[int, ...], strict: bool) -> PlainPlan:
    """It keeps these very tuples."""
    cpu = _backends.compiled("_cpu")
    *orders, compiled = _orders(in_degrees, out_degrees, strict)
    return PlainPlan(
        cpu.masked_linear_rows,
        cpu.masked_linear_plain,
        cpu.masked_linear_plain_gradients,
        compiled,
        len(out_degrees),
        (in_degrees, out_degrees, strict, "cpu"),
        tuple(orders),
    )


def forward_plain(plan: PlainPlan, rows: int, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[rows, out]"""
    output = weight.new_empty((rows, plan.outs))
    plan.product(plan.compiled, torch.get_num_threads(), input, weight, bias, output)
    return output


def gradients_plain(
    plan: PlainPlan, grad: Tensor, input: Tensor, weight: Tensor, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None] | None:
    """Of input, weight and bias where needed; None where they are not plain."""
    need_input, need_weight, need_bias = needs
    to_input = torch.empty_like(input) if need_input else None
    to_weight = torch.empty_like(weight) if need_weight or need_bias else None
    to_bias = weight.new_empty(plan.outs) if need_bias else None
    if not plan.gradients(plan.compiled, torch.get_num_threads(), grad, input, weight, to_input, to_weight, to_bias):
        return None
    return to_input, to_weight if need_weight else None, to_bias
