"""discriminator_loss and generator_loss against the lines people write, eager and compiled, forward and forward+backward."""

from __future__ import annotations

from collections.abc import Callable

import harness
import pytest
import torch
import torch.nn.functional as F
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen.functional import discriminator_loss, generator_loss

OP = "gan_loss"
SHAPES = [(64,), (64, 1, 30, 30), (1 << 20,)]  # one logit a sample, PatchGAN's, and more than any cache
if DEVICE.type == "cuda":
    SHAPES = [(1 << 24,), *reversed(SHAPES)]  # of most worth first
KINDS = ("nonsaturating", "hinge", "relativistic_average")
CASES = [(player, kind, shape) for shape in SHAPES for player in ("D", "G") for kind in KINDS]
if DEVICE.type == "cuda":
    CASES.insert(1, ("D", "nonsaturating", (1 << 26,)))
DIRECTIONS = ("forward", "forward+backward")

Loss = Callable[[Tensor, Tensor], Tensor]  # (real, fake) -> []


def _bce(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


# As people write them; where they write both softplus and cross-entropy, both.
PLAIN: dict[tuple[str, str], dict[str, Loss]] = {
    ("D", "nonsaturating"): {
        "eager": lambda r, f: F.softplus(-r).mean() + F.softplus(f).mean(),
        "eager BCE": lambda r, f: _bce(r, 1.0) + _bce(f, 0.0),
    },
    ("G", "nonsaturating"): {
        "eager": lambda r, f: F.softplus(-f).mean(),
        "eager BCE": lambda r, f: _bce(f, 1.0),
    },
    ("D", "hinge"): {"eager": lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean()},
    ("G", "hinge"): {"eager": lambda r, f: -f.mean()},
    ("D", "relativistic_average"): {
        "eager": lambda r, f: F.softplus(f.mean() - r).mean() + F.softplus(f - r.mean()).mean(),
        "eager BCE": lambda r, f: _bce(r - f.mean(), 1.0) + _bce(f - r.mean(), 0.0),
    },
    ("G", "relativistic_average"): {
        "eager": lambda r, f: F.softplus(r - f.mean()).mean() + F.softplus(r.mean() - f).mean(),
        "eager BCE": lambda r, f: _bce(r - f.mean(), 0.0) + _bce(f - r.mean(), 1.0),
    },
}


def _ours(player: str, kind: str, backend: str) -> Loss:
    if player == "D":
        return lambda r, f: discriminator_loss(real=r, fake=f, kind=kind, backend=backend)
    if kind == "relativistic_average":
        return lambda r, f: generator_loss(fake=f, real=r, kind=kind, backend=backend)
    return lambda r, f: generator_loss(fake=f, kind=kind, backend=backend)


def _providers(player: str, kind: str) -> dict[str, Loss]:
    torch._dynamo.reset()  # past eight shapes of one function Dynamo would quietly run it eagerly
    ops = dict(PLAIN[player, kind])
    ops["compiled"] = harness.compiled(ops["eager"])
    for name in ("cpu", "triton", "cuda"):
        runs_here = name in (("cpu",) if DEVICE.type == "cpu" else ("triton", "cuda"))
        if runs_here and pygen._dispatch.why_not(OP, name, DEVICE.type) is None:
            ops[f"pygen {name}"] = _ours(player, kind, name)
    return ops


def _leaves(player: str, real: Tensor, fake: Tensor) -> tuple[tuple[Tensor, Tensor], list[Tensor]]:
    """The logits, and those that a step wants the gradients of: G's step leaves the real ones alone."""
    real, fake = real.detach().requires_grad_(player == "D"), fake.detach().requires_grad_()
    return (real, fake), [real, fake] if player == "D" else [fake]


def _work(op: Loss, player: str, direction: str, real: Tensor, fake: Tensor) -> Work:
    if direction == "forward":
        return lambda: op(real, fake)
    inputs, wanted = _leaves(player, real, fake)
    return lambda: torch.autograd.grad(op(*inputs), wanted)


def _bytes(player: str, kind: str, direction: str, logits: Tensor) -> int:
    """The least that must move: one pass reads the logits and writes gradients; with means three passes read."""
    own = 2 if player == "D" else 1  # sides with a gradient
    passes = 4 if kind == "relativistic_average" else own
    if direction != "forward":
        passes += 2 * own if kind == "relativistic_average" else own
    return passes * logits.numel() * logits.element_size()


def _checked_error(name: str, op: Loss, player: str, eager: Loss, real: Tensor, fake: Tensor) -> float:
    """Largest error of loss and gradients, each over its largest value; fails where a provider is wrong."""
    results = []
    for loss_of, sides in ((op, (real, fake)), (eager, (real.double(), fake.double()))):
        inputs, wanted = _leaves(player, *sides)
        loss = loss_of(*inputs)
        results.append([loss.detach(), *torch.autograd.grad(loss, wanted)])
    error = max(((g.double() - t).abs().max() / t.abs().max()).item() for g, t in zip(*results, strict=True))
    assert error <= 64 * torch.finfo(real.dtype).eps, f"{name} is off by {error}"
    return error


def _case_id(case: tuple[str, str, tuple[int, ...]]) -> str:
    return f"{case[0]} {case[1]} {'x'.join(map(str, case[2]))}"


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    player, kind, shape = case
    # A real step's logits: real ones mostly above 0, fake ones below.
    real, fake = torch.randn(shape, device=DEVICE) + 1, torch.randn(shape, device=DEVICE) - 1
    ops = _providers(player, kind)
    errors = harness.errors_of(ops, lambda name, op: _checked_error(name, op, player, ops["eager"], real, fake))
    works = {name: _work(op, player, direction, real, fake) for name, op in ops.items()}
    moved = _bytes(player, kind, direction, fake)
    measured = harness.compare(works, moved, errors, budget_s=1.0)
    collect(OP, _case_id(case), direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, _case_id)


@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_gan_loss(benchmark, group: dict[str, Measurement]) -> None:
    """Records pygen's first backend; the table and the stored rows have all providers."""
    harness.record(benchmark, group[next(n for n in group if n.startswith("pygen "))])
