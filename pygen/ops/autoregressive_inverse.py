"""autoregressive_inverse: x of y = x e^f + t, where a network makes t and f of a number from the numbers before it; or of y that
is a spline of x, where it makes the spline's numbers.

Its gradient solves with the transposed network, turns the other way round: as exact and about as fast as the inverse itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from pygen import _dispatch
from pygen.ops import _library
from pygen.ops._autoregressive_inverse import OP, Degrees, How, by_network, halved, launch, recorded, solved
from pygen.ops._autoregressive_rules import Rule, parse


def autoregressive_inverse(
    y: Tensor,  # [n, D]
    weights: Sequence[Tensor],  # [out, in] each, y's dtype; the last one's rows as the rule takes what they make
    biases: Sequence[Tensor],  # [out]; the first one [out] or [n, out]
    degrees: Sequence[Degrees],  # the inputs' turns; of hidden units -1 .. D - 2, those of -1 first; of the outputs
    activation: str,
    rule: Rule,
    backend: str | None,
) -> tuple[Tensor, Tensor]:
    """x [n, D] and log_det [n], float32 (float64). Differentiable to any order; arguments are checked by the layer."""
    name = _dispatch.requested(OP, backend)
    tensors = (y, *weights, *biases)
    if _dispatch.under_transform(OP, name, y.device.type):
        return by_network(tensors, (tuple(degrees), activation, rule, name))
    if _dispatch.is_plain(*tensors):
        how = (tuple(degrees), activation, rule, _dispatch.resolve(OP, name, y.device.type))
        return _Inverse.apply(launch, how, *tensors)
    how = (tuple(degrees), activation, rule, name)
    return torch.ops.pygen.autoregressive_inverse(y, list(weights), list(biases), *_flat(how))


class _Inverse(torch.autograd.Function):
    """Runs launch, or the op below autograd."""

    @staticmethod
    def forward(ctx: Any, run: Callable, how: tuple, y: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        x, log_det = run(y, *halved(tensors), how)
        ctx.how, ctx.plain = how, run is launch
        ctx.save_for_backward(x, y, *tensors)
        return x, log_det

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_log_det: Tensor | None) -> tuple[Tensor | None, ...]:
        x, y, *tensors = ctx.saved_tensors
        needs = list(ctx.needs_input_grad[2:])
        if grad is None and grad_log_det is None:
            return (None,) * (2 + len(needs))
        grads = (_dispatch.readable(grad), _dispatch.readable(grad_log_det))
        if not ctx.plain:
            weights, biases = map(list, halved(tensors))
            *options, backend = _flat(ctx.how)
            given = (x, y, weights, biases, *options, needs, backend)
            found = torch.ops.pygen.autoregressive_inverse_backward(*grads, *given)
        elif torch.is_grad_enabled() or _dispatch.transformed(*grads):
            found = recorded(grads, (y, *tensors), needs, ctx.how)
        else:
            found = solved(grads, x, y, tensors, needs, ctx.how)
        each = iter(found)
        return None, None, *(next(each) if need else None for need in needs)


def _flat(how: How) -> tuple[Any, ...]:
    """As the schemas take it: the layers' degrees as one list, the rule by its name and numbers."""
    degrees, activation, rule, backend = how
    return [degree for of_units in degrees for degree in of_units], activation, *rule.options(), backend


def _how(
    weights: Sequence[Tensor], flat: Sequence[int], activation: str, rule: str, numbers: Sequence[float], backend: str
) -> How:
    sizes = [weights[0].shape[1], *(len(weight) for weight in weights)]
    ends = list(accumulate(sizes))
    degrees = tuple(tuple(flat[end - size : end]) for end, size in zip(ends, sizes, strict=True))
    return degrees, activation, parse(rule, numbers), backend


OPTIONS = "int[] degrees, str activation, str rule, float[] numbers"

_below = _library.register(
    f"autoregressive_inverse(Tensor y, Tensor[] weights, Tensor[] biases, {OPTIONS}, str backend) -> (Tensor, Tensor)",
    lambda y, weights, biases, *how: launch(y, weights, biases, _how(weights, *how)),
    lambda y, *rest: (
        y.new_empty(y.shape),
        y.new_empty(y.shape[:1], dtype=torch.promote_types(y.dtype, torch.float32)),
    ),
    lambda y, weights, biases, *how: _Inverse.apply(_run_below, _how(weights, *how), y, *weights, *biases),
)


def _run_below(y: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], how: How) -> Any:
    return _below(y, list(weights), list(biases), *_flat(how))


def _launch_backward(
    grad: Tensor | None,
    grad_log_det: Tensor | None,
    x: Tensor,
    y: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    flat: Sequence[int],
    activation: str,
    rule: str,
    numbers: Sequence[float],
    needs: Sequence[bool],
    backend: str,
) -> list[Tensor]:
    how = _how(weights, flat, activation, rule, numbers, _dispatch.resolve(OP, backend, y.device.type))
    return solved((grad, grad_log_det), x, y, [*weights, *biases], needs, how)


def _fake_backward(
    grad: Any, grad_log_det: Any, x: Any, y: Any, weights: Any, biases: Any, flat: Any, activation: Any, rule: Any,
    numbers: Any, needs: Any, backend: Any,
) -> list[Tensor]:  # fmt: skip
    return [t.new_empty(t.shape) for t, need in zip((y, *weights, *biases), needs, strict=True) if need]


def _record_backward(
    grad: Any, grad_log_det: Any, x: Any, y: Any, weights: Any, biases: Any, flat: Any, activation: Any, rule: Any,
    numbers: Any, needs: Any, backend: Any,
) -> list[Tensor]:  # fmt: skip
    """Under autograd: the second order where one is asked for, else the kernel."""
    tensors = [t for t in (grad, grad_log_det, y, *weights, *biases) if t is not None]
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        how = _how(weights, flat, activation, rule, numbers, backend)
        return recorded((grad, grad_log_det), (y, *weights, *biases), needs, how)
    given = (flat, activation, rule, numbers, needs, backend)
    return _below_backward(grad, grad_log_det, x, y, weights, biases, *given)


_below_backward = _library.register(
    "autoregressive_inverse_backward(Tensor? grad, Tensor? grad_log_det, Tensor x, Tensor y, Tensor[] weights, "
    f"Tensor[] biases, {OPTIONS}, bool[] needs, str backend) -> Tensor[]",
    _launch_backward,
    _fake_backward,
    _record_backward,
)
