"""masked_linear: a linear layer whose connections obey degrees, as MADE needs; what is dead is skipped, no mask is stored.

Three ops, each bilinear, whose gradients are each other: forward (with bias), gradient of the input, gradient of the weight
(with that of the bias). So every order of derivative runs on the kernels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen.ops import _library
from pygen.reference import masked_linear as reference

_OP = "masked_linear"


def masked_linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    in_degrees: Sequence[int],
    out_degrees: Sequence[int],
    strict: bool,
    backend: str | None = None,
) -> Tensor:
    """Linear over the live connections: input i feeds output o where out_degrees[o] > in_degrees[i] (strict) or >=.

    A dead weight may hold NaN: it reaches neither output nor gradient, and its own gradient is exactly 0. Nor does a NaN in
    an input reach outputs that it does not feed. Differentiable to any order (first order under torch.compile). Under
    autocast casts as F.linear. Germain et al. 2015, "MADE: Masked Autoencoder for Distribution Estimation".

    Args:
        input: [..., in], float64, float32, bfloat16 or float16; computed in float32 (float64).
        weight: [out, in]; never written.
        bias: [out].
        in_degrees: one int for each input.
        out_degrees: one int for each output.
        strict: True for MADE's output layer, False for its hidden layers.
        backend: "reference", "composite" (a dense product with the dead weights replaced by 0), "cpu"; None chooses.

    Returns:
        [..., out], contiguous, input's dtype.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.
    """
    if _checks.autocast_enabled():
        input, weight, bias = _checks.cast_under_autocast(input, weight, bias)
    _check(input, weight, bias, in_degrees, out_degrees, strict)
    name = _dispatch.requested(_OP, backend)
    options = (tuple(in_degrees), tuple(out_degrees), strict, name)
    if _dispatch.is_plain(input, weight, bias):
        return _forward(_dispatch.launcher(_OP, _OP, name, input), input, weight, bias, options)
    if _dispatch.under_transform(_OP, name, input.device.type):
        return reference.forward(input, weight, bias, *options[:-1])
    return _forward(None, input, weight, bias, options)


def _all_int(degrees: Sequence[Any]) -> bool:
    if torch.compiler.is_compiling():
        return all(type(d) is int for d in degrees)
    return {*map(type, degrees)} <= {int}  # ten times as fast


def _check(input: Any, weight: Any, bias: Any, in_degrees: Any, out_degrees: Any, strict: Any) -> None:
    _checks.check_tensor(_OP, "input", input)
    _checks.check_floating(_OP, "input", input)
    if input.dim() < 1:
        raise _checks.fail(_OP, "input", "at least one dim [..., in]", list(input.shape))
    _checks.check_tensor(_OP, "weight", weight)
    _checks.check_like(_OP, "weight", weight, "input", input)
    if weight.dim() != 2 or weight.shape[1] != input.shape[-1]:
        raise _checks.fail(_OP, "weight", f"the shape [out, {input.shape[-1]}]", list(weight.shape))
    if bias is not None:
        _checks.check_tensor(_OP, "bias", bias)
        _checks.check_like(_OP, "bias", bias, "input", input)
        if bias.shape != weight.shape[:1]:
            raise _checks.fail(_OP, "bias", f"the shape [{weight.shape[0]}] of the outputs", list(bias.shape))
    for name, degrees, size in (
        ("in_degrees", in_degrees, weight.shape[1]),
        ("out_degrees", out_degrees, weight.shape[0]),
    ):
        if not isinstance(degrees, (tuple, list)) or not _all_int(degrees):
            raise _checks.fail(_OP, name, "a tuple of int", type(degrees).__name__, kind=TypeError)
        if len(degrees) != size:
            raise _checks.fail(_OP, name, f"{size} degrees, as weight {list(weight.shape)} has", len(degrees))
    if not isinstance(strict, bool):
        raise _checks.fail(_OP, "strict", "a bool", type(strict).__name__, kind=TypeError)


# With a launcher: the fast door. Without: the op, as under torch.compile.
def _forward(launcher, input, weight, bias, options):
    if _dispatch.transformed(input, weight):
        return reference.forward(input, weight, bias, *options[:-1])
    if launcher is None:
        return torch.ops.pygen.masked_linear(input, weight, bias, *options)
    if torch.is_grad_enabled() and (
        input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        return _MaskedLinear.apply(launcher, input, weight, bias, options)
    return launcher.forward(input, weight, bias, *options[:-1])


def _grad_input(launcher, grad, weight, options):
    if _dispatch.transformed(grad, weight):
        return reference.grad_input(grad, weight, *options[:-1])
    if launcher is None:
        return torch.ops.pygen.masked_linear_grad_input(grad, weight, *options)
    if torch.is_grad_enabled() and (grad.requires_grad or weight.requires_grad):
        return _MaskedLinearGradInput.apply(launcher, grad, weight, options)
    return launcher.grad_input(grad, weight, *options[:-1])


def _grad_weight(launcher, grad, input, need_bias, options):
    *mask, name = options
    if _dispatch.transformed(grad, input):
        return reference.grad_weight(grad, input, *mask, need_bias)
    if launcher is None:
        grads = torch.ops.pygen.masked_linear_grad_weight(grad, input, *mask, need_bias, name)
    elif torch.is_grad_enabled() and (grad.requires_grad or input.requires_grad):
        grads = _MaskedLinearGradWeight.apply(launcher, grad, input, need_bias, options)
    else:
        grads = launcher.grad_weight(grad, input, *mask, need_bias)
    return grads[0], grads[1] if need_bias else None


class _MaskedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, launcher, input, weight, bias, options):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(input, weight)
        ctx.launcher, ctx.options = launcher, options
        if launcher is None:
            return _below(input, weight, bias, *options)
        return launcher.forward(input, weight, bias, *options[:-1])

    @staticmethod
    def backward(ctx, grad):
        if grad is None:
            return (None,) * 5
        input, weight = ctx.saved_tensors
        grad = _dispatch.readable(grad)
        _, need_input, need_weight, need_bias, _ = ctx.needs_input_grad
        grad_input = _grad_input(ctx.launcher, grad, weight, ctx.options) if need_input else None
        grad_weight = grad_bias = None
        if need_weight or need_bias:  # also alone, so that its sum is the same either way
            grad_weight, grad_bias = _grad_weight(ctx.launcher, grad, input, need_bias, ctx.options)
        return None, grad_input, grad_weight if need_weight else None, grad_bias, None


class _MaskedLinearGradInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx, launcher, grad, weight, options):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad, weight)
        ctx.launcher, ctx.options = launcher, options
        if launcher is None:
            return _below_grad_input(grad, weight, *options)
        return launcher.grad_input(grad, weight, *options[:-1])

    @staticmethod
    def backward(ctx, upstream):  # [..., in]
        if upstream is None:
            return (None,) * 4
        grad, weight = ctx.saved_tensors
        upstream = _dispatch.readable(upstream)
        _, need_grad, need_weight, _ = ctx.needs_input_grad
        to_grad = _forward(ctx.launcher, upstream, weight, None, ctx.options) if need_grad else None
        to_weight = _grad_weight(ctx.launcher, grad, upstream, False, ctx.options)[0] if need_weight else None
        return None, to_grad, to_weight, None


class _MaskedLinearGradWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, launcher, grad, input, need_bias, options):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad, input)
        ctx.launcher, ctx.options = launcher, options
        *mask, name = options
        if launcher is None:
            return tuple(_below_grad_weight(grad, input, *mask, need_bias, name))
        grads = launcher.grad_weight(grad, input, *mask, need_bias)
        return grads if need_bias else grads[:1]

    @staticmethod
    def backward(ctx, to_weight, to_bias=None):  # [out, in], [out]
        grad, input = ctx.saved_tensors
        to_weight, to_bias = _dispatch.readable(to_weight), _dispatch.readable(to_bias)
        _, need_grad, need_input, *_ = ctx.needs_input_grad
        to_grad = to_input = None
        if need_grad and to_weight is not None:
            to_grad = _forward(ctx.launcher, input, to_weight, to_bias, ctx.options)
        elif need_grad and to_bias is not None:
            to_grad = to_bias.expand(grad.shape)
        if need_input and to_weight is not None:
            to_input = _grad_input(ctx.launcher, grad, to_weight, ctx.options)
        return None, to_grad, to_input, None, None


def _launch(input, weight, bias, *options):
    return _dispatch.launcher(_OP, _OP, options[-1], input).forward(input, weight, bias, *options[:-1])


def _launch_grad_input(grad, weight, *options):
    return _dispatch.launcher(_OP, _OP, options[-1], grad).grad_input(grad, weight, *options[:-1])


def _launch_grad_weight(grad, input, *options):
    grads = _dispatch.launcher(_OP, _OP, options[-1], grad).grad_weight(grad, input, *options[:-1])
    return [g for g in grads if g is not None]


def _fake(input, weight, bias, *options):
    return input.new_empty((*input.shape[:-1], weight.shape[0]))


def _fake_grad_input(grad, weight, *options):
    return grad.new_empty((*grad.shape[:-1], weight.shape[1]))


def _fake_grad_weight(grad, input, in_degrees, out_degrees, strict, need_bias, backend):
    weight = grad.new_empty((grad.shape[-1], input.shape[-1]))
    return [weight, grad.new_empty(grad.shape[-1])] if need_bias else [weight]


_MASK = "int[] in_degrees, int[] out_degrees, bool strict"

_below = _library.register(
    f"masked_linear(Tensor input, Tensor weight, Tensor? bias, {_MASK}, str backend) -> Tensor",
    _launch,
    _fake,
    lambda input, weight, bias, *options: _MaskedLinear.apply(None, input, weight, bias, options),
)
_below_grad_input = _library.register(
    f"masked_linear_grad_input(Tensor grad, Tensor weight, {_MASK}, str backend) -> Tensor",
    _launch_grad_input,
    _fake_grad_input,
    lambda grad, weight, *options: _MaskedLinearGradInput.apply(None, grad, weight, options),
)
_below_grad_weight = _library.register(
    f"masked_linear_grad_weight(Tensor grad, Tensor input, {_MASK}, bool need_bias, str backend) -> Tensor[]",
    _launch_grad_weight,
    _fake_grad_weight,
    lambda grad, input, *options: list(
        _MaskedLinearGradWeight.apply(None, grad, input, options[-2], (*options[:-2], options[-1]))
    ),
)
