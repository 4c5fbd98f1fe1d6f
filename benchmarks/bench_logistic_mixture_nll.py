"""logistic_mixture_nll against the lines that ports of PixelCNN++ share, eager and compiled, forward and forward+backward."""

from __future__ import annotations

from collections.abc import Callable

import harness
import pytest
import torch
import torch.nn.functional as F
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen.functional import logistic_mixture_nll

OP = "logistic_mixture_nll"
COMPONENTS = 10
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
# (batch, dtype, layout) of 32x32 RGB images.
CASES = [(n, dtype, layout) for n in (16, 64) for dtype in (torch.float32, torch.bfloat16) for layout in LAYOUTS]
DIRECTIONS = ("forward", "forward+backward")
PASSES = {"forward": 1, "forward+backward": 3}  # of params: forward and backward read it, backward writes its gradient

Op = Callable[[Tensor, Tensor], Tensor]


def plain(params: Tensor, x: Tensor) -> Tensor:
    """As ports write it: a difference of sigmoids, the density at the centre where that is below 1e-5; nats over the batch."""
    v = (x.to(params.dtype) * (2 / 255) - 1).permute(0, 2, 3, 1)
    p = params.permute(0, 2, 3, 1)
    n, height, width, channels = v.shape
    logits, rest = p[..., :COMPONENTS], p[..., COMPONENTS:].reshape(n, height, width, channels, 3 * COMPONENTS)
    means, log_scales = rest[..., :COMPONENTS], rest[..., COMPONENTS : 2 * COMPONENTS].clamp(min=-7.0)
    coefficients = torch.tanh(rest[..., 2 * COMPONENTS :])
    v = v.unsqueeze(-1).expand(n, height, width, channels, COMPONENTS)
    green = means[..., 1, :] + coefficients[..., 0, :] * v[..., 0, :]
    blue = means[..., 2, :] + coefficients[..., 1, :] * v[..., 0, :] + coefficients[..., 2, :] * v[..., 1, :]
    centred = v - torch.stack((means[..., 0, :], green, blue), dim=3)
    inverse = torch.exp(-log_scales)
    upper, lower, middle = inverse * (centred + 1 / 255), inverse * (centred - 1 / 255), inverse * centred
    mass = torch.sigmoid(upper) - torch.sigmoid(lower)
    density = middle - log_scales - 2 * F.softplus(middle)
    inner = torch.where(mass > 1e-5, torch.log(mass.clamp(min=1e-12)), density - 4.8441870864585)  # log 127.5
    log_p = torch.where(v < -0.999, upper - F.softplus(upper), torch.where(v > 0.999, -F.softplus(lower), inner))
    joint = log_p.sum(3) + F.log_softmax(logits, dim=-1)
    return -torch.logsumexp(joint, dim=-1).sum() / n


def _providers() -> dict[str, Op]:
    torch._dynamo.reset()  # past eight shapes of one function Dynamo would quietly run it eagerly
    ops: dict[str, Op] = {"eager": plain, "compiled": harness.compiled(plain)}
    for name, reason in pygen.backends().items():
        runs_here = name in (("cpu",) if DEVICE.type == "cpu" else ("triton", "cuda"))
        if reason is None and runs_here:
            ops[f"pygen {name}"] = lambda params, x, name=name: logistic_mixture_nll(params, x, backend=name)
    return ops


def _work(op: Op, direction: str, params: Tensor, x: Tensor) -> Work:
    if direction == "forward":
        return lambda: op(params, x)
    leaf = params.detach().requires_grad_()
    return lambda: torch.autograd.grad(op(leaf, x), leaf)


def _checked_error(name: str, op: Op, params: Tensor, x: Tensor) -> float:
    """Of loss and gradient against the exact ones in float64, each over its largest value; fails where ours is wrong."""
    wide = params.double().contiguous().requires_grad_()
    truth = logistic_mixture_nll(wide, x, backend="reference")
    (truth_grad,) = torch.autograd.grad(truth, wide)
    leaf = params.detach().requires_grad_()
    nll = op(leaf, x)
    (grad,) = torch.autograd.grad(nll, leaf)
    errors = (
        (nll.double() - truth).abs() / truth.abs(),
        (grad.double() - truth_grad).abs().max() / truth_grad.abs().max(),
    )
    error = max(e.item() for e in errors)
    if name.startswith("pygen "):
        assert error <= 30 * torch.finfo(params.dtype).eps, f"{name} is off by {error}"
    return error


def _inputs(n: int, dtype: torch.dtype, layout: str) -> tuple[Tensor, Tensor]:
    """Means where images have them, scales of a few levels: what a model in training gives."""
    g = torch.Generator().manual_seed(0)
    params = torch.randn(n, 10 * COMPONENTS, 32, 32, generator=g) * 0.5
    for c in range(3):
        first = COMPONENTS * (2 + 3 * c)
        params[:, first : first + COMPONENTS] -= 3.0
    x = torch.randint(0, 256, (n, 3, 32, 32), generator=g, dtype=torch.uint8)
    return params.to(DEVICE, dtype).contiguous(memory_format=LAYOUTS[layout]), x.to(DEVICE)


def _case_id(case: tuple[int, torch.dtype, str]) -> str:
    n, dtype, layout = case
    return f"{n}x3x32x32 K={COMPONENTS} {str(dtype).removeprefix('torch.')} {layout}"


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    params, x = _inputs(*case)
    ops = _providers()
    errors = harness.errors_of(ops, lambda name, op: _checked_error(name, op, params, x))
    works = {name: _work(op, direction, params, x) for name, op in ops.items()}
    moved = PASSES[direction] * params.numel() * params.element_size()
    measured = harness.compare(works, moved, errors)
    collect(OP, _case_id(case), direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, _case_id)
NAMES = list(_providers())
NAMES += [f"{name} graphed" for name in NAMES] if DEVICE.type == "cuda" else []


@pytest.mark.parametrize("group", GROUPS, indirect=True)
@pytest.mark.parametrize("provider", NAMES)
def bench_logistic_mixture_nll(benchmark, group: dict[str, Measurement], provider: str) -> None:
    harness.record(benchmark, group[provider])
