"""The free energy of plain tensors on a CPU, all of float32 or of float64: a short way, as small machines are all overhead."""

from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pygen import _backends, _checks, _dispatch
from pygen._degrees import Plan, dense_plan
from pygen._sums import column_sums
from pygen.native import rbm as native
from pygen.ops import _library
from pygen.ops._reduction import reduced
from pygen.ops._saved import check_kinds, kinds

_OP = "rbm_free_energy"


def energy(
    v: Any,
    weight: Any,
    visible_bias: Any,
    hidden_bias: Any,
    reduction: Any,
    backend: Any,
    gradients: Callable[..., tuple[Tensor | None, ...]],  # the long way's
) -> Tensor | None:
    """None where the call needs the long way, which says what is wrong where something is."""
    if (
        torch.compiler.is_compiling()
        or reduction.__class__ is not str
        or reduction not in _checks.REDUCTIONS
        or (backend is not None and (backend.__class__ is not str or backend != "cpu"))
        or _checks.autocast_enabled()
    ):
        return None
    cpu = _backends.compiled_or_none("_cpu")
    if cpu is None or not _dispatch.nothing_intercepts():
        return None
    tensors = v, weight, visible_bias, hidden_bias
    rows = cpu.rbm_rows(*tensors)
    if rows is None or (backend is None and _dispatch.resolve(_OP, _dispatch.AUTO, "cpu") != "cpu"):
        return None
    if torch.is_grad_enabled() and (
        weight.requires_grad or v.requires_grad or visible_bias.requires_grad or hidden_bias.requires_grad
    ):
        return _apply(cpu, rows, gradients, reduction, *tensors)
    energies = weight.new_empty(rows)
    cpu.rbm_energy_plain(*tensors, torch.get_num_threads(), energies, None)
    return reduced(energies, reduction)


@lru_cache(maxsize=64)
def _dense(visible: int, hidden: int) -> tuple[object, tuple[Plan, ...]]:
    """masked_linear's plan of a layer where all is live, and its memory."""
    plans = dense_plan(visible, hidden), dense_plan(hidden, visible)
    addresses = (plan.addresses(torch.device("cpu"), False) for plan in plans)
    return _backends.compiled("_cpu").masked_linear_plan(visible, hidden, *addresses), plans


def _of_parameters(
    cpu: ModuleType, grad: Tensor, v: Tensor, weight: Tensor, units: Tensor, reduction: str
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The gradients of weight and both biases; None where not all is plain."""
    if reduction == "none" or (number := cpu.plain_number(grad)) is None:
        return None
    factor = -number / len(units) if reduction == "batchmean" else -number
    hidden, visible = weight.shape
    scaled, to_weight, to_hidden = units * factor, torch.empty_like(weight), units.new_empty(hidden)
    plan, _ = _dense(visible, hidden)
    if not cpu.masked_linear_plain_gradients(
        plan, torch.get_num_threads(), scaled, v, weight, None, to_weight, to_hidden
    ):
        return None
    return to_weight, column_sums(v).mul_(factor), to_hidden


class _CommonEnergy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, cpu, rows, gradients, reduction, v, weight, visible_bias, hidden_bias):
        ctx.set_materialize_grads(False)
        tensors = v, weight, visible_bias, hidden_bias
        energies, units = weight.new_empty(rows), weight.new_empty((rows, weight.shape[0]))
        cpu.rbm_energy_plain(*tensors, torch.get_num_threads(), energies, units)
        ctx.save_for_backward(*tensors, units)
        ctx.call = cpu, gradients, reduction, kinds(v, weight, visible_bias, hidden_bias, units)
        return reduced(energies, reduction)

    @staticmethod
    def backward(ctx, grad):
        if grad is None:
            return (None,) * 8
        cpu, gradients, reduction, expected = ctx.call
        given = ctx.saved_tensors
        check_kinds(given, expected)
        needs = ctx.needs_input_grad[4:]
        if (
            needs == (False, True, True, True)
            and not torch.is_grad_enabled()
            and not _dispatch.is_batched(grad)
            and _dispatch.nothing_intercepts()
        ):
            made = _of_parameters(cpu, grad, given[0], given[1], given[4], reduction)
            if made is not None:
                return (None,) * 5 + made
        return None, None, None, None, *gradients(native, grad, given, reduction, needs, "cpu")


_apply = _library.fast_apply(_CommonEnergy)
