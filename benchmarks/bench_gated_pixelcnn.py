"""Gated PixelCNN whole: one layer of both stacks, and a training step, against plain PyTorch as people write it and as an expert
would: convolutions cropped to what is live, everything behind them compiled.

The layers compute the same from the same weights; the crop multiplies no dead taps of the vertical stack either.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import exact
import harness
import pytest
import torch
import torch.nn.functional as F
from attempts import Group
from harness import DEVICE, Measurement
from torch import Tensor, nn
from training import LAYOUT, STEP, Training

import pygen
from pygen import _dispatch
from pygen.models import GatedPixelCNN
from pygen.reference import models as plain_models
from pygen.reference.models.gated_pixel_cnn import GatedLayer, gate

OP = "gated_pixelcnn"


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
        return LAYOUT if self.dtype == torch.float32 else torch.channels_last

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


def _models(case: Case, plain: nn.Module, ours: nn.Module) -> dict[str, nn.Module]:
    """Equal weights."""
    ours.load_state_dict(plain.state_dict())
    models = {"eager": plain, "crop": _crop(copy.deepcopy(plain))}
    for name in ("cpu", "triton", "cuda"):
        if _dispatch.why_not("gated_masked_conv2d", name, DEVICE.type) is None:
            models[f"pygen {name}"] = _on(copy.deepcopy(ours), name)
    # The best of either first: on a GPU each takes minutes.
    models |= {"crop compiled": copy.deepcopy(models["crop"]), "pygen compiled": ours}
    models["eager compiled"] = copy.deepcopy(plain)
    for model in models.values():
        model.to(DEVICE, case.dtype, memory_format=case.layout)
    return models


def _given(case: Case) -> list[Tensor]:
    """Both stacks' inputs and what comes upstream of their outputs."""
    shape = (case.batch, case.channels, case.side, case.side)
    return [torch.randn(shape, device=DEVICE).to(case.dtype, memory_format=case.layout) for _ in range(4)]


def _layer_work(model: nn.Module, direction: str, given: list[Tensor], compiled: bool = False) -> exact.Checked:
    call = harness.compiled(model) if compiled else model
    v, h = (t.detach().requires_grad_() for t in given[:2])
    leaves = {"v": v, "h": h, **dict(model.named_parameters())}

    def forward() -> exact.Results:
        with torch.no_grad():
            return exact.Results(call(*given[:2], None), {})

    def both() -> exact.Results:
        outputs = call(v, h, None)
        return exact.Results(outputs, exact.gradients(outputs, leaves, tuple(given[2:])))

    return forward if direction == "forward" else both


def _measured_layer(case: Case, direction: str) -> Group:
    torch.manual_seed(0)
    plain = GatedLayer(case.channels, case.channels, 3, "B", 1, None)
    models = _models(case, plain, pygen.nn.GatedMaskedConv2d(case.channels, case.channels, 3, "B"))
    given = _given(case)
    works = {name: _layer_work(m, direction, given, name.endswith("compiled")) for name, m in models.items()}
    truth = _layer_work(copy.deepcopy(plain).double(), direction, [t.double() for t in given])()
    errors = harness.errors_of(works, exact.like_eager(works["eager"], truth, exact.slack(case.dtype)))
    works = harness.with_graphs(works)
    measured = harness.measure(works, budget_s=4)
    for name, m in measured.items():
        m.info = errors[name.removesuffix(harness.GRAPHED)].info()
        m.info["peak_bytes"] = harness.peak_bytes_of(name, works)
    return measured


def _training(case: Case) -> Training:
    torch.manual_seed(0)
    options = {"hidden_channels": case.channels, "num_blocks": case.blocks}
    models = _models(case, plain_models.GatedPixelCNN(**options), GatedPixelCNN(**options))
    x = (torch.rand(case.batch, 1, case.side, case.side) < 0.2).to(torch.uint8).to(DEVICE)
    return Training(models, x, lr=1e-4)


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    (case, direction), _ = request.param
    torch._dynamo.reset()
    store = lambda measured: collect(OP, str(case), direction, measured)  # noqa: E731
    if case.blocks:
        return _training(case).measured(store)
    measured = _measured_layer(case, direction)
    store(measured)
    return measured


@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_gated_pixelcnn(benchmark, group: dict[str, Measurement]) -> None:
    """Records pygen's backend for this device; the table and the stored rows have all providers."""
    harness.record(benchmark, group["pygen cpu" if DEVICE.type == "cpu" else "pygen cuda"])
