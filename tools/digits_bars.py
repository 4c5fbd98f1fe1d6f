"""Trains the autoregressive models on the binarised digits beside their twins and prints test nats against the bars.

python tools/digits_bars.py [--model MADE | NADE | GatedPixelCNN | PixelCNNPP] [--seed 0]

Either side of a model starts from the same weights and sees the same batches, a step of each in turn. Some minutes on two
cores; the bars are those of tests/test_pixel_models_digits.py.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from pygen import models
from pygen._demo._timing import shuffled_batches, train_in_turn
from pygen.data import digits
from pygen.reference import models as plain_models

BEST_POSSIBLE = 15.5  # nats; below it a pixel has leaked


@dataclass(frozen=True)
class Recipe:
    """How a model is built and trained."""

    bar: float  # nats
    build: Callable[[Any], torch.nn.Module]  # from pygen.models or its twin
    steps: int
    batch: int
    peak_lr: float = 3e-3


RECIPES = {
    "MADE": Recipe(18.0, lambda side: side.MADE(64, 256), 900, 100),
    "NADE": Recipe(18.2, lambda side: side.NADE(64, 128), 1200, 100, peak_lr=2e-2),
    "GatedPixelCNN": Recipe(
        18.0, lambda side: side.GatedPixelCNN(hidden_channels=32, num_blocks=5, first_kernel_size=5), 400, 64
    ),
    "PixelCNNPP": Recipe(
        17.5,
        lambda side: side.PixelCNNPP(
            1, hidden_channels=20, num_resnets=1, num_scales=2, num_mixtures=2, num_levels=2, dropout=0.0
        ),
        300,
        64,
    ),
}


def train(name: str, seed: int) -> bool:
    """Prints one line per side; whether both reach the bar."""
    recipe, data = RECIPES[name], digits()
    torch.manual_seed(seed)
    sides = {"plain": recipe.build(plain_models), "pygen": recipe.build(models)}
    sides["pygen"].load_state_dict(sides["plain"].state_dict())
    batches = shuffled_batches(data.train_x, recipe.batch, torch.Generator().manual_seed(seed))
    times = train_in_turn(list(sides.values()), batches, recipe.steps, peak_lr=recipe.peak_lr)
    reached = True
    for (side, model), taken in zip(sides.items(), times, strict=True):
        with torch.no_grad():
            nats = -model.log_prob(data.test_x).mean().item()
        good = BEST_POSSIBLE <= nats <= recipe.bar
        reached &= good
        verdict = "reached" if good else "MISSED"
        print(
            f"{name:14s} {side:6s} {nats:6.2f} nats, bar {recipe.bar} {verdict}; {recipe.steps} steps of"
            f" {recipe.batch}, {statistics.median(taken):.1f} ms a step"
        )
    return reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=RECIPES, help="only this one")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (%(default)s)")
    args = parser.parse_args()
    return int(not all([train(name, args.seed) for name in ([args.model] if args.model else RECIPES)]))


if __name__ == "__main__":
    sys.exit(main())
