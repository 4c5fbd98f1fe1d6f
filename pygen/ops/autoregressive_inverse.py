"""autoregressive_inverse: x of y = x e^f + t, where a network makes t and f of a number from the numbers before it.

Its gradient solves with the transposed network, turns the other way round: as exact and about as fast as the inverse itself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen.functional import affine_coupling, masked_linear
from pygen.ops._halves import halves
from pygen.reference import autoregressive_inverse as reference
from pygen.reference.autoregressive_inverse import DenseNetwork

_OP = "autoregressive_inverse"

Degrees = tuple[int, ...]


def conditioner(
    x: Tensor,  # [n, D]
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],  # the first one [H] or [n, H]
    degrees: Sequence[Degrees],  # of each layer's units, the inputs' first
    backend: str | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """The network's outputs [n, out], and the hidden layers' values [n, units]."""
    hidden: list[Tensor] = []
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        last = i + 1 == len(weights)
        own = bias.dim() == 2
        x = masked_linear(
            x,
            weight,
            None if own else bias,
            in_degrees=degrees[i],
            out_degrees=degrees[i + 1],
            strict=last,
            backend=backend,
        )
        x = x + bias if own else x
        if not last:
            x = x.relu()
            hidden.append(x)
    return x, hidden


@torch.compiler.disable
def autoregressive_inverse(
    y: Tensor,  # [n, D]
    weights: Sequence[Tensor],  # [out, in] each, y's dtype; the last one's rows are D shifts, then D log_scales or none
    biases: Sequence[Tensor],  # [out]; the first one [out] or [n, out]
    degrees: Sequence[
        Degrees
    ],  # of the inputs their turns; of hidden units -1 .. D - 2, those of -1 first; of the outputs
    *,
    scale: str,
    bound: float | None,
    backend: str | None,
) -> tuple[Tensor, Tensor]:
    """x [n, D] and log_det [n], float32 (float64). Differentiable to any order; arguments are checked by the layer."""
    name = _dispatch.requested(_OP, backend)
    tensors = (y, *weights, *biases)
    how = (tuple(degrees), scale, bound, _dispatch.resolve(_OP, name, y.device.type))
    if _dispatch.under_transform(_OP, name, y.device.type):
        return _by_network(tensors, how, len(weights))
    return _Inverse.apply(how, len(weights), *tensors)


def by_passes(
    y: Tensor,
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


def _by_network(tensors: Sequence[Tensor], how: tuple, layers: int) -> tuple[Tensor, Tensor]:
    y, weights, biases = tensors[0], tensors[1 : 1 + layers], tensors[1 + layers :]
    degrees, scale, bound, _ = how

    def parameters(x: Tensor) -> tuple[Tensor, Tensor | None]:
        return _parameters(conditioner(x, weights, biases, degrees, "reference")[0], y.shape[1])

    return by_passes(y, degrees[0], parameters, scale, bound, "reference")


def _parameters(made: Tensor, inputs: int) -> tuple[Tensor, Tensor | None]:
    """shift and log_scale, or None, of the network's outputs."""
    return halves(made) if made.shape[1] == 2 * inputs else (made, None)


def _seen(degrees: Degrees, inputs: int) -> slice:
    """Of a hidden layer's units, whose degrees rise, those that a number reaches (from 0 on) and that reach one."""
    return slice(bisect_left(degrees, 0), bisect_left(degrees, inputs - 1))


def _network(weights: Sequence[Tensor], biases: Sequence[Tensor], degrees: Sequence[Degrees]) -> DenseNetwork:
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


