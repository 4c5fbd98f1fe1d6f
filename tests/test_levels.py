"""Levels and conditions of the pixel models where their values are not looked at, which is on a GPU: run here on the CPU."""

from __future__ import annotations

import pytest
import torch
from pixel_twins import CASES, Case, twins

from pygen.models import MADE, _conditional, _levels


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    for module in (_levels, _conditional):
        monkeypatch.setattr(module, "free_to_look_at", lambda x: False)
    monkeypatch.setattr("pygen.ops.categorical_nll.check_level_values", lambda *_: None)


@pytest.mark.parametrize("name", ["plain", "plain-grey", "plain-rgb", "gated-classes", "gated-map", "pp", "pp-rgb"])
def test_right_levels_are_what_they_are(name: str) -> None:
    case = CASES[name]
    plain, ours = twins(case)
    x, cond = case.images(4), case.conditions(4)
    for levels in (x, x.long()):
        torch.testing.assert_close(ours.log_prob(levels, cond), plain.log_prob(x, cond), rtol=1e-9, atol=1e-9)
    drawn = ours.sample(3, (3, 2), cond=None if cond is None else case.conditions(3, 3, 2), seed=0)
    expected = plain.sample(3, (3, 2), cond=None if cond is None else case.conditions(3, 3, 2), seed=0)
    assert torch.equal(drawn, expected)


@pytest.mark.parametrize("kind", ["PixelCNN", "GatedPixelCNN"])
def test_256_levels_in_uint8_are_levels(kind: str) -> None:
    case = Case(kind, {"hidden_channels": 4, "num_blocks": 1, "num_levels": 256})
    plain, ours = twins(case)
    x = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)
    torch.testing.assert_close(ours.log_prob(x), plain.log_prob(x), rtol=1e-9, atol=1e-9)
    made = MADE(64, 8, num_levels=256).double()
    assert made.log_prob(x).isfinite().all()


@pytest.mark.parametrize("name", ["plain-grey", "plain-rgb", "gated-classes"])
def test_a_wrong_level_makes_the_loss_nan_and_ends_nothing(name: str) -> None:
    case = CASES[name]
    _, ours = twins(case)
    for wrong in (-1, ours.num_levels):
        x = case.images(4).long()
        x[2, 0, 1, 1] = wrong
        found = ours.log_prob(x, case.conditions(4))
        assert found[2].isnan() and found[[0, 1, 3]].isfinite().all()


def test_a_wrong_class_makes_the_loss_nan() -> None:
    case = CASES["gated-classes"]
    _, ours = twins(case)
    found = ours.log_prob(case.images(3), torch.tensor([0, 3, -1]))
    assert found[0].isfinite() and found[1:].isnan().all()
