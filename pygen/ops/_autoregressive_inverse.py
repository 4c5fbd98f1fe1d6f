"""What autoregressive_inverse computes: the call of its kernel, its gradients, and both by a pass for each number."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen.functional import masked_linear
from pygen.ops._autoregressive_rules import Rule
from pygen.reference import autoregressive_inverse as reference
from pygen.reference.autoregressive_inverse import DenseNetwork

OP = "autoregressive_inverse"

Degrees = tuple[int, ...]
# Degrees of the inputs, hidden layers and outputs; the hidden units' activation; what maps an input; the backend.
How = tuple[tuple[Degrees, ...], str, Rule, str]


def by_passes(
    y: Tensor,  # [n, D]
    order: Degrees,
    make: Callable[[Tensor], Tensor],  # of x [n, D]: what the rule needs of each number, [n, D * P]
    rule: Rule,
    backend: str | None,
) -> tuple[Tensor, Tensor]:
    """The same by a pass of any network for each number: what derivatives of any order, and transforms, go through."""
    found: list[Tensor] = [torch.zeros_like(y[:, 0])] * len(order)
    log_dets = []
    for at in sorted(range(len(order)), key=order.__getitem__):
        made = make(torch.stack(found, 1))
        stride, step = rule.strides(len(order), made.shape[1])
        first, numbers = at * stride, made.shape[1] // len(order)
        own = made[:, first : first + (numbers - 1) * step + 1 : step]
        value, log_det = rule.run(y[:, at : at + 1], own, True, backend)
        found[at] = value[:, 0]
        log_dets.append(log_det)
    return torch.stack(found, 1), torch.stack(log_dets).sum(0)


def by_network(tensors: Sequence[Tensor], how: How) -> tuple[Tensor, Tensor]:
    y, degrees, activation, rule = tensors[0], *how[:3]
    weights, biases = halved(tensors[1:])

    def make(x: Tensor) -> Tensor:
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            strict, own = i + 1 == len(weights), bias.dim() == 2
            mask: dict[str, Any] = {"in_degrees": degrees[i], "out_degrees": degrees[i + 1], "strict": strict}
            x = masked_linear(x, weight, None if own else bias, **mask, backend="reference")
            x = x + bias if own else x
            x = x if strict else reference.ACTIVATIONS[activation](x)
        return x

    return by_passes(y, degrees[0], make, rule, "reference")


def halved(tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Weights and biases."""
    layers = len(tensors) // 2
    return tensors[:layers], tensors[layers:]


def _seen(degrees: Degrees, inputs: int) -> slice:
    """Of a hidden layer's units, whose degrees rise, those that a number reaches (from 0 on) and that reach one."""
    return slice(bisect_left(degrees, 0), bisect_left(degrees, inputs - 1))


def network_of(
    weights: Sequence[Tensor], biases: Sequence[Tensor], degrees: Sequence[Degrees], activation: str, rule: Rule
) -> DenseNetwork:
    """Of those units alone: what units of degree -1 give to the others is in each sample's biases."""
    inputs, before, constant = len(degrees[0]), slice(None), None
    own_weights, own_biases, own_degrees = [], [], [degrees[0]]
    for weight, bias, of_units in zip(weights, biases, degrees[1:], strict=True):
        if constant is not None and constant.shape[1]:
            bias = torch.addmm(bias, constant, weight[:, : before.start].T)
        here = slice(0, len(of_units)) if weight is weights[-1] else _seen(of_units, inputs)
        own_weights.append(weight[here, before])
        own_biases.append(bias[..., here])
        own_degrees.append(of_units[here])
        constant, before = reference.ACTIVATIONS[activation](torch.atleast_2d(bias)[:, : here.start]), here
    outputs = len(weights[-1])
    strides = rule.strides(inputs, outputs)
    own = tuple(own_weights), tuple(own_biases), tuple(own_degrees[:-1])
    return DenseNetwork(*own, degrees[0], outputs // inputs, *strides, activation)


def launch(y: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], how: How) -> tuple[Tensor, Tensor]:
    """x and log_det. Outside autocast."""
    degrees, activation, rule, backend = how
    wide = torch.promote_types(y.dtype, torch.float32)
    own_weights, own_biases = ([t.detach().to(wide) for t in tensors] for tensors in (weights, biases))
    network = network_of(own_weights, own_biases, degrees, activation, rule)
    launcher = _dispatch.launcher(OP, OP, backend, y)
    x, log_det = rule.invert(launcher, y.detach().to(wide), network)
    return x.to(y.dtype), log_det.to(wide)


