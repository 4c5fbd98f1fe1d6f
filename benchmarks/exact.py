"""How far what is timed lies from float64's results of the same inputs, and how far is too far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from attempts import attempt
from harness import DEVICE
from torch import Tensor

WORST = 5  # of a model's gradients as many are stored


class Results(NamedTuple):
    """What a work that is checked returns; forward alone makes no gradients."""

    outputs: tuple[Tensor, ...]
    gradients: dict[str, Tensor]


class Errors(NamedTuple):
    """The largest error over the largest value: of the worst output, of each gradient."""

    output: float
    gradients: dict[str, float]

    def info(self) -> dict[str, object]:
        """What the stored rows say of it."""
        worst = dict(sorted(self.gradients.items(), key=lambda named: -named[1])[:WORST])
        return {"error_vs_float64": self.output, **({"gradient_errors": worst} if worst else {})}


Checked = Callable[[], Results]
Check = Callable[[str, Checked], Errors]


def gradients(
    outputs: Tensor | tuple[Tensor, ...],
    leaves: Mapping[str, Tensor],
    upstream: Tensor | tuple[Tensor, ...] | None = None,
) -> dict[str, Tensor]:
    return dict(zip(leaves, torch.autograd.grad(outputs, list(leaves.values()), upstream), strict=True))


def off(found: Tensor, truth: Tensor) -> float:
    with torch.no_grad():
        return ((found.double() - truth).abs().max() / truth.abs().max().clamp(min=1e-6)).item()


def errors(found: Results, truth: Results) -> Errors:
    assert found.gradients.keys() == truth.gradients.keys()
    named = {name: off(found.gradients[name], t) for name, t in truth.gradients.items()}
    return Errors(_largest(off(f, t) for f, t in zip(found.outputs, truth.outputs, strict=True)), named)


def _largest(values: Iterable[float]) -> float:
    """NaN if there is one among them, which Python's max would lose; of nothing 0."""
    return torch.tensor([0.0, *values], dtype=torch.float64).max().item()


def slack(dtype: torch.dtype) -> float:
    """Rounding, in parts of the largest value: where cuDNN may take TF32 for float32, that of TF32."""
    tf32 = dtype is torch.float32 and DEVICE.type == "cuda" and torch.backends.cudnn.conv.fp32_precision == "tf32"
    return 4 * 2.0**-10 if tf32 else 50 * torch.finfo(dtype).eps


def within(limit: float, truth: Results, eager: Checked) -> Check:
    """check(name, work) of an op: its errors; outputs may be off by `limit`, gradients, sums of many, by twice eager's more."""
    allowed = dict.fromkeys(truth.gradients, limit)
    with attempt("eager, to compare with"):
        allowed = {name: 2 * e + limit for name, e in errors(eager(), truth).gradients.items()}

    def check(name: str, work: Checked) -> Errors:
        found = errors(work(), truth)
        right = found.output <= limit and all(e <= allowed[n] for n, e in found.gradients.items())
        assert right, f"{name} is off by {found}; {limit} and of gradients {allowed} were allowed"
        return found

    return check


def like_eager(eager: Checked, truth: Results, more: float) -> Check:
    """check(name, work) of a model: its errors, at most twice eager's and `more`; those of gradients by the worst."""
    by_eager = errors(eager(), truth)
    most, most_of_gradients = (2 * e + more for e in (by_eager.output, _largest(by_eager.gradients.values())))

    def check(name: str, work: Checked) -> Errors:
        found = errors(work(), truth)
        right = found.output <= most and _largest(found.gradients.values()) <= most_of_gradients
        assert right, f"{name} is off by {found.info()}; {most} and of gradients {most_of_gradients} were allowed"
        return found

    return check
