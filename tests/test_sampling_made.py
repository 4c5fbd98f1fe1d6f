"""MADE's sampling engines draw what the noise selects, the same as the naive one."""

from __future__ import annotations

import random
import threading

import pytest
import torch
from made_twins import CASES, levels, twins
from pixel_twins import randomise
from sampling_check import check_made_samples
from support import instruction_set, isas, poisoned_memory, threads
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


def kill_dead_weights(model: MADE) -> None:
    degrees = model._degrees[0]
    for i, layer in enumerate(model.layers):
        ins, outs = torch.tensor(degrees[i]), torch.tensor(degrees[i + 1]).unsqueeze(1)
        live = outs > ins if i == len(model.layers) - 1 else outs >= ins
        layer.weight.data.masked_fill_(~live, float("nan"))


def test_made_dead_weights_do_not_matter_to_engines() -> None:
    _, model = twins("two-layers")
    expected = model.sample(9, seed=1, engine="naive")
    kill_dead_weights(model)
    for engine in ENGINES:
        assert torch.equal(model.sample(9, seed=1, engine=engine), expected), engine


@each_fast
def test_made_split_does_not_matter(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = twins("orders")
    whole = model.sample(17, seed=1, engine=engine)
    for constant in ("_PIXELS_AT_ONCE", "_ROWS_AT_ONCE", "_MULTIPLY_ADDS_AT_ONCE", "_LEAST_AT_ONCE"):
        monkeypatch.setattr(_engines, constant, 1)
    assert torch.equal(model.sample(17, seed=1, engine=engine), whole)


def test_made_chooses_its_engine() -> None:
    assert _engines.choose(MADE(3, 4), None) == ("cpu" if "cpu" in ENGINES else "cached")
    assert _engines.choose(MADE(3, 4).bfloat16(), None) == "cached"
    with pytest.raises(
        RuntimeError, match="MADE: engine 'cuda' cannot run: it runs on CUDA devices, the model is on cpu"
    ):
        MADE(3, 4).sample(1, engine="cuda")


@pytest.mark.slow
@each_fast
def test_made_engine_equals_naive_on_images_of_28x28(engine: str) -> None:
    model = randomise(MADE(784, (100, 60))).double()
    for n, args in ((3, {}), (1, {"temperature": 0.7}), (17, {})):
        if engine == "fixed_point" and n == 17:
            continue  # hundreds of forwards
        expected = model.sample(n, (28, 28), seed=3, engine="naive", **args)
        assert torch.equal(model.sample(n, (28, 28), seed=3, engine=engine, **args), expected), n


# The C++ engine: panels of 32 steps, blocks of images, registers of units

of_cpp = pytest.mark.skipif("cpu" not in ENGINES, reason="the C++ module did not load")
WIDE = {
    "panels": ((70, (90, 33)), {}),
    "panels of few steps": ((70, (90, 33)), {"num_levels": 40}),
    "levels": ((33, 40), {"num_levels": 5}),
    "int64": ((3, (40, 7, 9)), {"num_levels": 300}),
    "orders": ((64, (64, 20)), {"num_orders": 2}),
    "few-units": ((65, (3, 2)), {}),
}


def wide(name: str, dtype: torch.dtype = torch.float64) -> MADE:
    args, more = WIDE[name]
    return randomise(MADE(*args, **more)).to(dtype)


@of_cpp
@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("shuffled", [False, True], ids=["sorted", "shuffled"])
@pytest.mark.parametrize("name", WIDE)
def test_made_cpu_equals_naive_on_each_instruction_set_and_any_threads(name: str, shuffled: bool, isa: str) -> None:
    model = wide(name)
    if shuffled:
        shuffle_degrees(model)
    n = 64
    args = {"seed": 1, **options(model, n)[1]}
    expected = model.sample(n, engine="naive", **args)
    with instruction_set(isa):
        for count in (1, 3):
            with threads(count), poisoned_memory():
                assert torch.equal(model.sample(n, engine="cpu", **args), expected), count


@of_cpp
def test_made_cpu_depends_on_neither_batch_nor_threads_to_the_last_bit() -> None:
    """A large number common to all logits makes the last bits of sums decide: PyTorch's order of summation draws otherwise."""
    model = wide("levels", torch.float32)
    with torch.no_grad():
        model.layers[-1].weight.add_(1e6)
    whole = model.sample(70, seed=3, engine="cpu")
    assert (model.sample(70, seed=3, engine="naive") != whole).sum() > 20
    for n in (1, 2, 6, 7, 13, 49):
        assert torch.equal(model.sample(n, seed=3, engine="cpu"), whole[:n]), n
    for count in (2, 3, 8):
        with threads(count):
            assert torch.equal(model.sample(70, seed=3, engine="cpu"), whole), count
            assert torch.equal(model.sample(1, seed=3, engine="cpu"), whole[:1]), count


@of_cpp
def test_made_cpu_dead_weights_do_not_matter_across_panels() -> None:
    for name in ("panels", "orders"):
        model = wide(name)
        model.num_orders = 1  # in raster order: of several orderings no weight is dead in all
        shuffle_degrees(model)
        expected = model.sample(9, seed=1, engine="naive")
        kill_dead_weights(model)
        assert torch.equal(model.sample(9, seed=1, engine="cpu"), expected)


@of_cpp
def test_made_cpu_of_nan_draws_level_0_and_leaves_nothing() -> None:
    model, sick = wide("panels"), wide("panels")
    before = model.sample(5, seed=1, engine="cpu")
    with torch.no_grad():
        for parameter in sick.parameters():
            parameter.fill_(float("nan"))
    assert (sick.sample(5, seed=1, engine="cpu") == 0).all()
    assert torch.equal(model.sample(5, seed=1, engine="cpu"), before)


@each_fast
def test_made_from_two_threads_at_once_equals_solo_runs(engine: str) -> None:
    model = wide("orders")
    solo = [model.sample(5, seed=seed, engine=engine) for seed in range(3)]
    drawn: list = [None] * 3

    def work(seed: int) -> None:
        drawn[seed] = model.sample(5, seed=seed, engine=engine)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.equal(a, b) for a, b in zip(drawn, solo, strict=True))


@of_cpp
def test_made_cpu_reads_weights_of_any_strides() -> None:
    model = wide("panels")
    expected = model.sample(9, seed=1, engine="cpu")
    for layer in model.layers:
        layer.weight.data = layer.weight.data.T.contiguous().T
    assert not model.layers[0].weight.is_contiguous()
    assert torch.equal(model.sample(9, seed=1, engine="cpu"), expected)
