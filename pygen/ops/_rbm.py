"""What the free energy and the samples of a restricted Boltzmann machine share: checks, and gradients by matrix products."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pygen import _checks
from pygen._sums import column_sums
from pygen.native import masked_linear
from pygen.ops._likelihood import LEVEL_DTYPES, check_level_values
from pygen.ops._products import wide_product
from pygen.reference import rbm as reference
from pygen.reference._likelihood import compute_dtype
from pygen.reference.bernoulli_nll import LEVELS, targets


def promoted(tensors: tuple) -> tuple:
    """Under autocast: of a floating v and the parameters; levels stay."""
    v, *parameters = tensors
    if isinstance(v, Tensor) and not v.is_floating_point():
        return (v, *_checks.promote_under_autocast(*parameters))
    return _checks.promote_under_autocast(*tensors)


def check(op: str, v: Any, weight: Any, visible_bias: Any, hidden_bias: Any) -> None:
    _checks.check_tensor(op, "weight", weight)
    _checks.check_floating(op, "weight", weight)
    if weight.dim() != 2:
        raise _checks.fail(op, "weight", "two dims [H, D]", list(weight.shape))
    _checks.check_tensor(op, "v", v)
    if v.dtype != weight.dtype and v.dtype not in LEVELS:
        expected = f"{weight.dtype}, the dtype of weight, or torch.bool, torch.uint8 or torch.int64"
        raise _checks.fail(op, "v", expected, v.dtype, kind=TypeError)
    if v.device != weight.device:
        raise _checks.fail(op, "v", f"a tensor on {weight.device}, where weight is", v.device)
    hidden, visible = weight.shape
    if v.dim() != 2 or v.shape[1] != visible:
        raise _checks.fail(op, "v", f"the shape [N, {visible}], of weight {list(weight.shape)}", list(v.shape))
    for name, t, size in (("visible_bias", visible_bias, visible), ("hidden_bias", hidden_bias, hidden)):
        _checks.check_tensor(op, name, t)
        _checks.check_like(op, name, t, "weight", weight)
        if t.shape != (size,):
            raise _checks.fail(op, name, f"the shape [{size}], of weight {list(weight.shape)}", list(t.shape))


def check_values(op: str, v: Tensor) -> None:
    if v.dtype in LEVEL_DTYPES:
        check_level_values(op, v, 2, "v")


def _as(t: Tensor, dtype: torch.dtype) -> Tensor:
    return t if t.dtype == dtype else t.to(dtype)


def gradients(
    grad_energy: Tensor,  # [N]
    v: Tensor,  # [N, D]
    weight: Tensor,  # [H, D]
    visible_bias: Tensor,  # [D]
    hidden_bias: Tensor,  # [H]
    units: Tensor,  # [N, H], sigmoid(W v + c) as forward kept it
    needs: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """reference.backward with the hidden units' chances at hand: two matrix products at most."""
    if not weight.numel() or not v.shape[0]:
        return reference.backward(grad_energy, v, weight, visible_bias, hidden_bias, needs)
    dtype = weight.dtype
    wide = compute_dtype(dtype)
    g = _as(grad_energy, wide).neg().unsqueeze(1)
    scaled = g * units  # [N, H]
    on_cpu = masked_linear.has_dense(weight)
    x = targets(v, wide if on_cpu else dtype)
    grads: list[Tensor | None] = [None] * 4
    if needs[0]:
        made = _product(scaled, weight, wide, on_cpu)
        grads[0] = _as(made.add_(g * visible_bias.to(wide)), v.dtype)
    if needs[1]:
        grads[1] = _as(_across(scaled, x, wide, on_cpu), dtype)
    if needs[2]:
        grads[2] = _as(column_sums(x, g), dtype)
    if needs[3]:
        grads[3] = _as(column_sums(scaled), dtype)
    return tuple(grads)


def _product(scaled: Tensor, weight: Tensor, wide: torch.dtype, on_cpu: bool) -> Tensor:
    """scaled weight, [N, D]. On CPUs by the C++ kernel, whose sums do not depend on threads, as those of torch.mm do."""
    if on_cpu:
        return masked_linear.dense_product(
            scaled, weight.to(wide).t(), scaled.new_empty((scaled.shape[0], weight.shape[1]))
        )
    return wide_product(scaled.to(weight.dtype), weight, wide)


def _across(scaled: Tensor, x: Tensor, wide: torch.dtype, on_cpu: bool) -> Tensor:
    """scaled^T x, [.., D]"""
    if on_cpu:
        return masked_linear.dense_grad_weight(scaled, x, scaled.new_empty((scaled.shape[1], x.shape[1])))
    return wide_product(scaled.to(x.dtype).t(), x, wide)
