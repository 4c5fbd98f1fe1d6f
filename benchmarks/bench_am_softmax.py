"""am_softmax against F.normalize, F.linear and F.cross_entropy as people put them together, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable

import harness
import pytest
import torch
import torch.nn.functional as F
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen.functional import am_softmax

OP = "am_softmax"
SCALE, MARGIN = 30.0, 0.35
# (N, C, D): a small set of classes, CASIA-WebFace's 10,575, and more; on a GPU up to a million.
SHAPES = [(128, 1000, 128), (256, 10575, 512), (1024, 10575, 512), (128, 100_000, 256)]
GPU_SHAPES = [(256, 10575, 512), (1024, 100_000, 512), (1024, 1_000_000, 512)]
DTYPES = (torch.float32,) if DEVICE.type == "cpu" else (torch.float32, torch.bfloat16)
CASES = [(shape, dtype) for shape in (SHAPES if DEVICE.type == "cpu" else GPU_SHAPES) for dtype in DTYPES]
DIRECTIONS = ("forward", "forward+backward")

Op = Callable[[Tensor, Tensor, Tensor], Tensor]
Case = tuple[tuple[int, int, int], torch.dtype]


def plain(input: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """As the field's repositories have it: cosines, the margin by index, cross entropy."""
    logits = SCALE * F.linear(F.normalize(input), F.normalize(weight))
    logits[torch.arange(len(target), device=target.device), target] -= SCALE * MARGIN
    return F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), target)


def _providers() -> dict[str, Op]:
    torch._dynamo.reset()  # past eight shapes of one function Dynamo would quietly run it eagerly
    ops: dict[str, Op] = {"eager": plain, "compiled": harness.compiled(plain)}
    for name, reason in pygen.backends().items():
        runs_here = name in (("cpu",) if DEVICE.type == "cpu" else ("triton", "cuda"))
        if reason is None and runs_here:
            ops[f"pygen {name}"] = lambda *t, name=name: am_softmax(*t, scale=SCALE, margin=MARGIN, backend=name)
    return ops


def _work(op: Op, direction: str, input: Tensor, weight: Tensor, target: Tensor) -> Work:
    if direction == "forward":
        return lambda: op(input, weight, target)
    leaves = [t.detach().requires_grad_() for t in (input, weight)]
    return lambda: torch.autograd.grad(op(*leaves, target), leaves)


def _errors(ops: dict[str, Op], input: Tensor, weight: Tensor, target: Tensor) -> dict[str, float]:
    """Of the loss and both gradients against float64, each over its largest value; fails where ours is wrong."""

    def run(op: Op, dtype: torch.dtype) -> tuple[Tensor, ...]:
        leaves = [t.detach().to(dtype).requires_grad_() for t in (input, weight)]
        loss = op(*leaves, target)
        return loss.detach(), *torch.autograd.grad(loss, leaves)

    truth = run(plain, torch.float64)

    def check(name: str, op: Op) -> float:
        got = run(op, input.dtype)
        error = max(((a.double() - b).abs().max() / b.abs().max()).item() for a, b in zip(got, truth, strict=True))
        allowed = 2**-8 if input.dtype == torch.bfloat16 else 1e-5
        assert error <= allowed or not name.startswith("pygen "), f"{name} is off by {error}"
        return error

    return harness.errors_of(ops, check)


def _inputs(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    (n, classes, features), dtype = case
    g = torch.Generator().manual_seed(0)
    input, weight = (torch.randn(rows, features, generator=g).to(DEVICE, dtype) for rows in (n, classes))
    return input, weight, torch.randint(classes, (n,), generator=g).to(DEVICE)


def _case_id(case: Case) -> str:
    (n, classes, features), dtype = case
    return f"N={n} C={classes} D={features} {str(dtype).removeprefix('torch.')}"


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    inputs = _inputs(case)
    ops = _providers()
    errors = _errors(ops, *inputs)
    works = {name: _work(op, direction, *inputs) for name, op in ops.items()}
    # What must be moved: weights read, and their gradient written.
    moved = DIRECTIONS.index(direction) + 1
    measured = harness.compare(works, moved * inputs[1].numel() * inputs[1].element_size(), errors)
    collect(OP, _case_id(case), direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, _case_id)
NAMES = list(_providers())
NAMES += [f"{name} graphed" for name in NAMES] if DEVICE.type == "cuda" else []


@pytest.mark.parametrize("group", GROUPS, indirect=True)
@pytest.mark.parametrize("provider", NAMES)
def bench_am_softmax(benchmark, group: dict[str, Measurement], provider: str) -> None:
    harness.record(benchmark, group[provider])
