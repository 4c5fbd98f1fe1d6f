"""What the tests of the CUDA sampler of several resolutions share, executed on the host."""

import dataclasses
from functools import partial

import host_cuda
import pytest
import torch
from pixel_twins import Case
from torch import Tensor, nn

from pygen import models
from pygen.models import _engines
from pygen.native import _sampling_cuda
from pygen.native import _sampling_scales as native

SEED = 3
# Several runs of channels, several tiles, not all of them for all blocks; images that are no multiple of eight.
WIDE = Case(
    "PixelCNNPP",
    {"hidden_channels": 20, "num_resnets": 1, "num_scales": 2, "num_mixtures": 3, "num_levels": 6, "dropout": 0},
    gain=1.0,
)


def send_to_host(monkeypatch: pytest.MonkeyPatch) -> object:
    """Sends the cuda engine to the host build, of a GPU that has clusters."""
    monkeypatch.setenv("PYGEN_HOST_CAPABILITY", "9")
    module = host_cuda.module()
    monkeypatch.setattr(_sampling_cuda, "target", lambda t: (module, 0, 0))
    monkeypatch.setattr(native, "THREADS", 32)
    engine = dataclasses.replace(_engines.ENGINES["cuda"], why_not=lambda model: None)
    monkeypatch.setitem(_engines.ENGINES, "cuda", engine)
    return module


_DRAW = native.draw


def run_with(monkeypatch: pytest.MonkeyPatch, **how: object) -> None:
    """Chooses blocks a cluster, images a cluster, threads a block."""
    monkeypatch.setattr(native, "draw", partial(_DRAW, **how))


class Limited:
    """The module on a device like an H200, whose blocks have so much shared memory."""

    def __init__(self, module: object, shared_bytes: int = 227 << 10) -> None:
        self._module, self._shared_bytes = module, shared_bytes

    def __getattr__(self, name: str) -> object:
        return getattr(self._module, name)

    def sampling_limits(self, device: int) -> tuple[int, int]:
        return 132, self._shared_bytes

    def sampling_scales_clusters(self, device: int, dtype: str, size: int, threads: int, shared_bytes: int) -> int:
        return 132 // size


def of_cifar_size() -> nn.Module:
    """Without memory."""
    with torch.device("meta"):
        return models.PixelCNNPP(hidden_channels=160, num_resnets=5, weight_norm=False)


def sample(model: nn.Module, n: int, shape: tuple[int, int], engine: str = "cuda", **args: object) -> Tensor:
    return model.sample(n, shape, seed=SEED, engine=engine, **args)
