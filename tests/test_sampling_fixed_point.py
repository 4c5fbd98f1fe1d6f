"""The engine "fixed_point": as few forwards as it promises, and nothing but a forward of the model."""

from __future__ import annotations

import pytest
import torch
from made_twins import twins as made_twins
from pixel_twins import CASES, twins
from torch import Tensor

from pygen import models


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """These models are too small for two."""
    torch.set_num_threads(1)


def forwards(model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each forward works on, as they come."""
    sizes: list[int] = []
    original = model._logits

    def counted(x: Tensor, *args: object) -> Tensor:
        sizes.append(len(x))
        return original(x, *args)

    monkeypatch.setattr(model, "_logits", counted)
    return sizes


def test_fixed_point_takes_at_most_a_forward_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plain", "gated-rgb"):
        _, model = twins(name)
        steps = 6 * 5 * model.color_groups
        expected = model.sample(8, (6, 5), seed=0, engine="naive")
        sizes = forwards(model, monkeypatch)
        assert torch.equal(model.sample(8, (6, 5), seed=0, engine="fixed_point"), expected)
        assert 1 < len(sizes) <= steps and sizes == sorted(sizes, reverse=True) and sizes[0] == 8
        assert sum(sizes) < 8 * steps  # and an image that is finished takes no more


def test_fixed_point_of_independent_pixels_takes_one_forward_and_one_that_confirms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = models.PixelCNN(hidden_channels=4, num_blocks=0, first_kernel_size=1)
    sizes = forwards(model, monkeypatch)
    images = model.sample(8, (6, 5), seed=0, engine="fixed_point")
    assert len(sizes) == 2 and torch.equal(images, model.sample(8, (6, 5), seed=0, engine="cached"))


def test_fixed_point_of_known_pixels_takes_one_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = twins("plain")
    known = CASES["plain"].images(3, 4, 4)
    sizes = forwards(model, monkeypatch)
    every = torch.tensor(True)
    images = model.sample(3, (4, 4), known=known, known_mask=every, engine="fixed_point")
    assert torch.equal(images, known) and sizes == [3]


def test_fixed_point_reports_its_forwards(capsys: pytest.CaptureFixture[str]) -> None:
    _, model = twins("plain")
    model.sample(2, (4, 4), seed=1, engine="fixed_point", progress=True)
    lines = capsys.readouterr().err.split("\r")[1:]
    done = [int(line.split()[1]) for line in lines]
    assert lines[0].startswith("PixelCNN.sample: ") and lines[0].endswith(", forward 1")
    assert lines[-1] == f"PixelCNN.sample: 32 of 32, forward {len(lines)}\n"
    assert done == sorted(done) and done[0] >= 2


def test_fixed_point_needs_no_program() -> None:
    class Shifted(models.PixelCNN):
        def _logits(self, x: Tensor, cond: Tensor | None) -> Tensor:
            return super()._logits(x, cond) + torch.linspace(0, 1, 2).view(1, 2, 1, 1)

    model = Shifted(hidden_channels=4, num_blocks=1).double()
    images = model.sample(3, (4, 4), seed=1, engine="fixed_point")
    assert torch.equal(images, model.sample(3, (4, 4), seed=1)) and images.any()
    _, made = made_twins("orders")
    assert torch.equal(made.sample(9, seed=1, engine="fixed_point"), made.sample(9, seed=1, engine="naive"))
