"""A VAE and its plain-PyTorch twin with equal weights, and images for them."""

from __future__ import annotations

import torch
from torch import Tensor

from pygen.models import VAE
from pygen.reference.models import VAE as PlainVAE

Z = 3


def levels(n: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Binary images [n, *shape]."""
    return torch.randint(0, 2, (n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def twins(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, **options: object) -> tuple[PlainVAE, VAE]:
    torch.manual_seed(1)
    plain, ours = PlainVAE(shape, Z, **options).to(dtype), VAE(shape, Z, **options).to(dtype)
    ours.load_state_dict(plain.state_dict(), strict=True)
    return plain, ours
