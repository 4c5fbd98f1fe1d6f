"""A whole training step of models with equal weights, as it is and compiled, on a GPU each as one CUDA graph too."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import exact
import harness
import torch
from attempts import Group
from harness import DEVICE, Measurement, Work
from torch import Tensor, nn

STEP = "zero_grad, loss, backward, Adam"
# Plain PyTorch's faster one for float32.
LAYOUT = torch.contiguous_format if DEVICE.type == "cpu" else torch.channels_last
BUDGET_S = 20 if DEVICE.type == "cpu" else 5

Loss = Callable[[Tensor], Tensor]
Collect = Callable[[Group], None]


@dataclass
class Training:
    """models: on the device, "eager" among them, which is the truth in float64; names that end with "compiled" are compiled."""

    models: dict[str, nn.Module]
    x: Tensor
    lr: float
    errors: dict[str, exact.Errors] = field(default_factory=dict)
    works: dict[str, Work] = field(default_factory=dict)

    def measured(self, collect: Collect) -> dict[str, Measurement]:
        """All of them, checked and measured in turn, described, and given to `collect`.

        For a GPU a model takes minutes to compile: what is ready is measured and stored before the next, and again with it.
        """
        truth = copy.deepcopy(self.models["eager"]).double()
        eager = self.models["eager"]
        live = {f"{key}.weight": layer.mask for key, layer in eager.named_modules() if hasattr(layer, "mask")}
        expected = _results(truth.loss, truth, self.x)
        # TF32 rounds the loss, one number, by more than eager's happens to be off.
        more = exact.slack(next(eager.parameters()).dtype)
        check = exact.like_eager(lambda: _results(eager.loss, eager, self.x), expected, more)
        parts = [list(self.models)]
        if DEVICE.type == "cuda":
            compiled = [name for name in self.models if name.endswith("compiled")]
            parts = [[name for name in self.models if name not in compiled], *([name] for name in compiled)]
        for part in parts:
            self._add(part, check, live)
            measured = harness.measure(self.works, BUDGET_S)
            for name, m in measured.items():
                m.info = self.errors[name.removesuffix(harness.GRAPHED)].info()
                m.info["peak_bytes"] = harness.peak_bytes_of(name, self.works)
            collect(measured)
        return measured

    def _add(self, names: list[str], check: exact.Check, live: dict[str, Tensor]) -> None:
        """Checks these as they are called, before a step has changed their weights; then their steps."""
        losses = {
            n: harness.compiled(m.loss) if n.endswith("compiled") else m.loss
            for n, m in self.models.items()
            if n in names
        }

        def work(name: str) -> exact.Checked:
            # Of dead weights the idiom that overwrites weight.data computes gradients in vain.
            masks = live if ".data" in name else {}
            return lambda: _results(losses[name], self.models[name], self.x, masks)

        checked = {name: work(name) for name in names}
        self.errors |= harness.errors_of(checked, check)
        self.works |= harness.with_graphs({n: _step(losses[n], self.models[n], self.x, self.lr) for n in checked})


def _results(loss_of: Loss, model: nn.Module, x: Tensor, masks: dict[str, Tensor] | None = None) -> exact.Results:
    loss = loss_of(x)
    gradients = exact.gradients(loss, dict(model.named_parameters()))
    for name in masks or ():
        gradients[name] = gradients[name] * masks[name]
    return exact.Results((loss,), gradients)


def _step(loss_of: Loss, model: nn.Module, x: Tensor, lr: float) -> Work:
    # capturable changes nothing of the fused kernel; without it Adam refuses a capture.
    optimizer = torch.optim.Adam(model.parameters(), lr, fused=True, capturable=DEVICE.type == "cuda")

    def step() -> None:
        optimizer.zero_grad()
        loss_of(x).backward()
        optimizer.step()

    return step
