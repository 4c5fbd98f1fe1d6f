"""masked_linear against `weight * mask` eager, compiled and made before: layers of MADE on 28x28 images, and wide ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import harness
import pytest
import torch
import torch.nn.functional as F
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen.functional import masked_linear
from pygen.reference.masked_linear import live_mask

OP = "masked_linear"
Linear = Callable[[Tensor, Tensor, Tensor], Tensor]
# Handed a weight that is masked already, as between two steps of an optimiser: its gradient is dense, and NaN in an input
# reaches every output. No way to train, but the least that a dense product can take.
MASKED_BEFORE = "masked before"


@dataclass(frozen=True)
class Case:
    """A layer between `ins` and `outs` units whose degrees repeat 0 .. most."""

    name: str
    batch: int
    ins: int
    outs: int
    most: int
    strict: bool
    dtype: torch.dtype = torch.float32

    def degrees(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple(i % self.most for i in range(self.ins)), tuple(o % self.most for o in range(self.outs))


CASES = [
    Case("64->256 N=100", 100, 64, 256, 64, False),
    Case("784->500 N=128", 128, 784, 500, 784, False),
    Case("500->784 N=128", 128, 500, 784, 784, True),
    Case("2000->2000 N=512", 512, 2000, 2000, 784, False),
    Case("784->500 N=128 bfloat16", 128, 784, 500, 784, False, torch.bfloat16),
]
if DEVICE.type == "cuda":
    CASES.append(Case("8000->8000 N=512 bfloat16", 512, 8000, 8000, 784, False, torch.bfloat16))
DIRECTIONS = ("forward", "forward+backward")


def _providers(case: Case) -> dict[str, Linear]:
    torch._dynamo.reset()
    mask = live_mask(*case.degrees(), case.strict, DEVICE).to(case.dtype)

    def eager(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.linear(x, w * mask, b)

    ops: dict[str, Linear] = {
        "w*mask": eager,
        "w*mask compiled": harness.compiled(eager),
        MASKED_BEFORE: F.linear,
    }
    ins, outs = case.degrees()
    for name in ("composite", "cpu", "triton", "cuda"):
        if pygen._dispatch.why_not(OP, name, DEVICE.type) is None:
            ops[f"pygen {name}"] = lambda x, w, b, name=name: masked_linear(
                x, w, b, in_degrees=ins, out_degrees=outs, strict=case.strict, backend=name
            )
    return ops


def _work(op: Linear, direction: str, tensors: tuple[Tensor, ...], grad: Tensor) -> Work:
    if direction == "forward":
        return lambda: op(*tensors)
    leaves = [t.detach().requires_grad_() for t in tensors]
    return lambda: torch.autograd.grad(op(*leaves), leaves, grad)


def _checked_error(name: str, op: Linear, case: Case, tensors: tuple[Tensor, ...]) -> float:
    """Largest error over the largest value, against float64; fails where a provider is wrong."""
    x, w, b = (t.double() for t in tensors)
    truth = F.linear(x, w * live_mask(*case.degrees(), case.strict, DEVICE), b)
    error = ((op(*tensors).double() - truth).abs().max() / truth.abs().max()).item()
    assert error <= 50 * torch.finfo(case.dtype).eps, f"{name} is off by {error}"
    return error


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    shapes = ((case.batch, case.ins), (case.outs, case.ins), (case.outs,), (case.batch, case.outs))
    *tensors, grad = (torch.randn(s, device=DEVICE).to(case.dtype) for s in shapes)
    ops = _providers(case)
    x, w, b = tensors
    masked = (x, w * live_mask(*case.degrees(), case.strict, DEVICE), b)
    given = {name: masked if name == MASKED_BEFORE else (x, w, b) for name in ops}
    errors = harness.errors_of(ops, lambda name, op: _checked_error(name, op, case, given[name]))
    works = {name: _work(op, direction, given[name], grad) for name, op in ops.items()}
    works = harness.with_graphs(works)
    measured = harness.measure(works, budget_s=1.5)
    live = int(live_mask(*case.degrees(), case.strict, torch.device("cpu")).sum())
    flops = 2 * case.batch * live * (1 if direction == "forward" else 3)
    moved = sum(t.numel() * t.element_size() for t in (*tensors, grad))
    for name, m in measured.items():
        m.info = {
            "live_gflop_per_s": round(flops / m.median / 1e9, 1),
            "bytes": moved,
            "gb_per_s": round(moved / m.median / 1e9, 3),
            "error_vs_float64": errors[name.removesuffix(" graphed")],
            "peak_bytes": harness.peak_bytes_of(name, works),
            "default": name.removeprefix("pygen ") == pygen.explain(OP, *tensors).backend,
        }
    collect(OP, case.name, direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, lambda case: case.name)


@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_masked_linear(benchmark, group: dict[str, Measurement]) -> None:
    """Records pygen's default; the table and the stored rows have all providers."""
    harness.record(benchmark, group[next(n for n in group if group[n].info["default"])])
