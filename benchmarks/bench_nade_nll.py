"""nade_nll against the form by cumulated sums, eager and compiled, and against the loop; samples against the twin's loop.

C++ skips the sigmoids of inputs that are 0, so cases say how many inputs are 1: 13 % are in binarised MNIST.
"""

from __future__ import annotations

from collections.abc import Callable

import harness
import pytest
import torch
import torch.nn.functional as F
from harness import DEVICE, Measurement, Work
from torch import Tensor, nn

import pygen
from pygen import models
from pygen.functional import nade_nll
from pygen.models import _engines as engine_table
from pygen.reference import models as plain_models

OP = "nade_nll"
# (N, D, H, share of ones)
CASES = [(64, 784, 500, 0.13), (128, 784, 500, 0.13), (64, 784, 500, 0.5), (100, 64, 128, 0.4)]
DIRECTIONS = ("forward", "forward+backward", "sample")

Case = tuple[int, int, int, float]
Op = Callable[..., Tensor]


def cumulated(x: Tensor, w: Tensor, c: Tensor, v: Tensor, b: Tensor) -> Tensor:
    """Everything at once, [N, D, H] in memory several times."""
    t = x.to(w.dtype)
    a = c + F.pad(torch.cumsum(t.unsqueeze(2) * w, 1), (0, 0, 1, 0))[:, :-1]
    logits = (a.sigmoid() * v).sum(2) + b
    return F.binary_cross_entropy_with_logits(logits, t, reduction="sum") / len(x)


def loop(x: Tensor, w: Tensor, c: Tensor, v: Tensor, b: Tensor) -> Tensor:
    """Input after input, as the paper's algorithm has it."""
    t = x.to(w.dtype)
    a, logits = c.expand(len(x), -1), []
    for d in range(len(w)):
        logits.append(a.sigmoid() @ v[d])
        a = a + t[:, d : d + 1] * w[d]
    return F.binary_cross_entropy_with_logits(torch.stack(logits, 1) + b, t, reduction="sum") / len(x)


def _providers() -> dict[str, Op]:
    torch._dynamo.reset()
    ops: dict[str, Op] = {"eager": cumulated, "compiled": harness.compiled(cumulated), "eager loop": loop}
    for name, reason in pygen.backends().items():
        runs_here = name in (("cpu",) if DEVICE.type == "cpu" else ("triton", "cuda"))
        if reason is None and runs_here:
            ops[f"pygen {name}"] = lambda *tensors, name=name: nade_nll(*tensors, backend=name)
    return ops


def _models(case: Case) -> tuple[nn.Module, nn.Module]:
    _, inputs, hidden, _ = case
    torch.manual_seed(0)
    plain, ours = plain_models.NADE(inputs, hidden), models.NADE(inputs, hidden)
    with torch.no_grad():  # as many ones as the case says
        plain.output_bias.fill_(torch.tensor(case[3]).logit())
        plain.output_weight.mul_(0.1)
    ours.load_state_dict(plain.state_dict())
    return plain.to(DEVICE), ours.to(DEVICE)


def _inputs(case: Case) -> tuple[Tensor, ...]:
    n, inputs, _, share = case
    model = _models(case)[1]
    x = (torch.rand(n, inputs, generator=torch.Generator().manual_seed(0)) < share).to(DEVICE, torch.uint8)
    return x, model.weight, model.hidden_bias, model.output_weight, model.output_bias


def _checked_error(name: str, op: Op, tensors: tuple[Tensor, ...]) -> float:
    """Of the loss and the gradients against float64, each over its largest value; fails where ours is wrong."""
    x, *parameters = tensors
    results = []
    for of, dtype in ((cumulated, torch.float64), (op, torch.float32)):
        leaves = [p.detach().to(dtype).requires_grad_() for p in parameters]
        nll = of(x, *leaves)
        results.append([nll.detach(), *torch.autograd.grad(nll, leaves)])
    error = max(((b.double() - a).abs().max() / a.abs().max()).item() for a, b in zip(*results, strict=True))
    if name.startswith("pygen "):
        assert error <= 16 * torch.finfo(torch.float32).eps, f"{name} is off by {error}"
    return error


def _work(op: Op, direction: str, tensors: tuple[Tensor, ...]) -> Work:
    x, *parameters = tensors
    if direction == "forward":
        fixed = [p.detach() for p in parameters]
        return lambda: op(x, *fixed)
    return lambda: torch.autograd.grad(op(x, *parameters), parameters)


def _samplers(case: Case) -> dict[str, Work]:
    plain, ours = _models(case)
    works: dict[str, Work] = {"eager": lambda: plain.sample(case[0], seed=1)}
    for engine in ("cached", "cpu", "cuda"):
        if engine_table.why_not(ours, engine) is None:
            name = "cached eager" if engine == "cached" else f"pygen {engine}"
            works[name] = lambda engine=engine: ours.sample(case[0], seed=1, engine=engine)
    expected = works["eager"]()

    def check(name: str, work: Work) -> None:  # in float32 a sum's last bit may decide
        assert (work() != expected).float().mean() < 1e-3, f"{name} draws other values"

    harness.errors_of(works, check)
    return works


def _case_id(case: Case) -> str:
    n, inputs, hidden, share = case
    return f"{n}x{inputs} H={hidden} {share:.0%} ones float32"


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    tensors = _inputs(case)
    weights = sum(t.numel() * t.element_size() for t in tensors[1:])
    moved = weights * (3 if direction == "forward+backward" else 1) + tensors[0].numel()
    if direction == "sample":
        works = _samplers(case)
        measured = harness.measure(works)  # not as CUDA graphs: samplers look at what was drawn
        harness.describe(measured, works, moved, dict.fromkeys(works, 0.0))
    else:
        ops = _providers()
        errors = harness.errors_of(ops, lambda name, op: _checked_error(name, op, tensors))
        works = {name: _work(op, direction, tensors) for name, op in ops.items()}
        measured = harness.compare(works, moved, errors)
    collect(OP, _case_id(case), direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, _case_id)
NAMES = list(dict.fromkeys([*_providers(), "cached eager"]))
NAMES += [f"{name} graphed" for name in NAMES] if DEVICE.type == "cuda" else []


@pytest.mark.parametrize("group", GROUPS, indirect=True)
@pytest.mark.parametrize("provider", NAMES)
def bench_nade_nll(benchmark, group: dict[str, Measurement], provider: str) -> None:
    if provider not in group:
        pytest.skip("no provider of this direction or case")
    harness.record(benchmark, group[provider])