class _Inverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, how: tuple, layers: int, y: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        degrees, scale, bound, backend = how
        wide = torch.promote_types(y.dtype, torch.float32)
        given = [t.detach().to(wide) for t in (y, *tensors)]
        with _checks.without_autocast(y):
            network = _network(given[1 : 1 + layers], given[1 + layers :], degrees)
            x, log_det = _dispatch.launcher(_OP, _OP, backend, y).forward(given[0], network, scale, bound or 1.0)
        x, log_det = x.to(y.dtype), log_det.to(wide)
        ctx.how, ctx.layers = how, layers
        ctx.save_for_backward(x, y, *tensors)
        return x, log_det

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_log_det: Tensor | None) -> tuple[Tensor | None, ...]:
        x, y, *tensors = ctx.saved_tensors
        needs = ctx.needs_input_grad[2:]
        if grad is None and grad_log_det is None:
            return (None,) * (2 + len(needs))
        grads = (_dispatch.readable(grad), _dispatch.readable(grad_log_det))
        with _checks.without_autocast(y):
            if torch.is_grad_enabled() or _dispatch.transformed(*grads):
                found = _recorded(grads, (y, *tensors), needs, ctx.how, ctx.layers)
            else:
                found = _solved(grads, x, y, tensors, needs, ctx.how, ctx.layers)
        return None, None, *found


def _recorded(
    grads: tuple[Tensor | None, ...], tensors: tuple[Tensor, ...], needs: tuple[bool, ...], how: tuple, layers: int
) -> tuple[Tensor | None, ...]:
    """Gradients that can be differentiated again."""
    with torch.enable_grad():
        outputs = _by_network(tensors, how, layers)
        asked = [(output, grad) for output, grad in zip(outputs, grads, strict=True) if grad is not None]
        sources = [t for t, need in zip(tensors, needs, strict=True) if need]
        made = torch.autograd.grad(
            [output for output, _ in asked],
            sources,
            [grad for _, grad in asked],
            create_graph=torch.is_grad_enabled(),
            allow_unused=True,
        )
    found = iter(made)
    return tuple(next(found) if need else None for need in needs)


def _solved(
    grads: tuple[Tensor | None, ...],
    x: Tensor,
    y: Tensor,
    tensors: list[Tensor],
    needs: tuple[bool, ...],
    how: tuple,
    layers: int,
) -> tuple[Tensor | None, ...]:
    """By the implicit function theorem: gradients g of x and c of log_det are J^-T (g + c d log_det / dx) of y."""
    degrees, scale, bound, backend = how
    wide = torch.promote_types(y.dtype, torch.float32)
    leaves = [t.detach().to(wide).requires_grad_(need) for t, need in zip(tensors, needs[1:], strict=True)]
    weights, biases = leaves[:layers], leaves[layers:]
    with torch.enable_grad():
        made, hidden = conditioner(x.to(wide), weights, biases, degrees, backend)
    shift, log_scale = (
        (None if t is None else t.detach() for t in made.detach().split(y.shape[1], 1))
        if (made.shape[1] == 2 * y.shape[1])
        else (made.detach(), None)
    )
    assert shift is not None
    g = y.new_zeros(y.shape, dtype=wide) if grads[0] is None else grads[0].to(wide)
    of_scale = (None, None, None)
    if log_scale is not None:
        of_scale = reference.factors(y.to(wide), shift, log_scale, grads[1], scale, bound or 1.0)
    plain = [t.detach() for t in leaves]
    network = reference.transposed(_network(plain[:layers], plain[layers:], degrees))
    seeing = [
        values.detach()[:, _seen(of_units, y.shape[1])] for values, of_units in zip(hidden, degrees[1:-1], strict=True)
    ]
    solved = _dispatch.launcher(_OP, _OP, backend, y).solve(g, network, *of_scale, seeing[::-1])
    found: list[Tensor | None] = [solved.to(y.dtype) if needs[0] else None, *(None for _ in leaves)]
    sources = [leaf for leaf in leaves if leaf.requires_grad]
    if sources:
        _, slope, offset = of_scale
        of_made = solved if slope is None or offset is None else torch.cat((solved, slope * solved + offset), 1)
        of_sources = iter(torch.autograd.grad(made, sources, -of_made))
        for i, (leaf, given) in enumerate(zip(leaves, tensors, strict=True)):
            if leaf.requires_grad:
                found[i + 1] = next(of_sources).to(given.dtype)
    return tuple(found)
