"""A whole training step of PixelCNN++ on 32x32 RGB images of 256 levels: the plain twin, also compiled, beside pygen's model
as it is and compiled.
"""

from __future__ import annotations

from collections.abc import Callable

import harness
import pytest
import torch
from harness import DEVICE, Measurement, Work
from torch import Tensor, nn

from pygen import models
from pygen.reference import models as plain_models

OP = "pixelcnn_pp_step"
STEP = "zero_grad, loss, backward, Adam"
BATCH, SIDE = 8, 32
OPTIONS = {"hidden_channels": 64, "num_resnets": 1, "dropout": 0.0}
CASE = f"{BATCH}x3x{SIDE}x{SIDE} C=64, 1 layer in each of 3 scales, float32"
PROVIDERS = ("eager", "compiled", "pygen default", "pygen compiled")


def _models() -> dict[str, nn.Module]:
    """Equal weights."""
    torch.manual_seed(0)
    made: dict[str, nn.Module] = {}
    for name in PROVIDERS:
        made[name] = (models if name.startswith("pygen") else plain_models).PixelCNNPP(**OPTIONS)
        made[name].load_state_dict(made["eager"].state_dict())
        made[name].to(DEVICE)
    return made


def _images() -> Tensor:
    """Smooth ones, as a mixture of logistics expects them."""
    noise = torch.randn(BATCH, 3, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(noise, scale_factor=4, mode="bilinear")
    return (128 + 50 * smooth).clamp(0, 255).to(torch.uint8).to(DEVICE)


def _step(model: nn.Module, x: Tensor, compiled: bool) -> Work:
    optimizer = torch.optim.Adam(model.parameters(), 1e-5, fused=True)
    loss_of: Callable[[Tensor], Tensor] = torch.compile(model.loss, dynamic=False) if compiled else model.loss

    def step() -> None:
        optimizer.zero_grad()
        loss_of(x).backward()
        optimizer.step()

    return step


def _results(model: nn.Module, x: Tensor) -> list[Tensor]:
    loss = model.loss(x)
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


def _check(made: dict[str, nn.Module], x: Tensor) -> dict[str, float]:
    """Relative error of each one's loss and largest gradient against float64; fails where one is wrong."""
    truth = plain_models.PixelCNNPP(**OPTIONS).double().to(DEVICE)
    truth.load_state_dict(made["eager"].state_dict())
    expected = _results(truth, x)

    def error(model: nn.Module) -> float:
        pairs = zip(_results(model, x), expected, strict=True)
        return max(((g.double() - t).abs().max() / t.abs().max().clamp(min=1e-6)).item() for g, t in pairs)

    return harness.errors_like_eager(made, error, 1e-5)


@pytest.fixture(scope="module")
def group(collect) -> dict[str, Measurement]:
    made, x = _models(), _images()
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        errors = _check(made, x)
    works = {name: _step(model, x, name.endswith("compiled")) for name, model in made.items()}
    measured = harness.measure(works, budget_s=20)
    for name, m in measured.items():
        m.info = {"error_vs_float64": errors[name], "peak_bytes": harness.peak_bytes_of(name, works)}
    collect(OP, CASE, STEP, measured)
    return measured


@pytest.mark.benchmark(group=f"{CASE} {STEP}")
@pytest.mark.parametrize("provider", PROVIDERS)
def bench_pixelcnn_pp_step(benchmark, group: dict[str, Measurement], provider: str) -> None:
    harness.record(benchmark, group[provider])
