"""Restricted Boltzmann machines: free energy, Gibbs steps and a CD-1 step, against eager and compiled PyTorch.

Competitors draw by `torch.rand_like(p) < p`, beside which eager stands with `torch.bernoulli(p)`; weights
and states stay in the same dtype. C++ leaves out sources that are 0 in all images of a tile, so cases say how many units are 1:
13 % are in binarised MNIST.
"""

from __future__ import annotations

from collections.abc import Callable

import harness
import pytest
import torch
import torch.nn.functional as F
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen.functional import rbm_free_energy, rbm_gibbs

OP = "rbm"
# (N, D, H, share of ones, dtype)
CASES = [
    (64, 784, 500, 0.13, torch.float32),
    (512, 784, 1024, 0.13, torch.float32),
    (512, 784, 1024, 0.5, torch.float32),
    (100, 64, 64, 0.4, torch.float32),
]
if DEVICE.type == "cuda":
    CASES.append((512, 784, 1024, 0.13, torch.bfloat16))
DIRECTIONS = ("forward", "forward+backward", "1 Gibbs step", "10 Gibbs steps", "CD-1 step")

Case = tuple[int, int, int, float, torch.dtype]
Energy = Callable[..., Tensor]
Chain = Callable[..., Tensor]


def energy(v: Tensor, w: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The mean free energy, as people write it."""
    return (-(v @ b) - F.softplus(F.linear(v, w, c)).sum(1)).mean()


def steps_by(draw: Callable[[Tensor], Tensor]) -> Chain:
    def chain(v: Tensor, w: Tensor, b: Tensor, c: Tensor, steps: int) -> Tensor:
        for _ in range(steps):
            h = draw(F.linear(v, w, c).sigmoid())
            v = draw(F.linear(h, w.t(), b).sigmoid())
        return v

    return chain


by_uniforms = steps_by(lambda p: (torch.rand_like(p) < p).to(p.dtype))
by_bernoulli = steps_by(torch.bernoulli)


def contrast_of(of: Energy, chain: Chain) -> Energy:
    """The loss of CD-1."""

    def contrast(v: Tensor, *parameters: Tensor) -> Tensor:
        with torch.no_grad():
            end = chain(v, *parameters, 1)
        return of(v, *parameters) - of(end, *parameters)

    return contrast


def _providers() -> dict[str, tuple[Energy, Chain, Energy]]:
    torch._dynamo.reset()
    pairs: dict[str, tuple[Energy, Chain]] = {"eager": (energy, by_uniforms), "eager bernoulli": (energy, by_bernoulli)}
    for name, reason in pygen.backends().items():
        runs_here = name in (("cpu",) if DEVICE.type == "cpu" else ("triton", "cuda"))
        if reason is None and runs_here:
            pairs[f"pygen {name}"] = (
                lambda *tensors, name=name: rbm_free_energy(*tensors, backend=name),
                lambda *tensors, name=name: rbm_gibbs(*tensors[:4], steps=tensors[4], backend=name),
            )
    ops = {name: (*pair, contrast_of(*pair)) for name, pair in pairs.items()}
    whole = (energy, by_uniforms, contrast_of(energy, by_uniforms))
    ops["compiled"] = tuple(harness.compiled(function) for function in whole)
    return ops


def _inputs(case: Case) -> tuple[Tensor, ...]:
    n, visible, hidden, share, dtype = case
    g = torch.Generator().manual_seed(0)
    v = (torch.rand(n, visible, generator=g) < share).to(DEVICE, dtype)
    w = (0.01 * torch.randn(hidden, visible, generator=g)).to(DEVICE, dtype).requires_grad_()
    b = torch.full((visible,), share).logit().to(DEVICE, dtype).requires_grad_()
    return v, w, b, torch.zeros(hidden, device=DEVICE, dtype=dtype).requires_grad_()


def _checked_error(name: str, ops: tuple[Energy, Chain, Energy], tensors: tuple[Tensor, ...]) -> float:
    """Of energy and gradients against float64, over the largest value; fails where ours is wrong, or draws otherwise."""
    v, *parameters = tensors
    results = []
    for of, dtype in ((energy, torch.float64), (ops[0], v.dtype)):
        leaves = [p.detach().to(dtype).requires_grad_() for p in parameters]
        value = of(v.to(dtype), *leaves)
        results.append([value.detach(), *torch.autograd.grad(value, leaves)])
    error = max(((b.double() - a).abs().max() / a.abs().max()).item() for a, b in zip(*results, strict=True))
    fixed = [p.detach() for p in parameters]
    ends = ops[1](v, *fixed, 2)
    ours = name.startswith("pygen ")
    assert not ours or error <= 16 * torch.finfo(v.dtype).eps, f"{name} is off by {error}"
    assert ((ends == 0) | (ends == 1)).all()
    off = (ends.double().mean() - by_uniforms(v, *fixed, 2).double().mean()).abs()
    assert off <= 6 / ends.numel() ** 0.5, f"{name} draws {off} more or fewer ones"
    return error


def _work(ops: tuple[Energy, Chain, Energy], direction: str, tensors: tuple[Tensor, ...]) -> Work:
    v, *parameters = tensors
    of, chain, contrast = ops
    fixed = [p.detach() for p in parameters]

    moved = [p.clone() for p in fixed]

    def step() -> None:
        """Gradients, and an update as SGD makes it."""
        grads = torch.autograd.grad(contrast(v, *parameters), parameters)
        torch._foreach_add_(moved, grads, alpha=-0.01)

    if direction == "CD-1 step":
        return step
    if direction.endswith(("step", "steps")):
        return torch.no_grad()(lambda: chain(v, *fixed, int(direction.split()[0])))
    if direction == "forward":
        return lambda: of(v, *fixed)
    return lambda: torch.autograd.grad(of(v, *parameters), parameters)


def _case_id(case: Case) -> str:
    n, visible, hidden, share, dtype = case
    return f"{n}x{visible} H={hidden} {share:.0%} ones {str(dtype).removeprefix('torch.')}"


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    tensors = _inputs(case)
    size = tensors[0].element_size()
    weights = tensors[1].numel() * size
    times = {"forward": 1, "forward+backward": 2, "1 Gibbs step": 2, "10 Gibbs steps": 20, "CD-1 step": 6}[direction]
    ops = _providers()
    if direction in ("forward", "forward+backward"):
        del ops["eager bernoulli"]
    errors = harness.errors_of(ops, lambda name, op: _checked_error(name, op, tensors))
    works = {name: _work(op, direction, tensors) for name, op in ops.items()}
    measured = harness.compare(works, times * weights + tensors[0].numel() * size, errors)
    collect(OP, _case_id(case), direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, _case_id)
NAMES = list(_providers())
NAMES += [f"{name} graphed" for name in NAMES] if DEVICE.type == "cuda" else []


@pytest.mark.parametrize("group", GROUPS, indirect=True)
@pytest.mark.parametrize("provider", NAMES)
def bench_rbm(benchmark, group: dict[str, Measurement], provider: str) -> None:
    if provider not in group:
        pytest.skip("no provider of this direction")
    harness.record(benchmark, group[provider])
