"""The autoregressive models on real digits: the bars they must reach, and the one no model can pass."""

from __future__ import annotations

import pytest
import torch

from pygen.models import MADE, NADE, GatedPixelCNN, PixelCNNPP

BEST_POSSIBLE = 15.5  # nats; below it a pixel has leaked


def _test_nll(model: torch.nn.Module, steps: int, batch: int, peak_lr: float) -> float:
    for name in ("sklearn", "rich", "matplotlib"):
        pytest.importorskip(name)
    from pygen._demo._timing import shuffled_batches, train_in_turn
    from pygen.data import digits

    torch.set_num_threads(1)
    data = digits()
    batches = shuffled_batches(data.train_x, batch, torch.Generator().manual_seed(0))
    train_in_turn([model], batches, steps, peak_lr=peak_lr)
    with torch.no_grad():
        return -model.log_prob(data.test_x).mean().item()


@pytest.mark.slow
def test_made_on_digits_reaches_the_bar() -> None:
    assert BEST_POSSIBLE <= _test_nll(MADE(64, 256), 900, 100, 3e-3) <= 18.0


@pytest.mark.slow
def test_nade_on_digits_reaches_the_bar() -> None:
    torch.manual_seed(0)
    assert BEST_POSSIBLE <= _test_nll(NADE(64, 128), 1200, 100, 2e-2) <= 18.2


@pytest.mark.slow
def test_gated_pixel_cnn_on_digits_reaches_the_bar() -> None:
    model = GatedPixelCNN(hidden_channels=32, num_blocks=5, first_kernel_size=5)
    assert BEST_POSSIBLE <= _test_nll(model, 400, 64, 3e-3) <= 18.0


@pytest.mark.slow
def test_pixel_cnn_pp_on_digits_reaches_the_bar() -> None:
    torch.manual_seed(0)
    small = {"hidden_channels": 20, "num_resnets": 1, "num_scales": 2, "num_mixtures": 2, "num_levels": 2}
    assert BEST_POSSIBLE <= _test_nll(PixelCNNPP(1, dropout=0.0, **small), 300, 64, 3e-3) <= 17.5