def recorded(
    grads: tuple[Tensor | None, ...], tensors: tuple[Tensor, ...], needs: Sequence[bool], how: How
) -> list[Tensor]:
    """Gradients that can be differentiated again, of those that need one."""
    with torch.enable_grad(), _checks.without_autocast(tensors[0]):
        outputs = by_network(tensors, how)
        asked = [(output, grad) for output, grad in zip(outputs, grads, strict=True) if grad is not None]
        return list(
            torch.autograd.grad(
                [output for output, _ in asked],
                [t for t, need in zip(tensors, needs, strict=True) if need],
                [grad for _, grad in asked],
                create_graph=True,
                materialize_grads=True,
            )
        )


def solved(
    grads: tuple[Tensor | None, ...],  # of x [n, D] and of log_det [n]
    x: Tensor,  # [n, D]
    y: Tensor,  # [n, D]
    tensors: Sequence[Tensor],  # weights [out, in], then biases [out], the first one [out] or [n, out]
    needs: Sequence[bool],
    how: How,
) -> list[Tensor]:
    """By the implicit function theorem: gradients g of x and c of log_det are J^-T (g + c d log_det / dx) of y. Of those of y
    and tensors that need one."""
    degrees, activation, rule, backend = how
    wide = torch.promote_types(y.dtype, torch.float32)
    weights, biases = halved([t.detach().to(wide) for t in tensors])
    launcher, products = (_dispatch.launcher(op, op, backend, y) for op in (OP, "masked_linear"))
    with _checks.without_autocast(y):
        values = [x.detach().to(wide)]  # of the inputs, each hidden layer and the outputs
        slopes = []  # of each hidden layer
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            strict, own = i + 1 == len(weights), bias.dim() == 2
            out = products.forward(values[-1], weight, None if own else bias, degrees[i], degrees[i + 1], strict)
            out = out + bias if own else out
            values.append(out if strict else reference.ACTIVATIONS[activation](out))
            if not strict:
                slopes.append(reference.slope(activation, out, values[-1]))
        g = y.new_zeros(y.shape, dtype=wide) if grads[0] is None else grads[0].to(wide)
        root, slope, offset, finish = rule.linear(y.detach().to(wide), values.pop(), grads[1], backend)
        hidden = [d[:, _seen(of_units, y.shape[1])] for d, of_units in zip(slopes, degrees[1:-1], strict=True)]
        network = reference.transposed(network_of(weights, biases, degrees, activation, rule))
        of_y, passed = finish(launcher.solve(g, network, root, slope, offset, hidden[::-1]))
        of_weights: list[Tensor | None] = []
        of_biases: list[Tensor | None] = []
        need_weights, need_biases = needs[1 : 1 + len(weights)], needs[1 + len(weights) :]
        for i in reversed(range(len(weights))):
            mask, own = (degrees[i], degrees[i + 1], i + 1 == len(weights)), biases[i].dim() == 2
            one_weight, one_bias = None, passed if own else None
            if need_weights[i] or (need_biases[i] and not own):
                one_weight, of_bias = products.grad_weight(passed, values[i], *mask, need_biases[i] and not own)
                one_bias = passed if own else of_bias
            of_weights.insert(0, one_weight)
            of_biases.insert(0, one_bias)
            if i > 0:
                passed = products.grad_input(passed, weights[i], *mask) * slopes[i - 1]
    found = zip((of_y, *of_weights, *of_biases), (y, *tensors), needs, strict=True)
    return [grad.to(given.dtype) for grad, given, need in found if need and grad is not None]
