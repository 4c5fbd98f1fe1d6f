"""gated_activation against the line people write, eager and compiled, with and without a condition."""

from __future__ import annotations

from collections.abc import Callable

import harness
import pytest
import torch
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen.functional import gated_activation

OP = "gated_activation"
SHAPES = [(16, 128, 28, 28), (64, 128, 28, 28), (16, 256, 32, 32)]  # gated stacks of 64 and 128 channels
CONDS = ("no cond", "cond [N, C]")
CASES = [(shape, cond, torch.float32) for shape in SHAPES for cond in CONDS]
CASES += [((16, 128, 28, 28), cond, torch.bfloat16) for cond in CONDS]
if DEVICE.type == "cuda":
    CASES += [((256, 256, 32, 32), cond, torch.bfloat16) for cond in CONDS]
DIRECTIONS = ("forward", "forward+backward")
# Passes over the output's size: forward reads two halves and writes one; backward reads three and writes two.
PASSES = {"forward": 3, "forward+backward": 8}

Op = Callable[[Tensor, Tensor | None], Tensor]


def plain(x: Tensor, cond: Tensor | None) -> Tensor:
    if cond is not None:
        x = x + cond[:, :, None, None]
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


def _providers() -> dict[str, Op]:
    torch._dynamo.reset()  # past eight shapes of one function Dynamo would quietly run it eagerly
    ops: dict[str, Op] = {"eager": plain, "compiled": harness.compiled(plain)}
    for name in ("cpu", "triton", "cuda"):
        if pygen._dispatch.why_not(OP, name, DEVICE.type) is None:
            ops[f"pygen {name}"] = lambda x, cond, name=name: gated_activation(x, cond, backend=name)
    return ops


def _work(op: Op, direction: str, x: Tensor, cond: Tensor | None, grad: Tensor) -> Work:
    if direction == "forward":
        return lambda: op(x, cond)
    x, cond = x.detach().requires_grad_(), None if cond is None else cond.detach().requires_grad_()
    leaves = [x] if cond is None else [x, cond]
    return lambda: torch.autograd.grad(op(x, cond), leaves, grad)


def _checked_error(name: str, op: Op, x: Tensor, cond: Tensor | None) -> float:
    """Largest error against float64 on the same inputs; fails where a provider is wrong."""
    truth = plain(x.double(), None if cond is None else cond.double())
    error = (op(x, cond).double() - truth).abs().max().item()
    assert error <= 8 * torch.finfo(x.dtype).eps, f"{name} is off by {error}"
    return error


def _case_id(case: tuple[tuple[int, ...], str, torch.dtype]) -> str:
    return f"{'x'.join(map(str, case[0]))} {case[1]} {str(case[2]).removeprefix('torch.')}"


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    shape, with_cond, dtype = case
    x, grad = (torch.randn(s, device=DEVICE).to(dtype) for s in (shape, (shape[0], shape[1] // 2, *shape[2:])))
    cond = None if with_cond == "no cond" else torch.randn(shape[:2], device=DEVICE).to(dtype)
    ops, last = _providers(), torch.channels_last
    errors = harness.errors_of(ops, lambda name, op: _checked_error(name, op, x, cond))
    works = {name: _work(op, direction, x, cond, grad) for name, op in ops.items()}
    for name in ("eager", *(n for n in ops if n.startswith("pygen "))):
        turned = (x.contiguous(memory_format=last), cond, grad.contiguous(memory_format=last))
        works[f"{name} channels_last"] = _work(ops[name], direction, *turned)
    moved = PASSES[direction] * grad.numel() * grad.element_size()
    measured = harness.compare(works, moved, errors, budget_s=1.0)
    collect(OP, _case_id(case), direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, _case_id)


@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_gated_activation(benchmark, group: dict[str, Measurement]) -> None:
    """Records pygen's first backend; the table and the stored rows have all providers."""
    harness.record(benchmark, group[next(n for n in group if n.startswith("pygen "))])
