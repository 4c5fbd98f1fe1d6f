"""bernoulli_nll against F.binary_cross_entropy_with_logits, eager and compiled, forward and forward+backward.

Data come as bytes, as data sets have them; PyTorch's function is handed floats, made before the clock runs, and so is pygen's
in the rows that say so.
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
from pygen.functional import bernoulli_nll

OP = "bernoulli_nll"
FLOATS = ", x of floats"
# A batch of binary digits flat and as images, feature maps of a convolutional decoder, the K samples of an evaluation.
SHAPES = ((128, 784), (64, 1, 28, 28), (256, 3, 64, 64), (4096, 784))
CASES = [(shape, dtype) for shape in SHAPES for dtype in (torch.float32, torch.bfloat16)]
DIRECTIONS = ("forward", "forward+backward")

Op = Callable[[Tensor, Tensor], Tensor]


def plain(logits: Tensor, x: Tensor) -> Tensor:
    """As people write it; x of logits' dtype."""
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / logits.shape[0]


def _providers() -> dict[str, Op]:
    torch._dynamo.reset()  # past eight shapes of one function Dynamo would quietly run it eagerly
    ops: dict[str, Op] = {"eager": plain, "compiled": harness.compiled(plain)}
    for name, reason in pygen.backends().items():
        runs_here = name in (("cpu",) if DEVICE.type == "cpu" else ("triton", "cuda"))
        if reason is None and runs_here:
            for suffix in ("", FLOATS):
                ops[f"pygen {name}{suffix}"] = lambda logits, x, name=name: bernoulli_nll(logits, x, backend=name)
    return ops


def _given(name: str, logits: Tensor, x: Tensor) -> Tensor:
    """x as this provider takes it."""
    return x if name.startswith("pygen ") and not name.endswith(FLOATS) else x.to(logits.dtype)


def _work(name: str, op: Op, direction: str, logits: Tensor, x: Tensor) -> Work:
    given = _given(name, logits, x)
    if direction == "forward":
        return lambda: op(logits, given)
    leaf = logits.detach().requires_grad_()
    return lambda: torch.autograd.grad(op(leaf, given), leaf)


def _checked_error(name: str, op: Op, logits: Tensor, x: Tensor) -> float:
    """Of loss and gradient against the exact ones in float64, each over its largest value; fails where ours is wrong."""
    wide = logits.double().requires_grad_()
    truth = bernoulli_nll(wide, x, backend="reference")
    (truth_grad,) = torch.autograd.grad(truth, wide)
    leaf = logits.detach().requires_grad_()
    nll = op(leaf, _given(name, logits, x))
    (grad,) = torch.autograd.grad(nll, leaf)
    errors = (
        (nll.double() - truth).abs() / truth.abs(),
        (grad.double() - truth_grad).abs().max() / truth_grad.abs().max(),
    )
    error = max(e.item() for e in errors)
    if name.startswith("pygen "):
        assert error <= 4 * torch.finfo(logits.dtype).eps, f"{name} is off by {error}"
    return error


def _inputs(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    logits, x = torch.randn(shape, generator=g) * 2, torch.randint(0, 2, shape, generator=g, dtype=torch.uint8)
    return logits.to(DEVICE, dtype), x.to(DEVICE)


def _case_id(case: tuple[tuple[int, ...], torch.dtype]) -> str:
    shape, dtype = case
    return f"{'x'.join(map(str, shape))} {str(dtype).removeprefix('torch.')}"


def _moved(direction: str, logits: Tensor) -> int:
    """Logits and x in bytes, read once; a gradient, written. What a pass over floats or a second pass moves comes on top."""
    size = logits.element_size()
    return logits.numel() * (size + 1 + (size if direction != "forward" else 0))


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    logits, x = _inputs(*case)
    ops = _providers()
    errors = harness.errors_of(ops, lambda name, op: _checked_error(name, op, logits, x))
    works = {name: _work(name, op, direction, logits, x) for name, op in ops.items()}
    measured = harness.compare(works, _moved(direction, logits), errors)
    collect(OP, _case_id(case), direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, _case_id)
NAMES = list(_providers())
NAMES += [f"{name} graphed" for name in NAMES] if DEVICE.type == "cuda" else []


@pytest.mark.parametrize("group", GROUPS, indirect=True)
@pytest.mark.parametrize("provider", NAMES)
def bench_bernoulli_nll(benchmark, group: dict[str, Measurement], provider: str) -> None:
    harness.record(benchmark, group[provider])
