"""The inverse of MaskedAutoregressive and of its spline, which MAF samples by, against a pass of the network for each number."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import harness
import pytest
import torch
import torch.nn.functional as F
from harness import DEVICE, Measurement, Work
from torch import Tensor, nn

import pygen
from pygen.nn import MaskedAutoregressive, MaskedAutoregressiveSpline
from pygen.reference.models.nsf import spline

OP = "masked_autoregressive"
# (D, hidden, N, bins or 0): the smallest and the largest table of the paper with a draw for each of many conditions, shifted and
# scaled or through splines, and 28x28 images.
Case = tuple[int, tuple[int, ...], int, int]
CASES: list[Case] = [
    (6, (64, 64), 1000, 0),
    (63, (512, 512), 100, 0),
    (6, (64, 64), 1000, 8),
    (63, (512, 512), 100, 8),
    (784, (1024, 1024), 16, 0),
]
LEARNT = 4  # cases of which gradients are taken too: they go through every pass
BOUND = 5.0

Inverse = Callable[[Tensor], tuple[Tensor, Tensor]]
Layer = MaskedAutoregressive | MaskedAutoregressiveSpline


def _layer(inputs: int, hidden: tuple[int, ...], bins: int) -> Layer:
    """Of weights that neither fade nor grow, so that no provider's rounding is magnified."""
    if bins:
        layer: Layer = MaskedAutoregressiveSpline(inputs, hidden, num_bins=bins, bound=BOUND)
    else:
        layer = MaskedAutoregressive(inputs, hidden, scale="tanh", bound=BOUND)
    layer.to(DEVICE)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in layer.parameters():
            size = 0.3 / p.shape[-1] ** 0.5 if p.dim() > 1 else 0.1
            p.copy_(torch.randn(p.shape, generator=generator) * size)
    return layer


def _pass(x: Tensor, y: Tensor, weights: list[Tensor], biases: list[Tensor]) -> tuple[Tensor, Tensor]:
    """One step nearer to the inverse: one number more is right."""
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = F.linear(x.relu() if i else x, weight, bias)
    if x.shape[1] > 2 * y.shape[1]:
        beta = math.log(2) / (1 - 1e-3)
        x, log = spline(y, x.unflatten(1, (y.shape[1], -1)), True, low=-BOUND, high=BOUND, beta=beta, masked=False)
        return x, log.sum(1)
    shift, s = x.chunk(2, 1)
    f = BOUND * torch.tanh(s / BOUND)
    return (y - shift) * torch.exp(-f), -f.sum(1)


def _masked_pass(
    x: Tensor, y: Tensor, weights: list[Tensor], biases: list[Tensor], masks: list[Tensor]
) -> tuple[Tensor, Tensor]:
    return _pass(x, y, [w * mask for w, mask in zip(weights, masks, strict=True)], biases)


def _providers(layer: Layer) -> dict[str, Inverse]:
    layers = list(layer.layers)
    masks = [of.live_mask().to(DEVICE, of.weight.dtype) for of in layers]
    weights, biases = [of.weight for of in layers], [of.bias for of in layers]

    def passes(y: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.zeros_like(y)
        for _ in range(layer.num_inputs):
            x, log_det = _masked_pass(x, y, weights, biases, masks)
        return x, log_det

    def masked_once(one: Callable) -> Inverse:
        def run(y: Tensor) -> tuple[Tensor, Tensor]:
            live = [w * mask for w, mask in zip(weights, masks, strict=True)]
            x = torch.zeros_like(y)
            for _ in range(layer.num_inputs):
                x, log_det = one(x, y, live, biases)
            return x, log_det

        return run

    torch._dynamo.reset()
    ops: dict[str, Inverse] = {
        "eager": passes,
        "masked once": masked_once(_pass),
        "compiled": masked_once(harness.compiled(_pass)),  # all passes as one graph would take minutes to compile
    }
    for name in ("cpu", "cuda"):
        if pygen._dispatch.why_not("autoregressive_inverse", name, DEVICE.type) is None:
            ops[f"pygen {name}"] = _pygen(layer, name)
    return ops


def _pygen(layer: Layer, backend: str) -> Inverse:
    def run(y: Tensor) -> tuple[Tensor, Tensor]:
        layer.backend = backend  # read at the call
        return layer.inverse(y)

    return run


def _work(op: Inverse, direction: str, layer: nn.Module, y: Tensor, grads: tuple[Tensor, Tensor]) -> Work:
    if direction == "inverse":
        return torch.no_grad()(lambda: op(y))
    y = y.detach().requires_grad_()
    sources = [y, *layer.parameters()]
    return lambda: torch.autograd.grad(op(y), sources, grads)


def _checked_error(name: str, op: Inverse, truth: tuple[Tensor, Tensor], y: Tensor) -> float:
    """Largest error against float64; fails where a provider is wrong."""
    with torch.no_grad():
        got = op(y)
    for value, expected in zip(got, truth, strict=True):
        error = (value.double() - expected).abs().max().item()
        assert error <= 1e-4 * expected.abs().max().item(), f"{name} is off by {error}"
    return (got[0].double() - truth[0]).abs().max().item()


def _case_id(case: Case) -> str:
    inputs, hidden, n, bins = case
    return f"D={inputs} hidden {'x'.join(map(str, hidden))}{f' K={bins}' if bins else ''} N={n} float32"


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    (inputs, hidden, n, bins), direction = request.param
    layer, y = (
        _layer(inputs, hidden, bins),
        torch.randn(n, inputs, device=DEVICE).clamp(-4, 4),
    )  # inside the splines' bound
    grads = torch.randn(n, inputs, device=DEVICE), torch.ones(n, device=DEVICE)
    with torch.no_grad():
        truth = _providers(_layer(inputs, hidden, bins).double())["masked once"](y.double())
    ops = _providers(layer)
    errors = harness.errors_of(ops, lambda name, op: _checked_error(name, op, truth, y))
    works = harness.with_graphs({name: _work(op, direction, layer, y, grads) for name, op in ops.items()})
    # Both ways read the live half of the weights, y, and write x; gradients do so once more and write a weight's.
    sizes = sum(a * b for a, b in pairwise((inputs, *hidden, len(layer.layers[-1].bias)))) // 2
    moved = 4 * ((sizes + 2 * y.numel()) if direction == "inverse" else (4 * sizes + 5 * y.numel()))
    slow = inputs > 500  # a call takes seconds, and the check was one
    measured = harness.measure(works, budget_s=1.0, least=2 if slow else 3, warm=0 if slow else 1)
    harness.describe(measured, works, moved, errors)
    collect(OP, _case_id(request.param[0]), direction, measured)
    return measured


GROUPS = harness.groups(CASES, ("inverse",), _case_id) + harness.groups(CASES[:LEARNT], ("inverse+backward",), _case_id)


@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_masked_autoregressive(benchmark, group: dict[str, Measurement]) -> None:
    """Records pygen's first backend; the table and the stored rows have all providers."""
    harness.record(benchmark, group[next(n for n in group if n.startswith("pygen "))])
