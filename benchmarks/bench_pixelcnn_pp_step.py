"""A whole training step of PixelCNN++ on 32x32 RGB images of 256 levels: the plain twin, also compiled, beside pygen's model
as it is and compiled. Of convolutions a GPU multiplies float32 in TF32, where errors are taken too.
"""

from __future__ import annotations

from dataclasses import dataclass

import harness
import pytest
import torch
from harness import DEVICE, Measurement
from torch import Tensor, nn
from training import LAYOUT, STEP, Training

from pygen import models
from pygen.reference import models as plain_models

OP = "pixelcnn_pp_step"
PROVIDERS = ("eager", "compiled", "pygen default", "pygen compiled")


@dataclass(frozen=True)
class Case:
    batch: int = 8
    side: int = 32
    channels: int = 64

    def __str__(self) -> str:
        return f"{self.batch}x3x{self.side}x{self.side} C={self.channels}, 1 layer in each of 3 scales, float32"


def _models(case: Case) -> dict[str, nn.Module]:
    """Equal weights."""
    torch.manual_seed(0)
    made: dict[str, nn.Module] = {}
    for name in PROVIDERS:
        kind = (models if name.startswith("pygen") else plain_models).PixelCNNPP
        made[name] = kind(hidden_channels=case.channels, num_resnets=1, dropout=0.0)
        made[name].load_state_dict(made["eager"].state_dict())
        made[name].to(DEVICE, memory_format=LAYOUT)
    return made


def _images(case: Case) -> Tensor:
    """Smooth ones, as a mixture of logistics expects them."""
    shape = (case.batch, 3, case.side // 4, case.side // 4)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(noise, scale_factor=4, mode="bilinear")
    return (128 + 50 * smooth).clamp(0, 255).to(torch.uint8).to(DEVICE, memory_format=LAYOUT)


GROUPS = harness.groups([Case()], (STEP,), str)


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    training = Training(_models(case), _images(case), lr=1e-5)
    return training.measured(lambda measured: collect(OP, str(case), direction, measured))


@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_pixelcnn_pp_step(benchmark, group: dict[str, Measurement]) -> None:
    """Records pygen's default; the table and the stored rows have all providers."""
    harness.record(benchmark, group["pygen default"])
