"""Gated PixelCNN whole: one layer of both stacks, and a training step, against plain PyTorch as people write it and as an expert
would: convolutions cropped to what is live, everything behind them compiled.

The layers compute the same from the same weights; the crop multiplies no dead taps of the vertical stack either.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import harness
import pytest
import torch
import torch.nn.functional as F
from harness import DEVICE, Measurement, Work
from torch import Tensor, nn

import pygen
from pygen import _dispatch
from pygen.models import GatedPixelCNN
from pygen.reference import models as plain_models
from pygen.reference.models.gated_pixel_cnn import GatedLayer, gate

OP = "gated_pixelcnn"
LAST = torch.channels_last


class CroppedLayer(GatedLayer):
    """The twin's layer of type B without colour groups, over the rows and columns that are live."""

    def forward(self, v: Tensor, h: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        kernel, last = self.vertical.weight.shape[-1], self.vertical.weight.shape[-1] // 2 + 1
        above = F.pad(v, (0, 0, kernel // 2, last - 1 - kernel // 2))
        v_in = F.conv2d(above, self.vertical.weight[:, :, :last], self.vertical.bias, padding=(0, kernel // 2))
        left = F.pad(h, (kernel // 2, 0, 0, 0))
        h_in = F.conv2d(left, self.horizontal.weight[..., :last], self.horizontal.bias) + self.vertical_to_horizontal(
            v_in
        )
        return gate(v_in, 1), h + self.out(gate(h_in, 1))


@dataclass(frozen=True)
class Case:
    channels: int
    batch: int
    side: int
    dtype: torch.dtype
    blocks: int = 0  # 0: one layer; else a training step of a model of so many

    @property
    def layout(self) -> torch.memory_format:
        """The faster one of plain PyTorch."""
        return torch.contiguous_format if DEVICE.type == "cpu" and self.dtype == torch.float32 else LAST

    def __str__(self) -> str:
        what = f"{self.blocks} blocks" if self.blocks else "layer"
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{what} C={self.channels} N={self.batch} {self.side}x{self.side} {dtype}"


if DEVICE.type == "cpu":
    CASES = [Case(32, 16, 28, torch.float32), Case(32, 16, 28, torch.float32, blocks=7)]
    CASES += [Case(64, 16, 28, torch.bfloat16), Case(64, 16, 28, torch.bfloat16, blocks=7)]
else:
    CASES = [Case(128, 64, 32, torch.bfloat16), Case(128, 64, 32, torch.bfloat16, blocks=12)]
    CASES += [Case(256, 64, 32, torch.bfloat16), Case(128, 256, 32, torch.bfloat16)]
    CASES += [Case(32, 64, 28, torch.float32, blocks=7)]
STEP = "zero_grad, loss, backward, Adam"
GROUPS = harness.groups(
    [(c, d) for c in CASES for d in ((STEP,) if c.blocks else ("forward", "forward+backward"))],
    ("",),
    lambda g: f"{g[0]} {g[1]}",
)


def _crop(model: nn.Module) -> nn.Module:
    """The twin with its layers of type B cropped: the same weights, the same keys."""
    for layer in model.modules():
        if isinstance(layer, GatedLayer) and layer.mask_type == "B":
            layer.__class__ = CroppedLayer
    return model


def _on(model: nn.Module, backend: str) -> nn.Module:
    for module in model.modules():
        if hasattr(module, "backend"):
            module.backend = backend
    return model


def _models(plain: nn.Module, ours: nn.Module) -> dict[str, nn.Module]:
    """Equal weights."""
    ours.load_state_dict(plain.state_dict())
    models = {"eager": plain, "crop": _crop(copy.deepcopy(plain))}
    for name in ("cpu", "triton", "cuda"):
        if _dispatch.why_not("gated_masked_conv2d", name, DEVICE.type) is None:
            models[f"pygen {name}"] = _on(copy.deepcopy(ours), name)
    models |= {f"{name} compiled": copy.deepcopy(models[name]) for name in ("eager", "crop")}
    models["pygen compiled"] = ours
    return models


def _layer_works(case: Case, direction: str) -> tuple[dict[str, Work], dict[str, float]]:
    torch.manual_seed(0)
    plain = GatedLayer(case.channels, case.channels, 3, "B", 1, None)
    models = _models(plain, pygen.nn.GatedMaskedConv2d(case.channels, case.channels, 3, "B"))
    shape = (case.batch, case.channels, case.side, case.side)
    given = [torch.randn(shape, device=DEVICE).to(case.dtype, memory_format=case.layout) for _ in range(4)]
    works: dict[str, Work] = {}
    for name, model in models.items():
        model.to(DEVICE, case.dtype, memory_format=case.layout)
        call = harness.compiled(model) if name.endswith("compiled") else model
        leaves = [t.detach().requires_grad_() for t in given[:2]]
        wanted = [*leaves, *model.parameters()]

        def forward(call=call) -> None:
            with torch.no_grad():
                call(*given[:2], None)

        def both(call=call, leaves=leaves, wanted=wanted) -> None:
            torch.autograd.grad(call(*leaves, None), wanted, given[2:])

        works[name] = forward if direction == "forward" else both

    with torch.no_grad():
        truths = copy.deepcopy(plain).double()(*(t.double() for t in given[:2]), None)

    def error(model: nn.Module) -> float:
        with torch.no_grad():
            results = zip(model(*given[:2], None), truths, strict=True)
            return max(((a.double() - t).abs().max() / t.abs().max()).item() for a, t in results)

    return works, harness.errors_like_eager(models, error, 50 * torch.finfo(case.dtype).eps)


def _step_works(case: Case) -> tuple[dict[str, Work], dict[str, float]]:
    torch.manual_seed(0)
    options = {"hidden_channels": case.channels, "num_blocks": case.blocks}
    models = _models(plain_models.GatedPixelCNN(**options), GatedPixelCNN(**options))
    x = (torch.rand(case.batch, 1, case.side, case.side) < 0.2).to(torch.uint8).to(DEVICE)
    works: dict[str, Work] = {}
    for name, model in models.items():
        model.to(DEVICE, case.dtype, memory_format=case.layout)
        optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
        loss_of = harness.compiled(model.loss) if name.endswith("compiled") else model.loss

        def step(optimizer=optimizer, loss_of=loss_of) -> None:
            optimizer.zero_grad()
            loss_of(x).backward()
            optimizer.step()

        works[name] = step

    with torch.no_grad():
        truth = copy.deepcopy(models["eager"]).double().loss(x)

    def error(model: nn.Module) -> float:
        with torch.no_grad():
            return ((model.loss(x).double() - truth).abs() / truth).item()

    return works, harness.errors_like_eager(models, error, 50 * torch.finfo(case.dtype).eps)


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    (case, direction), _ = request.param
    torch._dynamo.reset()
    works, errors = _step_works(case) if case.blocks else _layer_works(case, direction)
    works = {name: work for name, work in works.items() if name in errors}
    if DEVICE.type == "cuda" and case.blocks:  # a model takes minutes to compile: what needs none is stored before
        eager = {name: work for name, work in works.items() if not name.endswith("compiled")}
        _measured(case, direction, eager, errors, collect)
    return _measured(case, direction, works if case.blocks else harness.with_graphs(works), errors, collect)


def _measured(
    case: Case, direction: str, works: dict[str, Work], errors: dict[str, float], collect: Callable[..., None]
) -> dict[str, Measurement]:
    measured = harness.measure(works, budget_s=(20 if DEVICE.type == "cpu" else 5) if case.blocks else 4)
    best = min(m.median for name, m in measured.items() if not name.startswith("pygen") and harness.GRAPHED not in name)
    for name, m in measured.items():
        m.info = {
            "error_vs_float64": errors[name.removesuffix(harness.GRAPHED)],
            "peak_bytes": harness.peak_bytes_of(name, works),
            "vs_best_plain": round(best / m.median, 3),
        }
    collect(OP, str(case), direction, measured)
    return measured


@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_gated_pixelcnn(benchmark, group: dict[str, Measurement]) -> None:
    """Records pygen's backend for this device; the table and the stored rows have all providers."""
    harness.record(benchmark, group["pygen cpu" if DEVICE.type == "cpu" else "pygen cuda"])
