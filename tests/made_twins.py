"""MADE and its plain-PyTorch twin with equal weights, and levels for them."""

from __future__ import annotations

import torch
from pixel_twins import randomise
from torch import Tensor

from pygen.models import MADE
from pygen.reference.models import MADE as PlainMADE

# (num_inputs, hidden_sizes, options): one hidden layer, several, fewer than inputs, levels, ranges, orderings, one input.
CASES = {
    "one-layer": (9, 16, {}),
    "two-layers": (9, (12, 11), {}),
    "narrow": (12, (5, 3), {"input_range": (0, 1)}),
    "levels": (6, 14, {"num_levels": 4, "input_range": (-0.5, 1)}),
    "orders": (9, (16, 16), {"num_orders": 4}),
    "one-input": (1, 3, {}),
}


def twins(name: str, dtype: torch.dtype = torch.float64) -> tuple[PlainMADE, MADE]:
    inputs, hidden, options = CASES[name]
    plain, ours = PlainMADE(inputs, hidden, **options), MADE(inputs, hidden, **options)
    randomise(plain)
    ours.load_state_dict(plain.state_dict(), strict=True)
    return plain.to(dtype), ours.to(dtype)


def levels(model: MADE, n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.uint8 if model.num_levels <= 256 else torch.int64
    return torch.randint(0, model.num_levels, (n, model.num_inputs), generator=generator, dtype=dtype)
