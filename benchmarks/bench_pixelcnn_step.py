"""A whole training step of PixelCNN on 28x28: the plain twin in both idioms and compiled, beside pygen's model as it is and
compiled.

The masked convolutions are only a part of the step: their share of the plain step bounds what skipping dead taps can give
(Amdahl), and is printed with it. Of convolutions a GPU multiplies float32 in TF32, where errors are taken too.
"""

from __future__ import annotations

from dataclasses import dataclass

import harness
import pytest
import torch
from attempts import Group
from harness import DEVICE, Measurement
from torch import nn
from training import LAYOUT, STEP, Training

import pygen
from pygen.models import PixelCNN
from pygen.reference import models as plain_models
from pygen.reference.models._masked import MaskedConv2d as PlainMaskedConv2d

OP = "pixelcnn_step"

Model = PixelCNN | plain_models.PixelCNN


@dataclass(frozen=True)
class Case:
    channels: int = 64
    batch: int = 32
    side: int = 28
    blocks: int = 7

    def __str__(self) -> str:
        return f"{self.batch}x1x{self.side}x{self.side} C={self.channels} float32"


def _models(case: Case) -> dict[str, nn.Module]:
    """Equal weights."""
    torch.manual_seed(0)
    options = {"hidden_channels": case.channels, "num_blocks": case.blocks}
    plain = plain_models.PixelCNN(**options)
    models: dict[str, Model] = {
        "eager": plain,
        "eager .data": plain_models.DataPixelCNN(**options),
        "compiled": plain_models.PixelCNN(**options),
    }
    for name, reason in pygen.backends().items():
        runs_here = name in (("cpu",) if DEVICE.type == "cpu" else ("triton", "cuda"))
        if reason is None and runs_here and name not in _lacking():
            models[f"pygen {name}"] = _on_backend(PixelCNN(**options), name)
    models["pygen default"] = PixelCNN(**options)
    models["pygen compiled"] = PixelCNN(**options)
    for model in models.values():
        model.load_state_dict(plain.state_dict())
        model.to(DEVICE, memory_format=LAYOUT)
    return dict(models)


def _lacking() -> set[str]:
    return {name for name in pygen.backends() if pygen._dispatch.why_not("masked_conv2d", name, DEVICE.type)}


def _on_backend(model: PixelCNN, backend: str) -> PixelCNN:
    for module in model.modules():
        if isinstance(module, pygen.nn.MaskedConv2d):
            module.backend = backend
    return model


def _masked_seconds(model: nn.Module, x: torch.Tensor) -> float:
    """Median seconds that the plain model's masked convolutions take alone, forward and backward."""
    works = {}
    for key, layer in model.named_modules():
        if isinstance(layer, PlainMaskedConv2d):
            first = layer.in_channels == x.shape[1]
            draw = lambda channels: torch.randn(len(x), channels, *x.shape[2:], device=DEVICE).to(memory_format=LAYOUT)  # noqa: E731
            image, grad = draw(layer.in_channels).requires_grad_(not first), draw(layer.out_channels)
            wanted = [layer.weight, layer.bias] + ([] if first else [image])
            works[key] = lambda layer=layer, image=image, grad=grad, wanted=wanted: torch.autograd.grad(
                layer(image), wanted, grad
            )
    return sum(m.median for m in harness.measure(works, budget_s=4.0).values())


GROUPS = harness.groups([Case()], (STEP,), str)


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    models = _models(case)
    shape = (case.batch, 1, case.side, case.side)
    x = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.2).to(torch.uint8).to(DEVICE)
    masked_s: list[float] = []

    def store(measured: Group) -> None:
        if not masked_s:
            masked_s.append(_masked_seconds(models["eager"], x))
        share = masked_s[0] / measured["eager"].median
        live_taps = (24 + 7 * 5) / (49 + 7 * 9)
        bound = 1 / max(1e-9, 1 - min(share, 1.0))
        for m in measured.values():
            m.info |= {"masked_share": round(share, 3), "amdahl_bound": round(bound, 2)}
        print(
            f"\nmasked convolutions: {1e3 * masked_s[0]:.1f} of {1e3 * measured['eager'].median:.1f} ms, {100 * share:.0f} %"
            f" of the plain step, {100 * live_taps:.0f} % of their taps live; a step without them would be {bound:.2f}x faster"
        )
        collect(OP, str(case), direction, measured)

    return Training(models, x, lr=1e-4).measured(store)


@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_pixelcnn_step(benchmark, group: dict[str, Measurement]) -> None:
    """Records pygen's default; the table and the stored rows have all providers."""
    harness.record(benchmark, group["pygen default"])
