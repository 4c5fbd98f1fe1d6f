"""A whole training step of PixelCNN on 28x28: the plain twin in both idioms and compiled, beside pygen's model as it is and
compiled.

The masked convolutions are only a part of the step: their share of the plain step bounds what skipping dead taps can give
(Amdahl), and is printed with it.
"""

from __future__ import annotations

from collections.abc import Callable

import harness
import pytest
import torch
from harness import DEVICE, Measurement, Work
from torch import nn

import pygen
from pygen.models import PixelCNN
from pygen.reference import models as plain_models
from pygen.reference.models._masked import MaskedConv2d as PlainMaskedConv2d

OP = "pixelcnn_step"
BATCH, SIDE, HIDDEN = 32, 28, 64
CASE = f"{BATCH}x1x{SIDE}x{SIDE} C={HIDDEN} float32"
STEP = "zero_grad, loss, backward, Adam"

Model = PixelCNN | plain_models.PixelCNN


def _models() -> dict[str, Model]:
    """Equal weights."""
    torch.manual_seed(0)
    plain = plain_models.PixelCNN(hidden_channels=HIDDEN)
    models: dict[str, Model] = {
        "eager": plain,
        "eager .data": plain_models.DataPixelCNN(hidden_channels=HIDDEN),
        "compiled": plain_models.PixelCNN(hidden_channels=HIDDEN),
    }
    for name, reason in pygen.backends().items():
        runs_here = name in (("cpu",) if DEVICE.type == "cpu" else ("triton", "cuda"))
        if reason is None and runs_here and name not in _lacking():
            models[f"pygen {name}"] = _on_backend(PixelCNN(hidden_channels=HIDDEN), name)
    models["pygen default"] = PixelCNN(hidden_channels=HIDDEN)
    models["pygen compiled"] = PixelCNN(hidden_channels=HIDDEN)
    for model in models.values():
        model.load_state_dict(plain.state_dict())
        model.to(DEVICE)
    return models


def _lacking() -> set[str]:
    return {name for name in pygen.backends() if pygen._dispatch.why_not("masked_conv2d", name, DEVICE.type)}


def _on_backend(model: PixelCNN, backend: str) -> PixelCNN:
    for module in model.modules():
        if isinstance(module, pygen.nn.MaskedConv2d):
            module.backend = backend
    return model


def _step(model: Model, x: torch.Tensor, compiled: bool) -> Work:
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
    loss_of: Callable[[torch.Tensor], torch.Tensor] = (
        torch.compile(model.loss, dynamic=False) if compiled else model.loss
    )

    def step() -> None:
        optimizer.zero_grad()
        loss_of(x).backward()
        optimizer.step()

    return step


def _check(models: dict[str, Model], x: torch.Tensor) -> dict[str, float]:
    """Relative error of each one's loss and largest gradient against float64; fails where one is wrong."""
    truth = plain_models.PixelCNN(hidden_channels=HIDDEN).double().to(DEVICE)
    truth.load_state_dict(models["eager"].state_dict())
    expected = _results(truth, x)

    def error(model: Model) -> float:
        pairs = zip(_results(model, x), expected, strict=True)
        return max(((g.double() - t).abs().max() / t.abs().max().clamp(min=1e-6)).item() for g, t in pairs)

    return harness.errors_like_eager(models, error, 1e-5)


def _results(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The loss and the gradients, dead weights' put to zero: the .data idiom computes them in vain."""
    loss = model.loss(x)
    grads = list(torch.autograd.grad(loss, list(model.parameters())))
    twin = plain_models.PixelCNN(hidden_channels=HIDDEN)
    masks = {f"{key}.weight": m.mask.to(x.device) for key, m in twin.named_modules() if hasattr(m, "mask")}
    names = [name for name, _ in model.named_parameters()]
    return [loss.detach(), *(g * masks[n] if n in masks else g for n, g in zip(names, grads, strict=True))]


def _masked_seconds(model: nn.Module, x: torch.Tensor) -> float:
    """Median seconds that the plain model's masked convolutions take alone, forward and backward."""
    works = {}
    for key, layer in model.named_modules():
        if isinstance(layer, PlainMaskedConv2d):
            first = layer.in_channels == x.shape[1]
            image = torch.randn(len(x), layer.in_channels, *x.shape[2:], device=DEVICE, requires_grad=not first)
            grad = torch.randn(len(x), layer.out_channels, *x.shape[2:], device=DEVICE)
            wanted = [layer.weight, layer.bias] + ([] if first else [image])
            works[key] = lambda layer=layer, image=image, grad=grad, wanted=wanted: torch.autograd.grad(
                layer(image), wanted, grad
            )
    return sum(m.median for m in harness.measure(works, budget_s=4.0).values())


@pytest.fixture(scope="module")
def group(collect) -> dict[str, Measurement]:
    models = _models()
    x = (torch.rand(BATCH, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) < 0.2).to(torch.uint8).to(DEVICE)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        errors = _check(models, x)
    measured = harness.measure(
        {name: _step(model, x, name.endswith("compiled")) for name, model in models.items()}, budget_s=20
    )
    masked_s = _masked_seconds(models["eager"], x)
    share = masked_s / measured["eager"].median
    live_taps = (24 + 7 * 5) / (49 + 7 * 9)
    bound = 1 / max(1e-9, 1 - min(share, 1.0))
    for name, m in measured.items():
        m.info = {"error_vs_float64": errors[name], "masked_share": round(share, 3), "amdahl_bound": round(bound, 2)}
    print(
        f"\nmasked convolutions: {1e3 * masked_s:.1f} of {1e3 * measured['eager'].median:.1f} ms, {100 * share:.0f} % of the"
        f" plain step, {100 * live_taps:.0f} % of their taps live; a step without them would be {bound:.2f}x faster"
    )
    collect(OP, CASE, STEP, measured)
    return measured


@pytest.mark.benchmark(group=f"{CASE} {STEP}")
@pytest.mark.parametrize("provider", list(_models()))
def bench_pixelcnn_step(benchmark, group: dict[str, Measurement], provider: str) -> None:
    harness.record(benchmark, group[provider])
