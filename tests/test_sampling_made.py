"""MADE's sampling engines draw what the noise selects, the same as the naive one."""

from __future__ import annotations

import random

import pytest
import torch
from made_twins import CASES, levels, twins
from sampling_check import check_made_samples
from support import poisoned_memory
from torch import nn

from pygen.models import MADE, _engines

ENGINES = [name for name in _engines.ENGINES if _engines.why_not(MADE(2, 3), name) is None]
each_case = pytest.mark.parametrize("name", CASES)
each_engine = pytest.mark.parametrize("engine", ENGINES)
each_fast = pytest.mark.parametrize("engine", [name for name in ENGINES if name != "naive"])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """These models are too small for two."""
    torch.set_num_threads(1)


def options(model: MADE, n: int) -> list[dict]:
    known = levels(model, n, seed=1)
    some = torch.rand(known.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    late = torch.arange(model.num_inputs) >= model.num_inputs // 2
    return [{}, {"known": known, "known_mask": some}, {"known": known, "known_mask": late, "temperature": 0.6}]


def shuffle_degrees(model: MADE) -> None:
    """Hidden units in any order, and some that see every input and so feed nothing."""
    generator = random.Random(0)
    orders = []
    for order, *hidden, outputs in model._degrees:
        shuffled = [tuple(generator.choice(range(model.num_inputs)) for _ in degrees) for degrees in hidden]
        orders.append((order, *shuffled, outputs))
    model._degrees = tuple(orders)


@each_fast
@each_case
@pytest.mark.parametrize("shuffled", [False, True], ids=["sorted", "shuffled"])
def test_made_engine_equals_naive_in_float64(name: str, shuffled: bool, engine: str) -> None:
    _, model = twins(name)
    if shuffled:
        shuffle_degrees(model)
    for n in (1, 3, 17):
        for args in options(model, n):
            expected = model.sample(n, seed=3, engine="naive", **args)
            with poisoned_memory():
                assert torch.equal(model.sample(n, seed=3, engine=engine, **args), expected)


@each_engine
@each_case
def test_made_engine_draws_what_the_noise_selects(name: str, engine: str) -> None:
    truth, _ = twins(name)
    base, model = twins(name, torch.float32)
    for args in options(model, 128):
        verdict = check_made_samples(model.sample(128, seed=-2, engine=engine, **args), truth, base, seed=-2, **args)
        assert verdict.fine, verdict


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_made_cached_draws_what_the_noise_selects_in_low_precision(dtype: torch.dtype) -> None:
    for name in ("orders", "levels"):
        truth, _ = twins(name)
        base, model = twins(name, dtype)
        verdict = check_made_samples(model.sample(128, seed=4, engine="cached"), truth, base, seed=4)
        assert verdict.wrong == 0 and verdict.undecided < verdict.positions / 2, verdict


def lower_degrees(model: MADE, layer: int) -> None:
    """Hidden units that are taken to see one input fewer than they do."""
    degrees = list(model._degrees[0])
    degrees[layer] = tuple(max(0, d - 1) for d in degrees[layer])
    model._degrees = (tuple(degrees), *model._degrees[1:])


def test_made_check_catches_planted_errors() -> None:
    truth, model = twins("two-layers")
    args = {"seed": 5, **options(model, 512)[2]}

    def wrong(model: nn.Module, **drawn_with: object) -> int:
        samples = model.sample(512, engine="cached", **{**args, **drawn_with})
        return check_made_samples(samples, truth, truth, **args).wrong

    assert wrong(model) == 0
    assert wrong(model, temperature=1.0) > 0
    assert wrong(model, known=None, known_mask=None) > 0
    assert wrong(model, seed=6) > 0
    for layer in range(3):
        _, scaled = twins("two-layers")
        scaled.layers[layer].weight.data.mul_(1.01)
        assert wrong(scaled) > 0, layer
    for layer in (1, 2):
        _, late = twins("two-layers")
        lower_degrees(late, layer)
        assert wrong(late) > 0, layer


def test_made_dead_weights_do_not_matter_to_engines() -> None:
    _, model = twins("two-layers")
    expected = model.sample(9, seed=1, engine="naive")
    degrees = model._degrees[0]
    for i, layer in enumerate(model.layers):
        ins, outs = torch.tensor(degrees[i]), torch.tensor(degrees[i + 1]).unsqueeze(1)
        live = outs > ins if i == len(model.layers) - 1 else outs >= ins
        layer.weight.data.masked_fill_(~live, float("nan"))
    for engine in ENGINES:
        assert torch.equal(model.sample(9, seed=1, engine=engine), expected), engine


@each_fast
def test_made_split_does_not_matter(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = twins("orders")
    whole = model.sample(17, seed=1, engine=engine)
    for constant in ("_PIXELS_AT_ONCE", "_ROWS_AT_ONCE"):
        monkeypatch.setattr(_engines, constant, 1)
    assert torch.equal(model.sample(17, seed=1, engine=engine), whole)


def test_made_chooses_its_engine() -> None:
    assert _engines.choose(MADE(3, 4), None) == "cached"
    with pytest.raises(RuntimeError, match="MADE: engine 'cpu' cannot run: it has no MADE"):
        MADE(3, 4).sample(1, engine="cpu")
