"""categorical_nll against F.cross_entropy of the same logits, eager and compiled, forward and forward+backward."""

from __future__ import annotations

from collections.abc import Callable

import harness
import pytest
import torch
import torch.nn.functional as F
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen.functional import categorical_nll

OP = "categorical_nll"
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
# (N, C, L, spatial): pixel models of 256 levels and of two, RGB, and MADE's last layer.
SHAPES = [
    (64, 1, 256, (32, 32)),
    (16, 1, 256, (28, 28)),
    (32, 1, 2, (28, 28)),
    (16, 3, 256, (32, 32)),
    (128, 784, 2, ()),
]
CASES = [
    (shape, dtype, layout)
    for shape in SHAPES
    for dtype in (torch.float32, torch.bfloat16)
    for layout in (LAYOUTS if shape[3] else ("contiguous",))
]
DIRECTIONS = ("forward", "forward+backward")
PASSES = {"forward": 1, "forward+backward": 2}  # of logits: read once, and their gradient written
GPU_PASSES = {"forward": 1, "forward+backward": 3}  # where backward reads them again

Op = Callable[[Tensor, Tensor], Tensor]
Case = tuple[tuple[int, int, int, tuple[int, ...]], torch.dtype, str]


def plain(logits: Tensor, x: Tensor) -> Tensor:
    """As people write it: blocks as images of their own, in float32 where there are 16 bits; nats over the batch."""
    n, channels = x.shape[:2]
    blocks = logits.unflatten(1, (channels, -1)).flatten(0, 1)
    if logits.dtype != torch.float64:
        blocks = blocks.float()
    return F.cross_entropy(blocks, x.flatten(0, 1).long(), reduction="sum") / n


def _providers() -> dict[str, Op]:
    torch._dynamo.reset()  # past eight shapes of one function Dynamo would quietly run it eagerly
    ops: dict[str, Op] = {"eager": plain, "compiled": harness.compiled(plain)}
    for name, reason in pygen.backends().items():
        runs_here = name in (("cpu",) if DEVICE.type == "cpu" else ("triton", "cuda"))
        if reason is None and runs_here:
            ops[f"pygen {name}"] = lambda logits, x, name=name: categorical_nll(logits, x, backend=name)
    return ops


def _work(op: Op, direction: str, logits: Tensor, x: Tensor) -> Work:
    if direction == "forward":
        return lambda: op(logits, x)
    leaf = logits.detach().requires_grad_()
    return lambda: torch.autograd.grad(op(leaf, x), leaf)


def _checked_error(name: str, op: Op, logits: Tensor, x: Tensor) -> float:
    """Of loss and gradient against float64, each over its largest value; fails where ours is wrong."""
    wide = logits.double().contiguous().requires_grad_()
    truth = plain(wide, x)
    (truth_grad,) = torch.autograd.grad(truth, wide)
    leaf = logits.detach().requires_grad_()
    nll = op(leaf, x)
    (grad,) = torch.autograd.grad(nll, leaf)
    errors = (
        (nll.double() - truth).abs() / truth.abs(),
        (grad.double() - truth_grad).abs().max() / truth_grad.abs().max(),
    )
    error = max(e.item() for e in errors)
    if name.startswith("pygen "):
        assert error <= 8 * torch.finfo(logits.dtype).eps, f"{name} is off by {error}"
    return error


def _inputs(case: Case) -> tuple[Tensor, Tensor]:
    (n, channels, levels, spatial), dtype, layout = case
    g = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(n, channels * levels, *spatial, generator=g)
    x = torch.randint(0, levels, (n, channels, *spatial), generator=g, dtype=torch.uint8)
    logits = logits.to(DEVICE, dtype)
    return logits.contiguous(memory_format=LAYOUTS[layout]) if spatial else logits, x.to(DEVICE)


def _case_id(case: Case) -> str:
    (n, channels, levels, spatial), dtype, layout = case
    size = "x".join(map(str, (n, channels, *spatial)))
    return f"{size} L={levels} {str(dtype).removeprefix('torch.')} {layout}"


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    logits, x = _inputs(case)
    ops = _providers()
    errors = harness.errors_of(ops, lambda name, op: _checked_error(name, op, logits, x))
    works = {name: _work(op, direction, logits, x) for name, op in ops.items()}
    passes = PASSES if DEVICE.type == "cpu" else GPU_PASSES
    moved = passes[direction] * logits.numel() * logits.element_size()
    measured = harness.compare(works, moved, errors)
    collect(OP, _case_id(case), direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, _case_id)
NAMES = list(_providers())
NAMES += [f"{name} graphed" for name in NAMES] if DEVICE.type == "cuda" else []


@pytest.mark.parametrize("group", GROUPS, indirect=True)
@pytest.mark.parametrize("provider", NAMES)
def bench_categorical_nll(benchmark, group: dict[str, Measurement], provider: str) -> None:
    harness.record(benchmark, group[provider])
