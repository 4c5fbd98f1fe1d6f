"""affine_coupling against the lines people write, halves cut and put together or masks, eager and compiled."""

from __future__ import annotations

import math
from collections.abc import Callable

import harness
import pytest
import torch
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen.functional import affine_coupling
from pygen.ops._halves import halves

OP = "affine_coupling"
Shape = tuple[int, ...]
# (input, mask, scale): NICE's coupling of 28x28 images, RealNVP's of 32x32 images squeezed once and twice. A scale of None is
# additive. What a conditioner gives comes as one tensor, as from its last layer.
CASES: list[tuple[Shape, str, str | None, torch.dtype]] = [
    ((64, 784), "even_odd", None, torch.float32),
    ((512, 784), "even_odd", None, torch.float32),
    ((512, 784), "channel", "tanh", torch.float32),
    ((64, 3, 32, 32), "checkerboard", "tanh", torch.float32),
    ((64, 12, 16, 16), "channel", "tanh", torch.float32),
    ((64, 12, 32, 32), "checkerboard", "exp", torch.float32),
    ((64, 24, 32, 32), "channel", "exp", torch.float32),
    ((64, 96, 16, 16), "channel", "exp", torch.float32),
    ((64, 96, 16, 16), "channel", "exp", torch.bfloat16),
]
if DEVICE.type == "cuda":
    CASES += [((256, 96, 32, 32), "channel", "tanh", dtype) for dtype in (torch.float32, torch.bfloat16)]
DIRECTIONS = ("forward", "inverse", "forward+backward")
BOUND = 2.0

Op = Callable[[Tensor, Tensor, bool], tuple[Tensor, Tensor]]


def _factor(s: Tensor, scale: str) -> Tensor:
    return BOUND * torch.tanh(s / BOUND) if scale == "tanh" else s


def _eager(mask: str, scale: str | None, shape: Shape) -> Op:
    if mask == "checkerboard":
        height, width = (torch.arange(n, device=DEVICE) for n in shape[2:])
        b = ((height[:, None] + width) % 2 == 0).float()  # where it is transformed

        def board(x: Tensor, params: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
            t, s = params.chunk(2, 1)
            m = b.to(x.dtype)
            t, s = t * m, _factor(s, scale or "exp") * m
            if inverse:
                return (x - t) * torch.exp(-s), -s.float().flatten(1).sum(1)
            return x * torch.exp(s) + t, s.float().flatten(1).sum(1)

        return board

    def halves(x: Tensor, params: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        a, b = (x[:, ::2], x[:, 1::2]) if mask == "even_odd" else x.chunk(2, 1)
        if scale is None:
            b, log_det = (b - params if inverse else b + params), x.new_zeros(len(x))
        else:
            t, s = params.chunk(2, 1)
            s = _factor(s, scale)
            b = (b - t) * torch.exp(-s) if inverse else b * torch.exp(s) + t
            log_det = (-s if inverse else s).float().flatten(1).sum(1)
        if mask == "even_odd":
            return torch.stack((a, b), 2).flatten(1), log_det
        return torch.cat((a, b), 1), log_det

    return halves


def _pygen(mask: str, scale: str | None, backend: str) -> Op:
    bound = BOUND if scale == "tanh" else None

    def op(x: Tensor, params: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        t, s = (params, None) if scale is None else halves(params)  # as the module does
        options = {"mask": mask, "scale": scale or "exp", "bound": bound, "inverse": inverse, "backend": backend}
        return affine_coupling(x, t, s, **options)

    return op


def _providers(mask: str, scale: str | None, shape: Shape) -> dict[str, Op]:
    torch._dynamo.reset()  # past eight shapes of one function Dynamo would quietly run it eagerly
    eager = _eager(mask, scale, shape)
    ops: dict[str, Op] = {"eager": eager, "compiled": harness.compiled(eager)}
    for name in ("cpu", "triton", "cuda"):
        if pygen._dispatch.why_not(OP, name, DEVICE.type) is None:
            ops[f"pygen {name}"] = _pygen(mask, scale, name)
    return ops


def _work(op: Op, direction: str, x: Tensor, params: Tensor, grads: tuple[Tensor, Tensor], additive: bool) -> Work:
    if direction != "forward+backward":
        return lambda: op(x, params, direction == "inverse")
    x, params = (t.detach().requires_grad_() for t in (x, params))
    used = 1 if additive else 2  # an additive coupling's log-determinant has no gradient
    return lambda: torch.autograd.grad(op(x, params, False)[:used], (x, params), grads[:used])


def _checked_error(name: str, op: Op, truth: Op, x: Tensor, params: Tensor, inverse: bool) -> float:
    """Largest error of the output against float64 of the same inputs; fails where a provider is wrong."""
    expected, log_det = truth(x.double(), params.double(), inverse)
    got = op(x, params, inverse)
    error = (got[0].double() - expected).abs().max().item()
    eps = torch.finfo(x.dtype).eps
    assert error <= 16 * eps * expected.abs().max().item(), f"{name} is off by {error}"
    sums = (got[1].double() - log_det).abs().max().item()
    least = max(eps, torch.finfo(torch.float32).eps) if name.startswith("pygen") else 4 * eps
    most = 64 * (torch.finfo(torch.float32).eps if name.startswith("pygen") else least) * math.sqrt(params[0].numel())
    assert sums <= most, f"{name}'s log-determinant is off by {sums}"
    return error


def _case_id(case: tuple[Shape, str, str | None, torch.dtype]) -> str:
    return f"{'x'.join(map(str, case[0]))} {case[1]} {case[2] or 'additive'} {str(case[3]).removeprefix('torch.')}"


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    (shape, mask, scale, dtype), direction = request.param
    half = shape[1] // 2 if mask != "checkerboard" else shape[1]
    params = (shape[0], half * (1 if scale is None else 2), *shape[2:])
    x, grad = (torch.randn(shape, device=DEVICE).to(dtype) for _ in range(2))
    made = (torch.randn(params, device=DEVICE) * 0.3).to(dtype)
    grads = grad, torch.ones(shape[0], device=DEVICE)
    ops = _providers(mask, scale, shape)
    errors = harness.errors_of(ops, lambda n, op: _checked_error(n, op, ops["eager"], x, made, direction == "inverse"))
    works = {n: _work(op, direction, x, made, grads, scale is None) for n, op in ops.items()}
    # Forward reads input and parameters and writes the output; backward reads these and its gradient and writes two gradients.
    read = 0 if scale is None else x.numel() + made.numel()
    forward, backward = 2 * x.numel() + made.numel(), x.numel() + read + x.numel() + made.numel()
    moved = (forward + (backward if direction == "forward+backward" else 0)) * x.element_size()
    measured = harness.compare(works, moved, errors, budget_s=1.0)
    collect(OP, _case_id(request.param[0]), direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, _case_id)


@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_affine_coupling(benchmark, group: dict[str, Measurement]) -> None:
    """Records pygen's first backend; the table and the stored rows have all providers."""
    harness.record(benchmark, group[next(n for n in group if n.startswith("pygen "))])
