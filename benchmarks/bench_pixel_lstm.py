"""pixel_lstm against the loop over rows or diagonals, eager and compiled: a layer's recurrence, forward and with backward.

The loop is written well: the map is skewed once, the gates of a step take one convolution and one sigmoid.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import harness
import pytest
import torch
import torch.nn.functional as F
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen.functional import pixel_lstm
from pygen.reference.models.pixel_rnn import skew, unskew

OP = "pixel_lstm"
# (N, H, side, direction)
CASES = [
    (16, 32, 28, "right"),
    (16, 32, 28, "down"),
    (16, 64, 28, "right"),
    (16, 64, 28, "down"),
    (64, 128, 32, "right"),
]
DIRECTIONS = ("forward", "forward+backward")

Case = tuple[int, int, int, str]
Op = Callable[[Tensor, Tensor], Tensor]


def loop(x: Tensor, weight: Tensor, direction: str) -> Tensor:
    """[N, 4 H, R, W] -> [N, H, R, W]"""
    diagonal, (n, gates) = direction != "down", x.shape[:2]
    lines = (
        (skew(x).transpose(2, 3) if diagonal else x).transpose(0, 2).transpose(1, 2).contiguous()
    )  # [lines, N, 4 H, L]
    hidden, taps = gates // 4, weight.shape[2]
    pads = (1, 0) if diagonal else (taps // 2, taps // 2)
    h = c = x.new_zeros(n, hidden, lines.shape[3])
    outputs = []
    for line in lines:
        sums = line + F.conv1d(F.pad(h, pads), weight)
        o, f, i = torch.sigmoid(sums[:, : 3 * hidden]).chunk(3, 1)
        c = f * c + i * torch.tanh(sums[:, 3 * hidden :])
        h = o * torch.tanh(c)
        outputs.append(h)
    made = torch.stack(outputs, 2)
    return unskew(made.transpose(2, 3)) if diagonal else made


def _providers(direction: str) -> dict[str, Op]:
    torch._dynamo.reset()
    ops: dict[str, Op] = {"eager": partial(loop, direction=direction)}
    ops["compiled"] = harness.compiled(ops["eager"])
    for name, reason in pygen.backends().items():
        runs_here = name in (("cpu",) if DEVICE.type == "cpu" else ("triton", "cuda"))
        if reason is None and runs_here:
            ops[f"pygen {name}"] = partial(pixel_lstm, direction=direction, backend=name)
    return ops


def _inputs(case: Case) -> tuple[Tensor, Tensor]:
    n, hidden, side, direction = case
    g = torch.Generator().manual_seed(0)
    taps = 3 if direction == "down" else 2
    x = torch.randn((n, 4 * hidden, side, side), generator=g)
    weight = torch.randn((4 * hidden, hidden, taps), generator=g) / (hidden * taps) ** 0.5
    return x.to(DEVICE).requires_grad_(), weight.to(DEVICE).requires_grad_()


def _checked_error(name: str, op: Op, direction: str, tensors: tuple[Tensor, ...]) -> float:
    """Of h and the gradients of a few images against float64, each over its largest value; fails where ours is wrong."""
    results = []
    for of, dtype in ((partial(loop, direction=direction), torch.float64), (op, torch.float32)):
        x, weight = (t.detach()[: 2 if t.dim() == 4 else None].to(dtype).requires_grad_() for t in tensors)
        h = of(x, weight)
        results.append([h.detach(), *torch.autograd.grad(h, (x, weight), torch.ones_like(h))])
    error = max(((b.double() - a).abs().max() / a.abs().max()).item() for a, b in zip(*results, strict=True))
    if name.startswith("pygen "):
        assert error <= 64 * torch.finfo(torch.float32).eps, f"{name} is off by {error}"
    return error


def _work(op: Op, direction: str, tensors: tuple[Tensor, Tensor]) -> Work:
    if direction == "forward":
        fixed = [t.detach() for t in tensors]
        return lambda: op(*fixed)
    ones = torch.ones((tensors[0].shape[0], tensors[1].shape[1], *tensors[0].shape[2:]), device=DEVICE)
    return lambda: torch.autograd.grad(op(*tensors), tensors, ones)


def _case_id(case: Case) -> str:
    n, hidden, side, direction = case
    return f"{n}x{side}x{side} H={hidden} {direction} float32"


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    tensors = _inputs(case)
    ops = _providers(case[3])
    # Of compile, what it compiled for a few images says nothing of the batch; it is the loop that is checked.
    checked = lambda name, op: _checked_error(name, ops["eager"] if name == "compiled" else op, case[3], tensors)  # noqa: E731
    errors = harness.errors_of(ops, checked)
    works = {name: _work(op, direction, tensors) for name, op in ops.items()}
    numbers = tensors[0].numel() * (1.25 if direction == "forward" else 4.75)
    measured = harness.compare(works, int(4 * numbers), errors)
    collect(OP, _case_id(case), direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, _case_id)
NAMES = list(_providers("right"))
NAMES += [f"{name} graphed" for name in NAMES] if DEVICE.type == "cuda" else []


@pytest.mark.parametrize("group", GROUPS, indirect=True)
@pytest.mark.parametrize("provider", NAMES)
def bench_pixel_lstm(benchmark, group: dict[str, Measurement], provider: str) -> None:
    if provider not in group:
        pytest.skip("no provider of this direction or case")
    harness.record(benchmark, group[provider])
