"""A GAN and its plain-PyTorch twin with equal weights, and images for them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from support import threads
from torch import Tensor, nn

from pygen.models import GAN
from pygen.reference.models import GAN as PlainGAN

Z = 3
SMALL: dict[str, Any] = {"hidden": (4, 6), "lr": 1e-3, "ema_decay": 0.8}


@pytest.fixture(autouse=True)
def one_thread():
    """Layers of a few pixels: a second thread gains nothing, and costs much on a busy machine."""
    with threads(1):
        yield


def images(n: int, shape: tuple[int, ...] = (1, 8, 8), dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Images [n, *shape] in [-1, 1]."""
    return torch.rand(n, *shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def small(shape: tuple[int, ...] = (1, 8, 8), dtype: torch.dtype = torch.float64, **options: Any) -> GAN:
    torch.manual_seed(1)
    return GAN(shape, Z, **{**SMALL, **options}).to(dtype)


def twins(
    shape: tuple[int, ...] = (1, 8, 8), dtype: torch.dtype = torch.float64, **options: Any
) -> tuple[PlainGAN, GAN]:
    torch.manual_seed(1)
    options = {**SMALL, **options}
    plain, ours = PlainGAN(shape, Z, **options).to(dtype), GAN(shape, Z, **options).to(dtype)
    ours.load_state_dict(plain.state_dict(), strict=True)
    return plain, ours


def flat(of_step: Any) -> list[Tensor | None]:
    """Every tensor of a step's result, of both twins in the same order."""
    if of_step is None or isinstance(of_step, Tensor):
        return [of_step]
    return [t for part in of_step for t in flat(part)]


def state(network: nn.Module) -> dict[str, Tensor]:
    """A copy of its parameters and buffers."""
    return copy.deepcopy(network.state_dict())


def gradients(network: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()]
