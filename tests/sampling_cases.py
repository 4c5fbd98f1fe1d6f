"""What the tests of the sampling engines share: the engines that run here, options of `sample`, and the naive images."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from pixel_twins import CASES, twins
from torch import Tensor

from pygen import models
from pygen.models import _engines

N = 17
SHAPES = [(1, 1), (1, 7), (5, 3), (8, 8)]
ENGINES = [name for name in _engines.ENGINES if _engines.why_not(models.PixelCNN(), name) is None]
FAST = [name for name in ENGINES if name != "naive"]
OF_PROGRAMS = [name for name in FAST if name != "fixed_point"]  # those that run the model's program, not its forward
each_case = pytest.mark.parametrize("name", CASES)
each_engine = pytest.mark.parametrize("engine", ENGINES)
each_fast = pytest.mark.parametrize("engine", FAST)
each_of_programs = pytest.mark.parametrize("engine", OF_PROGRAMS)


@pytest.fixture(autouse=True)
def _one_thread(request: pytest.FixtureRequest) -> None:
    """These models are too small for two. Engines that do not run a case's model, and say so, are skipped."""
    torch.set_num_threads(1)
    params = getattr(request.node, "callspec", None) and request.node.callspec.params
    if params and params.get("name") in CASES and params.get("engine") in _engines.ENGINES:
        reason = _engines.why_not(twins(params["name"])[1], params["engine"])
        if reason is not None:
            pytest.skip(reason)


def options(name: str, n: int, shape: tuple[int, int]) -> dict[str, dict]:
    """Arguments of `sample`: none, some that are known in each image, a known block and a temperature."""
    case, (height, width) = CASES[name], shape
    known = case.images(n, height, width, seed=9)
    some = torch.rand(known.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    block = torch.zeros(height, width, dtype=torch.bool)
    block[: height // 2], block[-1, width // 2 :] = True, True
    return {
        "plain": {},
        "known": {"known": known, "known_mask": some},
        "block": {"known": known, "known_mask": block, "temperature": 0.7},
    }


@cache
def naive(name: str, shape: tuple[int, int], option: str) -> Tensor:
    _, model = twins(name)
    cond = CASES[name].conditions(N, *shape)
    return model.sample(N, shape, cond=cond, seed=3, engine="naive", **options(name, N, shape)[option])


def first(n: int, args: dict) -> dict:
    """The same for the first n images."""
    return {key: value[:n] if isinstance(value, Tensor) and len(value) == N else value for key, value in args.items()}
