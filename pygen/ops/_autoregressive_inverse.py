"""What autoregressive_inverse computes: the call of its kernel, its gradients, and both by a pass for each number."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen.functional import affine_coupling, masked_linear
from pygen.ops._halves import halves
from pygen.reference import autoregressive_inverse as reference
from pygen.reference.autoregressive_inverse import DenseNetwork

OP = "autoregressive_inverse"

Degrees = tuple[int, ...]


def by_passes(
    y: Tensor,  # [n, D]
    order: Degrees,
    parameters: Callable[[Tensor], tuple[Tensor, Tensor | None]],  # of x [n, D]: shift and log_scale, or None
    scale: str,
    bound: float | None,
    backend: str | None,
) -> tuple[Tensor, Tensor]:
    """The same by a pass of any network for each number: what derivatives of any order, and transforms, go through."""
    found: list[Tensor] = [torch.zeros_like(y[:, 0])] * len(order)
    log_dets = []
    for at in sorted(range(len(order)), key=order.__getitem__):
        shift, log_scale = parameters(torch.stack(found, 1))
        one = slice(at, at + 1)
        value, log_det = affine_coupling(
            y[:, one],
            shift[:, one],
            None if log_scale is None else log_scale[:, one],
            mask=None,
            scale=scale,
            bound=bound,
            inverse=True,
            backend=backend,
        )
        found[at] = value[:, 0]
        log_dets.append(log_det)
    return torch.stack(found, 1), torch.stack(log_dets).sum(0)


def by_network(tensors: Sequence[Tensor], how: tuple) -> tuple[Tensor, Tensor]:
    y, degrees, scale, bound = tensors[0], *how[:3]
    weights, biases = halved(tensors[1:])

    def parameters(x: Tensor) -> tuple[Tensor, Tensor | None]:
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            strict, own = i + 1 == len(weights), bias.dim() == 2
            mask = {"in_degrees": degrees[i], "out_degrees": degrees[i + 1], "strict": strict}
            x = masked_linear(x, weight, None if own else bias, **mask, backend="reference")
            x = x + bias if own else x
            x = x if strict else x.relu()
        return _parameters(x, y.shape[1])

    return by_passes(y, degrees[0], parameters, scale, bound, "reference")


def halved(tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Weights and biases."""
    layers = len(tensors) // 2
    return tensors[:layers], tensors[layers:]


def _parameters(made: Tensor, inputs: int) -> tuple[Tensor, Tensor | None]:
    """shift and log_scale, or None, of the network's outputs."""
    return halves(made) if made.shape[1] == 2 * inputs else (made, None)


def _seen(degrees: Degrees, inputs: int) -> slice:
    """Of a hidden layer's units, whose degrees rise, those that a number reaches (from 0 on) and that reach one."""
    return slice(bisect_left(degrees, 0), bisect_left(degrees, inputs - 1))


def network_of(weights: Sequence[Tensor], biases: Sequence[Tensor], degrees: Sequence[Degrees]) -> DenseNetwork:
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
        constant, before = torch.atleast_2d(bias)[:, : here.start].relu(), here
    numbers = len(weights[-1]) // inputs
    return DenseNetwork(tuple(own_weights), tuple(own_biases), tuple(own_degrees[:-1]), degrees[0], numbers, 1, inputs)


def launch(y: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], how: tuple) -> tuple[Tensor, Tensor]:
    degrees, scale, bound, backend = how
    wide = torch.promote_types(y.dtype, torch.float32)
    with _checks.without_autocast(y):
        given = ([t.detach().to(wide) for t in tensors] for tensors in (weights, biases))
        network = network_of(next(given), next(given), degrees)
        launcher = _dispatch.launcher(OP, OP, backend, y)
        x, log_det = launcher.forward(y.detach().to(wide), network, scale, bound or 1.0)
    return x.to(y.dtype), log_det.to(wide)


def recorded(
    grads: tuple[Tensor | None, ...], tensors: tuple[Tensor, ...], needs: Sequence[bool], how: tuple
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
    how: tuple,
) -> list[Tensor]:
    """By the implicit function theorem: gradients g of x and c of log_det are J^-T (g + c d log_det / dx) of y. Of those of y
    and tensors that need one."""
    degrees, scale, bound, backend = how
    inputs, wide = y.shape[1], torch.promote_types(y.dtype, torch.float32)
    weights, biases = halved([t.detach().to(wide) for t in tensors])
    launcher, products = (_dispatch.launcher(op, op, backend, y) for op in (OP, "masked_linear"))
    with _checks.without_autocast(y):
        values = [x.detach().to(wide)]  # of the inputs, each hidden layer and the outputs
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            strict, own = i + 1 == len(weights), bias.dim() == 2
            out = products.forward(values[-1], weight, None if own else bias, degrees[i], degrees[i + 1], strict)
            out = out + bias if own else out
            values.append(out if strict else out.relu())
        shift, log_scale = _parameters(values.pop(), inputs)
        g = y.new_zeros(y.shape, dtype=wide) if grads[0] is None else grads[0].to(wide)
        of_scale = (None, None, None)
        if log_scale is not None:
            of_scale = reference.factors(y.to(wide), shift, log_scale, grads[1], scale, bound or 1.0)
        hidden = [v[:, _seen(of_units, inputs)] for v, of_units in zip(values[1:], degrees[1:-1], strict=True)]
        v = launcher.solve(g, reference.transposed(network_of(weights, biases, degrees)), *of_scale, hidden[::-1])
        _, slope, offset = of_scale
        passed = -v if slope is None or offset is None else -torch.cat((v, slope * v + offset), 1)
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
                passed = products.grad_input(passed, weights[i], *mask) * (values[i] > 0)
    found = zip((v, *of_weights, *of_biases), (y, *tensors), needs, strict=True)
    return [grad.to(given.dtype) for grad, given, need in found if need and grad is not None]
