"""Pairs of NADE and its plain twin with equal weights, for tests."""

from __future__ import annotations

import torch
from pixel_twins import randomise
from torch import Tensor

from pygen.models import NADE
from pygen.reference.models import NADE as PlainNADE

CASES = {"plain": (9, 16, 1), "orders": (9, 5, 4), "one-input": (1, 3, 2), "several-vectors": (40, 33, 2)}


def twins(name: str, dtype: torch.dtype = torch.float64) -> tuple[PlainNADE, NADE]:
    inputs, hidden, orders = CASES[name]
    plain, ours = PlainNADE(inputs, hidden, num_orders=orders), NADE(inputs, hidden, num_orders=orders)
    randomise(plain)
    ours.load_state_dict(plain.state_dict(), strict=True)
    return plain.to(dtype), ours.to(dtype)


def levels(model: NADE, n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (n, model.num_inputs), generator=generator, dtype=torch.uint8)
