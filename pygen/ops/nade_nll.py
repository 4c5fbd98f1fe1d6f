"""nade_nll: the likelihood of binary data by NADE: the logits of its conditionals, and bernoulli_nll of these."""

from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen.ops import _library
from pygen.ops._likelihood import LEVEL_DTYPES, check_level_values
from pygen.ops._saved import save, saved
from pygen.ops._second_order import composite_gradients
from pygen.ops.bernoulli_nll import bernoulli_nll
from pygen.reference import bernoulli_nll as bernoulli
from pygen.reference import nade_nll as reference

_OP = "nade_nll"


def nade_nll(
    input: Tensor,
    weight: Tensor,
    hidden_bias: Tensor,
    output_weight: Tensor,
    output_bias: Tensor,
    *,
    reduction: str = "batchmean",
    backend: str | None = None,
) -> Tensor:
    """The negative log-likelihood, in nats, of binary data under a neural autoregressive distribution estimator (NADE).

    a_0 = hidden_bias; for each input d: h = sigmoid(a_d), logit_d = output_bias_d + output_weight_d . h, of which the
    loss is softplus(logit_d) - x_d logit_d, and a_{d+1} = a_d + x_d weight_d. Larochelle and Murray 2011, "The Neural
    Autoregressive Distribution Estimator", section 3. Its b and c are the biases here, its V is output_weight, and its
    W, which has a column for each input, is the transpose of weight.

    Differentiable to any order in the parameters and in a floating input (first order under torch.compile); torch.func
    transforms run the reference composition. One pass, O(N D H), which stores nothing of that size: backward keeps the
    logits [N, D], and runs from the last input to the first.

    Args:
        input: [N, D]. torch.bool, torch.uint8 or torch.int64 levels {0, 1}: another level raises on a CPU; on a GPU, where a
            check would have to synchronise, it makes the loss NaN. Or floating, of weight's dtype, in [0, 1], which is not
            checked: between the ends the formula goes on, and the result is no likelihood. Where it is 0, weight_d may hold
            NaN.
        weight: [D, H], float64, float32, bfloat16 or float16; computed in float32 (float64).
        hidden_bias: [H].
        output_weight: [D, H].
        output_bias: [D].
        reduction: "none" gives [N], summed over the inputs; "sum" the total; "batchmean" the total over N.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        float32 (float64 for float64), [N] or 0-dim. Bits a dimension: over D, and over log 2.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> x = torch.randint(2, (4, 10), dtype=torch.uint8)  # N = 4, D = 10
        >>> weight, output_weight = torch.randn(10, 16), torch.randn(10, 16)  # H = 16
        >>> pygen.functional.nade_nll(x, weight, torch.zeros(16), output_weight, torch.zeros(10)).shape
        torch.Size([])
    """
    tensors = (input, weight, hidden_bias, output_weight, output_bias)
    if _checks.autocast_enabled():
        tensors = _promoted(tensors)
    _check(*tensors)
    _checks.check_reduction(_OP, reduction)
    logits = _logits(_dispatch.requested(_OP, backend), *tensors)
    input = tensors[0]
    x = input if input.dtype in bernoulli.LEVELS else input.to(logits.dtype)
    return bernoulli_nll(logits, x, reduction=reduction, backend=backend)


def _promoted(tensors: tuple) -> tuple:
    """Of a floating input and the parameters; levels stay."""
    levels = isinstance(tensors[0], Tensor) and not tensors[0].is_floating_point()
    return (
        (tensors[0], *_checks.promote_under_autocast(*tensors[1:]))
        if levels
        else _checks.promote_under_autocast(*tensors)
    )


def _check(input: Any, weight: Any, hidden_bias: Any, output_weight: Any, output_bias: Any) -> None:
    _checks.check_tensor(_OP, "weight", weight)
    _checks.check_floating(_OP, "weight", weight)
    if weight.dim() != 2:
        raise _checks.fail(_OP, "weight", "two dims [D, H]", list(weight.shape))
    _checks.check_tensor(_OP, "input", input)
    if input.dtype != weight.dtype and input.dtype not in bernoulli.LEVELS:
        expected = f"{weight.dtype}, the dtype of weight, or torch.bool, torch.uint8 or torch.int64"
        raise _checks.fail(_OP, "input", expected, input.dtype, kind=TypeError)
    if input.device != weight.device:
        raise _checks.fail(_OP, "input", f"a tensor on {weight.device}, where weight is", input.device)
    inputs, hidden = weight.shape
    if input.dim() != 2 or input.shape[1] != inputs:
        raise _checks.fail(_OP, "input", f"the shape [N, {inputs}], of weight {list(weight.shape)}", list(input.shape))
    for name, t, shape in (
        ("hidden_bias", hidden_bias, (hidden,)),
        ("output_weight", output_weight, (inputs, hidden)),
        ("output_bias", output_bias, (inputs,)),
    ):
        _checks.check_tensor(_OP, name, t)
        _checks.check_like(_OP, name, t, "weight", weight)
        if t.shape != shape:
            raise _checks.fail(_OP, name, f"the shape {list(shape)}, of weight {list(weight.shape)}", list(t.shape))


