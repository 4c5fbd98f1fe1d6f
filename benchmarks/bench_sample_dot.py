"""The squared norms that gradient penalties sum, and their gradient, against the lines people write and the best composition."""

from __future__ import annotations

from collections.abc import Callable

import harness
import pytest
import torch
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen.functional import sample_dot

OP = "sample_dot"
CASES = [  # gradients of a discriminator's logits by its images
    ((64, 1, 28, 28), torch.float32),
    ((64, 3, 64, 64), torch.float32),
    ((64, 3, 64, 64), torch.bfloat16),
]
if DEVICE.type == "cuda":
    CASES.append(((64, 3, 256, 256), torch.float32))
PASSES = {"forward": 1, "forward+backward": 3}  # backward reads and writes

Norms = Callable[[Tensor], Tensor]  # [N, ...] -> [N]


def plain(x: Tensor) -> Tensor:
    return x.float().square().flatten(1).sum(1)


def vector_norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.flatten(1), dim=1, dtype=torch.float32).square()


def _providers() -> dict[str, Norms]:
    torch._dynamo.reset()  # past eight shapes of one function Dynamo would quietly run it eagerly
    ops: dict[str, Norms] = {
        "eager": plain,
        "vector_norm": vector_norm,
        "compiled": harness.compiled(plain),
    }
    for name in ("cpu", "triton", "cuda"):
        runs_here = name in (("cpu",) if DEVICE.type == "cpu" else ("triton", "cuda"))
        if runs_here and pygen._dispatch.why_not(OP, name, DEVICE.type) is None:
            ops[f"pygen {name}"] = lambda x, name=name: sample_dot(x, backend=name)
    return ops


def _work(op: Norms, direction: str, x: Tensor, grad: Tensor) -> Work:
    if direction == "forward":
        return lambda: op(x)
    leaf = x.detach().requires_grad_()
    return lambda: torch.autograd.grad(op(leaf), leaf, grad)


def _checked_error(name: str, op: Norms, x: Tensor, grad: Tensor) -> float:
    """Largest error of norms and gradient, each over its largest value; fails where a provider is wrong."""
    results = []
    for norms, t in ((op, x), (plain_in_float64, x.double())):
        leaf = t.detach().requires_grad_()
        out = norms(leaf)
        results.append([out.detach().double(), torch.autograd.grad(out, leaf, grad.to(out.dtype))[0].double()])
    error = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*results, strict=True))
    assert error <= 8 * torch.finfo(x.dtype).eps, f"{name} is off by {error}"
    return error


def plain_in_float64(x: Tensor) -> Tensor:
    return x.square().flatten(1).sum(1)


def _case_id(case: tuple[tuple[int, ...], torch.dtype]) -> str:
    return f"{'x'.join(map(str, case[0]))} {str(case[1]).removeprefix('torch.')}"


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    (shape, dtype), direction = request.param
    x, grad = torch.randn(shape, device=DEVICE).to(dtype), torch.randn(shape[0], device=DEVICE)
    ops = _providers()
    errors = harness.errors_of(ops, lambda name, op: _checked_error(name, op, x, grad))
    works = {name: _work(op, direction, x, grad) for name, op in ops.items()}
    moved = PASSES[direction] * x.numel() * x.element_size()
    measured = harness.compare(works, moved, errors, budget_s=1.0)
    collect(OP, _case_id(request.param[0]), direction, measured)
    return measured


GROUPS = harness.groups(CASES, PASSES, _case_id)


@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_sample_dot(benchmark, group: dict[str, Measurement]) -> None:
    """Records pygen's first backend; the table and the stored rows have all providers."""
    harness.record(benchmark, group[next(n for n in group if n.startswith("pygen "))])
