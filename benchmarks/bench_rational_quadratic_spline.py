"""rational_quadratic_spline against the lines people write, knots of all bins, a search, gathers, a mask; eager and compiled."""

from __future__ import annotations

import math
from collections.abc import Callable

import harness
import pytest
import torch
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen.functional import rational_quadratic_spline
from pygen.reference import rational_quadratic_spline as reference
from pygen.reference.models.nsf import spline

OP = "rational_quadratic_spline"
Shape = tuple[int, ...]
# (input, bins): a coupling's half of vectors, of 32x32 images squeezed once. Parameters as a Linear or a Conv2d gives them.
CASES: list[tuple[Shape, int, torch.dtype]] = [
    (shape, bins, dtype)
    for shape, bins in (((4096, 64), 8), ((64, 12, 32, 32), 8), ((64, 12, 32, 32), 16))
    for dtype in (torch.float32, torch.bfloat16)
]
DIRECTIONS = ("forward", "inverse", "forward+backward")
BETA = math.log(2) / (1 - 1e-3)

Op = Callable[[Tensor, Tensor, bool], tuple[Tensor, Tensor]]


def _eager(x: Tensor, params: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
    """In float32: a sum of shares in 16 bits has no knots left, and autocast keeps softmaxes wide too."""
    wide = torch.promote_types(x.dtype, torch.float32)
    out, log = spline(x.to(wide), params.to(wide).unflatten(1, (x.shape[1], -1)).movedim(2, -1), inverse, beta=BETA)
    return out.to(x.dtype), log.flatten(1).sum(1)


def _unmasked(x: Tensor, params: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
    """For the compiler, which breaks its graph where a mask picks elements: all are computed, and `where` chooses."""
    wide = torch.promote_types(x.dtype, torch.float32)
    v, p = x.to(wide), params.to(wide).unflatten(1, (x.shape[1], -1)).movedim(2, -1)
    inside = (v > -3) & (v < 3)
    out, log = spline(torch.where(inside, v, 0.0), p, inverse, beta=BETA, masked=False)
    return torch.where(inside, out, v).to(x.dtype), torch.where(inside, log, 0.0).flatten(1).sum(1)


def _sums(x: Tensor, params: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
    """For the compiler too: comparisons and sums over bins in place of a search, and params where they lie."""
    return reference.compose(x, params, "all", False, "linear", -3.0, 3.0, 1e-3, 1e-3, 1e-3, BETA, inverse)


def _pygen(backend: str) -> Op:
    return lambda x, params, inverse: rational_quadratic_spline(x, params, inverse=inverse, backend=backend)


def _providers() -> dict[str, Op]:
    torch._dynamo.reset()  # past eight shapes of one function Dynamo would quietly run it eagerly
    ops: dict[str, Op] = {
        "eager": _eager,
        "eager where": _unmasked,
        "compiled": harness.compiled(_unmasked),
        "compiled sums": harness.compiled(_sums),
    }
    for name in ("cpu", "triton", "cuda"):
        if pygen._dispatch.why_not(OP, name, DEVICE.type) is None:
            ops[f"pygen {name}"] = _pygen(name)
    return ops


def _work(op: Op, direction: str, x: Tensor, params: Tensor, grads: tuple[Tensor, Tensor]) -> Work:
    if direction != "forward+backward":
        return lambda: op(x, params, direction == "inverse")
    x, params = (t.detach().requires_grad_() for t in (x, params))
    return lambda: torch.autograd.grad(op(x, params, False), (x, params), grads)


def _checked_error(name: str, op: Op, x: Tensor, params: Tensor, inverse: bool) -> float:
    """Largest error of the output against float64 of the same inputs; fails where a provider is wrong."""
    expected, log_det = _eager(x.double(), params.double(), inverse)
    got = op(x, params, inverse)
    error = (got[0].double() - expected).abs().max().item()
    # Beside rounding of the result knots have errors of a few eps of float32, which the steepest bins magnify some hundredfold.
    assert error <= 2 * torch.finfo(x.dtype).eps * 3 + 2e-4, f"{name} is off by {error}"
    sums = (got[1].double() - log_det).abs().max().item()
    assert sums <= 2e-3 + 1e-5 * log_det.abs().max().item(), f"{name}'s log-determinant is off by {sums}"
    return error


def _case_id(case: tuple[Shape, int, torch.dtype]) -> str:
    return f"{'x'.join(map(str, case[0]))} K={case[1]} {str(case[2]).removeprefix('torch.')}"


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    (shape, bins, dtype), direction = request.param
    x, grad = (torch.randn(shape, device=DEVICE).to(dtype) for _ in range(2))
    params = (torch.randn((shape[0], shape[1] * (3 * bins - 1), *shape[2:]), device=DEVICE) * 0.5).to(dtype)
    grads = grad, torch.ones(shape[0], device=DEVICE)
    ops = _providers()
    errors = harness.errors_of(ops, lambda n, op: _checked_error(n, op, x, params, direction == "inverse"))
    works = {n: _work(op, direction, x, params, grads) for n, op in ops.items()}
    # Forward reads input and parameters and writes the output; backward reads these and its gradient and writes two gradients.
    forward, backward = 2 * x.numel() + params.numel(), 3 * x.numel() + 2 * params.numel()
    moved = (forward + (backward if direction == "forward+backward" else 0)) * x.element_size()
    waiting = ("eager", "compiled sums")  # for what a mask picks, and to copy which channels it takes
    measured = harness.compare(works, moved, errors, budget_s=1.0, waiting=waiting)
    collect(OP, _case_id(request.param[0]), direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, _case_id)


@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_rational_quadratic_spline(benchmark, group: dict[str, Measurement]) -> None:
    """Records pygen's first backend; the table and the stored rows have all providers."""
    harness.record(benchmark, group[next(n for n in group if n.startswith("pygen "))])
