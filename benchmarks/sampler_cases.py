"""What the sampling benchmark draws: models, sizes, batches, and how much they have to multiply."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from harness import DEVICE
from torch import nn

from pygen import models
from pygen.models._program import Conv, Lstm, Up
from pygen.reference import models as plain_models


@dataclass(frozen=True)
class Case:
    """A model's class and options, the images' size, the batch."""

    name: str
    kind: str
    options: tuple[tuple[str, object], ...]
    side: int
    batch: int
    compiled: bool = False
    long: bool = False
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        return f"{self.name}{' bf16' if self.dtype is torch.bfloat16 else ''} B={self.batch}"

    def models(self) -> tuple[nn.Module, nn.Module]:
        """The plain twin and pygen's, equal weights."""
        torch.manual_seed(0)
        options = dict(self.options)
        made = []
        for room in (plain_models, models):
            kind = getattr(room, self.kind)
            made.append(
                kind(options["num_inputs"], options["hidden_sizes"]) if self.kind == "MADE" else kind(**options)
            )
        plain, ours = made
        plain.load_state_dict(ours.state_dict())
        return plain.to(DEVICE, self.dtype).eval(), ours.to(DEVICE, self.dtype).eval()

    @property
    def huge(self) -> bool:
        return dict(self.options).get("hidden_channels") == 160

    @property
    def channels(self) -> int:
        return int(dict(self.options).get("in_channels", 1))

    @property
    def decisions(self) -> int:
        return self.side**2 * self.channels


def gated(name: str, side: int, batch: int, compiled: bool = False, long: bool = False, **options: object) -> Case:
    return Case(name, "GatedPixelCNN", tuple(options.items()), side, batch, compiled, long)


def all_cases() -> list[Case]:
    cases = []
    batches = (1, 16, 64) if DEVICE.type == "cpu" else (1, 16, 64, 256, 1024)
    for width in (32, 64):
        for batch in batches:
            first = width == 32 and batch in (1, 16)
            cases.append(gated(f"binary 28x28 C={width}", 28, batch, first, batch > 64, hidden_channels=width))
    wide = {"hidden_channels": 128, "num_blocks": 12, "num_levels": 256}
    rgb = {"in_channels": 3, "color_groups": 3, "hidden_channels": 66, "num_levels": 256}
    for batch in batches:
        cases.append(gated("256 levels 32x32 C=128 12 blocks", 32, batch, long=batch > 1, **wide))
        cases.append(gated("RGB 32x32 C=66", 32, batch, long=batch > 1, **rgb))
    for kind in ("diagonal", "row"):
        recurrent = (("hidden_channels", 32), ("kind", kind))
        cases += [Case(f"PixelRNN {kind} binary 28x28 H=32", "PixelRNN", recurrent, 28, b) for b in batches[:3]]
    small = (("in_channels", 3), ("hidden_channels", 64), ("num_resnets", 2), ("num_scales", 3))
    cases += [Case("PixelCNN++ 16x16 C=64 2 layers", "PixelCNNPP", small, 16, b, long=b > 1) for b in (1, 16)]
    if DEVICE.type == "cuda":  # in float32 the largest ones are for --long
        cases = [replace(c, long=c.long or "C=32" not in c.name) for c in cases] + [
            replace(c, dtype=torch.bfloat16) for c in cases
        ]
        # As in the paper, of CIFAR's size.
        options = (("in_channels", 3), ("hidden_channels", 160), ("num_resnets", 5), ("num_scales", 3))
        cases += [
            Case("PixelCNN++ 32x32 C=160", "PixelCNNPP", options, 32, b, long=b > 16, dtype=torch.bfloat16)
            for b in (1, 16, 64, 256)
        ]
    layers = (("num_inputs", 784), ("hidden_sizes", (500, 500)))
    cases += [Case("MADE 784-500-500-784", "MADE", layers, 28, b, b in (1, 64), long=b > 64) for b in batches]
    return cases


def multiply_adds(case: Case) -> int:
    """Of one image, each live weight once for each place."""
    plain, ours = case.models()
    if case.kind == "MADE":
        return sum(int(mask.sum()) for name, mask in plain.named_buffers() if name.startswith("mask_0_"))
    with torch.no_grad():
        program = ours._program(None)
    total = 0
    for stride, stage in zip(program.strides[1:], program.stages, strict=True):
        places = (-(-case.side // stride)) ** 2
        if isinstance(stage, Conv):
            total += places * int((stage.weight != 0).sum())
        elif isinstance(stage, Lstm) and stage.weight is not None:
            total += places * stage.weight.numel()
        elif isinstance(stage, Up):  # a quarter of the places each
            total += places * sum(weight.numel() for _, weight in stage.phases) // 4
    return total