def _check_values(input: Tensor) -> None:
    if input.dtype in LEVEL_DTYPES:
        check_level_values(_OP, input, 2, "input")


def logits_of(
    input: Tensor,  # [N, D]
    weight: Tensor,  # [D, H]
    hidden_bias: Tensor,  # [H]
    output_weight: Tensor,  # [D, H]
    output_bias: Tensor,  # [D]
) -> Tensor:
    """The logits [N, D] of nade_nll's conditionals, float32 (float64): of each input given those before it."""
    return _logits(_dispatch.requested(_OP, None), input, weight, hidden_bias, output_weight, output_bias)


def _logits(name: str, *tensors: Tensor) -> Tensor:
    """[N, D]; name: of the backend."""
    if not _dispatch.is_plain(*tensors):
        if _dispatch.under_transform(_OP, name, tensors[1].device.type):
            return reference.forward(*tensors)
        return torch.ops.pygen.nade_nll_logits(*tensors, name)
    name = _dispatch.resolve(_OP, name, tensors[1].device.type)
    launcher = _dispatch.launcher(_OP, _OP, name, tensors[1])
    _check_values(tensors[0])
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return _fast_apply(launcher, *tensors, name)
    return launcher.forward(*tensors)


def _launch(input, weight, hidden_bias, output_weight, output_bias, backend):
    launcher = _dispatch.launcher(_OP, _OP, backend, weight)
    _check_values(input)
    return launcher.forward(input, weight, hidden_bias, output_weight, output_bias)


def _launch_backward(grad_logits, input, weight, hidden_bias, output_weight, needs, backend):
    launcher = _dispatch.launcher(_OP, _OP, backend, weight)
    grads = launcher.backward(grad_logits, input, weight, hidden_bias, output_weight, needs)
    return [g for g in grads if g is not None]


def _fake(input, weight, hidden_bias, output_weight, output_bias, backend):
    return weight.new_empty(input.shape, dtype=torch.promote_types(weight.dtype, torch.float32))


def _fake_backward(grad_logits, input, weight, hidden_bias, output_weight, needs, backend):
    shapes = (input.shape, weight.shape, hidden_bias.shape, output_weight.shape, weight.shape[:1])
    return [weight.new_empty(shape) for shape, n in zip(shapes, needs, strict=True) if n]


class _Logits(torch.autograd.Function):
    """With a launcher: the fast door. Without: the op below autograd."""

    @staticmethod
    def forward(ctx, launcher, input, weight, hidden_bias, output_weight, output_bias, backend):
        ctx.set_materialize_grads(False)
        save(ctx, input, weight, hidden_bias, output_weight)
        ctx.launcher, ctx.backend = launcher, backend
        if launcher is None:
            return _below(input, weight, hidden_bias, output_weight, output_bias, backend)
        return launcher.forward(input, weight, hidden_bias, output_weight, output_bias)

    @staticmethod
    def backward(ctx, grad_logits):
        if grad_logits is None:
            return (None,) * 7
        needs = ctx.needs_input_grad[1:6]
        return None, *_gradients(ctx.launcher, grad_logits, saved(ctx), needs, ctx.backend), None


def _gradients(launcher, grad_logits, given, needs, backend) -> tuple[Tensor | None, ...]:
    """Of the five tensors; recorded where a graph of the backward is asked for."""
    args = (_dispatch.readable(grad_logits), *given, needs)
    if _dispatch.transformed(grad_logits):
        return reference.backward(*args)
    if launcher is not None and not torch.is_grad_enabled():
        return launcher.backward(*args)
    if launcher is None:
        grads = iter(torch.ops.pygen.nade_nll_logits_backward(*args, backend))
    else:
        grads = iter(_LogitsBackward.apply(_launch_backward, *args, backend))
    return tuple(next(grads) if n else None for n in needs)


class _LogitsBackward(torch.autograd.Function):
    """The kernel forward, the composite of its formula backward."""

    @staticmethod
    def forward(ctx, call, grad_logits, input, weight, hidden_bias, output_weight, needs, backend):
        ctx.set_materialize_grads(False)
        save(ctx, grad_logits, input, weight, hidden_bias, output_weight)
        ctx.needs = needs
        return tuple(call(grad_logits, input, weight, hidden_bias, output_weight, needs, backend))

    @staticmethod
    def backward(ctx, *grad_grads):
        def formula(*tensors):
            return reference.backward(*tensors, ctx.needs)

        grads = composite_gradients(formula, saved(ctx), ctx.needs_input_grad[1:6], grad_grads)
        return None, *grads, None, None


_fast_apply = _library.fast_apply(_Logits)

_TENSORS = "Tensor input, Tensor weight, Tensor hidden_bias, Tensor output_weight"

_below = _library.register(
    f"nade_nll_logits({_TENSORS}, Tensor output_bias, str backend) -> Tensor",
    _launch,
    _fake,
    lambda *args: _Logits.apply(None, *args),
)
_below_backward = _library.register(
    f"nade_nll_logits_backward(Tensor grad_logits, {_TENSORS}, bool[] needs, str backend) -> Tensor[]",
    _launch_backward,
    _fake_backward,
    lambda *args: list(_LogitsBackward.apply(_below_backward, *args)),
)
