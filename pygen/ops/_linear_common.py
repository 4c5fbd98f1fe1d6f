"""masked_linear as nearly every network calls it: a short way through Python, as small layers are all overhead.

Plain tensors, an input [N, in], the same tuples of degrees call by call, the C++ kernel. All else takes the long way, which
also says what is wrong.
"""

from typing import Any

import torch
from torch import Tensor

from pygen import _backends, _checks, _dispatch
from pygen.native import masked_linear as native
from pygen.ops import _library
from pygen.ops._saved import check_kinds, kinds

# By the identity of the degrees, which a plan keeps: hashing a thousand of them takes longer than a small layer. A tuple of
# int cannot change.
_plans: dict[tuple[int, int, bool], native.PlainPlan] = {}
_MOST_PLANS = 256


def _plan(in_degrees: Any, out_degrees: Any, strict: bool) -> native.PlainPlan | None:
    if _backends.why_not("cpu") is not None:
        return None
    for degrees in (in_degrees, out_degrees):
        if degrees.__class__ is not tuple or not {*map(type, degrees)} <= {int}:
            return None
    try:
        plan = native.plain_plan(in_degrees, out_degrees, strict)
    except RuntimeError:  # a degree beyond 64 bits
        return None
    if len(_plans) >= _MOST_PLANS:
        _plans.clear()
    _plans[id(in_degrees), id(out_degrees), strict] = plan
    return plan


def product(
    op: Any,  # what knows the long way's gradients
    input: Any,
    weight: Any,
    bias: Any,
    in_degrees: Any,
    out_degrees: Any,
    strict: Any,
    backend: Any,
) -> Tensor | None:
    """The output; None where the call needs the long way."""
    if (
        torch.compiler.is_compiling()
        or strict.__class__ is not bool
        or (backend is not None and (backend.__class__ is not str or backend != "cpu"))
        or _checks.autocast_enabled()
    ):
        return None
    if not _dispatch.nothing_intercepts():  # first: a plan is kept, and its tensors must not be a transform's
        return None
    plan = _plans.get((id(in_degrees), id(out_degrees), strict)) or _plan(in_degrees, out_degrees, strict)
    if (
        plan is None
        or (rows := plan.rows(plan.compiled, input, weight, bias)) is None
        or (backend is None and _dispatch.resolve(op.name, _dispatch.AUTO, "cpu") != "cpu")
    ):
        return None
    if torch.is_grad_enabled() and (
        input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        return _apply(op, plan, rows, input, weight, bias)
    return native.forward_plain(plan, rows, input, weight, bias)


class _CommonMaskedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, op, plan, rows, input, weight, bias):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(input, weight)
        ctx.call = op, plan, kinds(input, weight)  # one attribute: each costs half a microsecond
        return native.forward_plain(plan, rows, input, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        if grad is None:
            return (None,) * 6
        op, plan, expected = ctx.call
        input, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad[3:]
        if not torch.is_grad_enabled() and not _dispatch.is_batched(grad) and _dispatch.nothing_intercepts():
            grads = native.gradients_plain(plan, grad, input, weight, needs)
            if grads is not None:
                return None, None, None, *grads
        check_kinds((input, weight), expected)  # gradients_plain saw to it
        return None, None, None, *op.gradients(native, grad, input, weight, plan.options, needs)


_apply = _library.fast_apply(_CommonMaskedLinear)
