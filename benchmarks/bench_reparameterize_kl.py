"""reparameterize_kl against the lines people write, eager and compiled, forward and forward+backward."""

from __future__ import annotations

import math
from collections.abc import Callable

import harness
import pytest
import torch
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen.functional import reparameterize_kl

OP = "reparameterize_kl"
SHAPES = [(128, 64), (1024, 256), (4096, 1024), (16, 4, 64, 64)]  # MLP VAEs, a wide one, a latent map
CASES = [(shape, dtype) for shape in SHAPES for dtype in (torch.float32, torch.bfloat16)]
if DEVICE.type == "cuda":
    CASES = [((8192, 4096), torch.float32), ((8192, 4096), torch.bfloat16), *reversed(CASES)]  # of most worth first
DIRECTIONS = ("forward", "forward+backward")

# Tensor passes: forward reads mu, logvar and writes z; backward reads grad_z, mu, logvar and writes two gradients.
PASSES = {"forward": 3, "forward+backward": 8}

Op = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def plain(mu: Tensor, logvar: Tensor, eps: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """As people write it: z, and the KL summed over latents and averaged over the batch."""
    std = torch.exp(0.5 * logvar)
    z = mu + std * (torch.randn_like(std) if eps is None else eps)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / mu.shape[0]
    return z, kl


def _providers() -> dict[str, Op]:
    torch._dynamo.reset()  # past eight shapes of one function Dynamo would quietly run it eagerly
    ops: dict[str, Op] = {"eager": plain, "compiled": harness.compiled(plain)}
    for name, reason in pygen.backends().items():
        runs_here = name in (("cpu",) if DEVICE.type == "cpu" else ("triton", "cuda"))
        if reason is None and runs_here:
            ops[f"pygen {name}"] = lambda mu, logvar, name=name: reparameterize_kl(mu, logvar, backend=name)
    return ops


def _work(op: Op, direction: str, mu: Tensor, logvar: Tensor, grad_z: Tensor) -> Work:
    if direction == "forward":
        return lambda: op(mu, logvar)
    mu, logvar = mu.detach().requires_grad_(), logvar.detach().requires_grad_()
    one = torch.ones((), device=DEVICE)

    def both() -> None:
        z, kl = op(mu, logvar)
        torch.autograd.grad((z, kl), (mu, logvar), (grad_z, one.to(kl.dtype)))

    return both


def _error(got: tuple[Tensor, ...], truth: tuple[Tensor, ...]) -> float:
    """Largest difference, each tensor's over its largest value."""
    return max(((g.double() - t).abs().max() / t.abs().max()).item() for g, t in zip(got, truth, strict=True))


def _checked_error(name: str, op: Op, mu: Tensor, logvar: Tensor) -> float | None:
    """Error of z and KL against float64 on the same inputs; fails where a provider is wrong. None: own noise."""
    wide = (mu.double(), logvar.double())
    allowed = 30 * torch.finfo(mu.dtype).eps
    if name == "eager":
        eps = torch.randn_like(mu)
        error = _error(plain(mu, logvar, eps), plain(*wide, eps.double()))
        # The plain KL sums terms in its own dtype: the error is reported, it is not ours to judge.
        return error
    if name.startswith("pygen "):
        backend = name.removeprefix("pygen ")
        got = reparameterize_kl(mu, logvar, seed=1, backend=backend)
        error = _error(got, reparameterize_kl(*wide, seed=1, backend="reference"))
        assert error <= allowed, f"{name} is off by {error}"
        return error
    z, kl = op(mu, logvar)
    assert abs(kl.double() / plain(*wide)[1] - 1) < 0.05, f"{name} computes another KL"
    normal = (z.double() - wide[0]) / torch.exp(0.5 * wide[1])
    off = 0.05 + 5 / math.sqrt(normal.numel())  # rounding, and the chance of few draws
    assert abs(normal.mean()) < off and abs(normal.std() - 1) < off, f"{name} draws something else"
    return None


def _case_id(case: tuple[tuple[int, ...], torch.dtype]) -> str:
    return f"{'x'.join(map(str, case[0]))} {str(case[1]).removeprefix('torch.')}"


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    shape, dtype = case
    mu, logvar, grad_z = (torch.randn(shape, device=DEVICE).to(dtype) for _ in range(3))
    ops = _providers()
    errors = harness.errors_of(ops, lambda name, op: _checked_error(name, op, mu, logvar))
    works = {name: _work(op, direction, mu, logvar, grad_z) for name, op in ops.items()}
    moved = PASSES[direction] * mu.numel() * mu.element_size()
    measured = harness.compare(works, moved, errors)
    collect(OP, _case_id(case), direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, _case_id)
NAMES = list(_providers())
NAMES += [f"{name} graphed" for name in NAMES] if DEVICE.type == "cuda" else []


@pytest.mark.parametrize("group", GROUPS, indirect=True)
@pytest.mark.parametrize("provider", NAMES)
def bench_reparameterize_kl(benchmark, group: dict[str, Measurement], provider: str) -> None:
    harness.record(benchmark, group[provider])
