"""Every sampling engine draws what the noise selects, the same as the naive one, and leaves nothing behind."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from pixel_twins import CASES, randomise, twins
from sampling_check import Verdict, acceptable, check_samples
from support import poisoned_memory, threads
from torch import Tensor, nn

from pygen import models
from pygen.models import _cached, _cached_late, _engines, _sampling
from pygen.models._program import Conv

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
def _one_thread() -> None:
    """These models are too small for two."""
    torch.set_num_threads(1)


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


# The same as naive


@each_fast
@each_case
def test_engine_equals_naive_in_float64(name: str, engine: str) -> None:
    _, model = twins(name)
    for shape in SHAPES:
        args = {"cond": CASES[name].conditions(N, *shape), "seed": 3, "engine": engine}
        for option, more in options(name, N, shape).items():
            n = N if option == "known" else 3  # an image does not depend on its batch-mates
            some = model.sample(n, shape, **first(n, {**args, **more}))
            assert torch.equal(some, naive(name, shape, option)[:n]), (shape, option)
        assert torch.equal(model.sample(1, shape, **first(1, args)), naive(name, shape, "plain")[:1])


@pytest.mark.slow
@each_fast
@pytest.mark.parametrize("name", ["plain", "plain-rgb", "gated", "gated-map"])
def test_engine_equals_naive_on_large_images(name: str, engine: str) -> None:
    _, model = twins(name)
    args = {"cond": CASES[name].conditions(N, 28, 28), "seed": 3}
    few = first(3, {**args, **options(name, N, (28, 28))["block"]})
    expected = model.sample(3, (28, 28), engine="naive", **few)
    assert torch.equal(model.sample(3, (28, 28), engine=engine, **few), expected)
    single = {k: v[:1] if isinstance(v, Tensor) and len(v) == 3 else v for k, v in few.items()}
    one = model.sample(1, (28, 28), engine=engine, **single)
    assert torch.equal(one, expected[:1])
    many = model.sample(N, (28, 28), engine=engine, **args)
    assert torch.equal(model.sample(N, (28, 28), engine="cached", **args), many)


# What the noise selects


def verdict(name: str, engine: str, dtype: torch.dtype, n: int, shape: tuple[int, int], option: str) -> Verdict:
    truth, _ = twins(name)
    base, model = twins(name, dtype)
    args = {"cond": CASES[name].conditions(n, *shape), "seed": -7, **options(name, n, shape)[option]}
    return check_samples(model.sample(n, shape, engine=engine, **args), truth, base, **args)


@each_engine
@each_case
def test_engine_draws_what_the_noise_selects(name: str, engine: str) -> None:
    result = verdict(name, engine, torch.float32, 64, (8, 8) if engine != "naive" else (4, 4), "block")
    assert result.fine and result.known > 0, result


@pytest.mark.slow
@each_fast
@pytest.mark.parametrize("name", ["plain-grey", "plain-rgb", "gated", "gated-rgb"])
def test_engine_draws_what_the_noise_selects_in_large_images(name: str, engine: str) -> None:
    result = verdict(name, engine, torch.float32, 64, (28, 28), "plain")
    assert result.fine, result


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_cached_draws_what_the_noise_selects_in_low_precision(dtype: torch.dtype) -> None:
    """Where the tolerance leaves much undecided: as near to the noise's choice in float64 as the naive engine."""
    for name in ("plain-grey", "gated"):
        assert verdict(name, "cached", dtype, 64, (8, 8), "known").wrong == 0
        truth, _ = twins(name)
        _, model = twins(name, dtype)
        theirs, ours = (
            check_samples(model.sample(64, (8, 8), seed=3, engine=engine), truth, truth, seed=3).wrong
            for engine in ("naive", "cached")
        )
        assert ours <= 2 * theirs + 10, (ours, theirs)


# The check itself


def test_check_accepts_the_levels_on_both_sides_of_a_near_boundary_and_no_others() -> None:
    p = torch.tensor([0.1, 0.2, 0.0, 0.3, 0.4], dtype=torch.float64)
    for u, without, with_delta in (
        (0.05, [0], [0]),
        (0.1, [0, 1], [0, 1]),
        (0.0999, [0], [0, 1]),
        (0.1001, [1], [0, 1]),
        (0.2999, [1], [1, 3]),
        (0.59, [3], [3]),
        (1.0, [4], [4]),
    ):
        noise = torch.tensor(u, dtype=torch.float64)
        assert acceptable(p.log(), noise, 0.0).nonzero()[:, 0].tolist() == without
        assert acceptable(p.log(), noise, 1e-3).nonzero()[:, 0].tolist() == with_delta


def planted(
    name: str,
    engine: str = "cached",
    *,
    n: int = 64,
    change: Callable[[nn.Module], object] = lambda model: None,
    drawn_with: dict | None = None,
    option: str = "plain",
) -> Verdict:
    """Of images drawn from a changed model or with other arguments than the check is told."""
    truth, model = twins(name)
    args = {"cond": CASES[name].conditions(n, 8, 8), "seed": 5, **options(name, n, (8, 8))[option]}
    change(model)
    images = model.sample(n, (8, 8), engine=engine, **{**args, **(drawn_with or {})})
    return check_samples(images, truth, truth, **args)


def change_stage(model: nn.Module, s: int, change: Callable[[Conv], Conv]) -> None:
    """Stage s of its program, counted among the convolutions with taps."""
    original = model._program

    def program(cond: Tensor | None) -> object:
        made = original(cond)
        stages = list(made.stages)
        which = [i for i, stage in enumerate(stages) if isinstance(stage, Conv) and stage.taps][s]
        stages[which] = change(stages[which])
        return dataclasses.replace(made, stages=tuple(stages))

    model._program = program


@each_of_programs
def test_check_catches_any_layer_scaled_by_one_percent(engine: str) -> None:
    assert planted("gated", engine, n=256).fine
    _, model = twins("gated")
    for key, weight in model.named_parameters():
        if weight.dim() > 1:

            def scale(model: nn.Module, key: str = key) -> None:
                model.get_parameter(key).mul_(1.01)

            with torch.no_grad():
                assert planted("gated", engine, n=256, change=scale).wrong > 0, key


@each_of_programs
@pytest.mark.parametrize("s", range(4))
def test_check_catches_a_shifted_tap(s: int, engine: str) -> None:
    def shift(stage: Conv) -> Conv:
        (dy, dx), *others = stage.taps
        return dataclasses.replace(stage, taps=((dy, dx - 1), *others))

    assert planted("gated", engine, change=lambda model: change_stage(model, s, shift)).wrong > 0


@each_of_programs
def test_check_catches_a_wrong_group(engine: str) -> None:
    def mix(stage: Conv) -> Conv:  # green sees the row above as red does
        weight = stage.weight.unflatten(1, (3, -1))[:, [0, 0, 2]].flatten(1, 2)
        return dataclasses.replace(stage, weight=weight.contiguous())

    for name in ("plain-rgb", "gated-rgb"):
        assert planted(name, engine).fine
        assert planted(name, engine, change=lambda model: change_stage(model, 1, mix)).wrong > 0


def test_check_catches_a_stale_row(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_row = _cached_late.Late.draw_row

    def forgetful(late: _cached_late.Late, y: int) -> None:
        before = late.rings[0].row(y).clone()
        draw_row(late, y)
        if y == 5:
            late.rings[0].row(y).copy_(before)

    monkeypatch.setattr(_cached_late.Late, "draw_row", forgetful)
    for name in ("plain", "gated"):
        assert planted(name).wrong > 0


@each_of_programs
def test_check_catches_ignored_options(engine: str) -> None:
    assert planted("gated", engine, drawn_with={"temperature": 1.0}, option="block").wrong > 0
    assert planted("gated", engine, drawn_with={"known": None, "known_mask": None}, option="known").wrong > 0
    assert planted("gated", engine, drawn_with={"seed": 6}).wrong > 0
    assert planted("gated-map", engine, drawn_with={"cond": CASES["gated-map"].conditions(64, 8, 8).flip(0)}).wrong > 0


# Memory, threads, batches


@each_fast
def test_poisoned_memory_never_shows(engine: str) -> None:
    for name in ("plain-rgb", "gated-map"):
        _, model = twins(name)
        args = {"cond": CASES[name].conditions(N, 5, 3), "seed": 3, **options(name, N, (5, 3))["known"]}
        with poisoned_memory():
            assert torch.equal(model.sample(N, (5, 3), engine=engine, **args), naive(name, (5, 3), "known"))


@each_fast
def test_batch_split_and_thread_count_do_not_matter(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, _ = twins("gated-classes")
    base, model = twins("gated-classes", torch.float32)
    args = {"cond": CASES["gated-classes"].conditions(N), "seed": 1, **options("gated-classes", N, (6, 5))["known"]}
    whole = model.sample(N, (6, 5), engine=engine, **args)
    with threads(2):
        again = model.sample(N, (6, 5), engine=engine, **args)
    for constant in ("_PIXELS_AT_ONCE", "_ROWS_AT_ONCE", "_MULTIPLY_ADDS_AT_ONCE", "_LEAST_AT_ONCE"):
        monkeypatch.setattr(_engines, constant, 1)
    split = model.sample(N, (6, 5), engine=engine, **args)
    for images in (whole, again, split):
        assert check_samples(images, truth, base, **args).fine
    assert torch.equal(whole, again)


@each_fast
def test_two_threads_draw_as_one(engine: str) -> None:
    _, model = twins("gated")
    model.train()
    solo = [model.sample(5, (6, 6), seed=seed, engine=engine) for seed in range(4)]
    drawn: list[Tensor | None] = [None] * 4

    def work(seed: int) -> None:
        drawn[seed] = model.sample(5, (6, 6), seed=seed, engine=engine)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.equal(a, b) for a, b in zip(drawn, solo, strict=True))
    assert all(module.training for module in model.modules())


def test_two_samplers_interleave(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = twins("plain")
    _, other = twins("gated")
    solo = model.sample(3, (4, 4), seed=1), other.sample(2, (5, 3), seed=2)
    inner = []
    begin = _cached._Early.make_row

    def interleaved(early: object, y: int) -> None:
        if y == 2 and not inner:
            inner.append(None)
            inner[0] = other.sample(2, (5, 3), seed=2, engine="cached")
        begin(early, y)

    monkeypatch.setattr(_cached._Early, "make_row", interleaved)
    assert torch.equal(model.sample(3, (4, 4), seed=1, engine="cached"), solo[0])
    assert torch.equal(inner[0], solo[1])


def test_cached_memory_is_rows() -> None:
    _, model = twins("gated")
    sizes = []
    for height in (8, 80):
        drawing, _ = _sampling.prepare(
            "GatedPixelCNN",
            2,
            (1, height, 6),
            2,
            torch.device("cpu"),
            known=None,
            known_mask=None,
            temperature=1.0,
            seed=0,
            generator=None,
        )
        with torch.no_grad():
            program = model._program(None)
            early = _cached._Early(program, 2, 6)
            late = _cached_late.Late(program, drawing, early.rings)
        buffers = [ring.data for ring in early.rings.values()]
        buffers += [row.data for rows in (late.rows, late.rectified) for row in rows.values()] + list(
            late.base.values()
        )
        sizes.append(sum(t.numel() for t in buffers))
    assert sizes[0] == sizes[1]


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the kernel does not say how much memory a process has"
)
def test_memory_is_flat_over_1000_images() -> None:
    """The process's highest memory: the first of ten calls settles it."""
    code = """
        import resource, torch
        from pygen import models
        torch.set_num_threads(1)
        model, made = models.GatedPixelCNN(hidden_channels=16, num_blocks=2), models.MADE(64, 50)
        for engine in ENGINES:
            peaks = []
            for seed in range(10):
                model.sample(100, (8, 8), seed=seed, engine=engine)
                made.sample(100, seed=seed, engine=engine)
                peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            assert peaks[-1] - peaks[1] < 2048, (engine, peaks)
    """
    source = textwrap.dedent(code).replace("ENGINES", repr(OF_PROGRAMS))
    subprocess.run([sys.executable, "-c", source], check=True)


# Choice and refusals


def test_engine_none_is_the_first_that_can() -> None:
    model = models.PixelCNN(hidden_channels=4, num_blocks=0)
    assert _engines.choose(model, None) == ("cpu" if "cpu" in ENGINES else "cached")
    assert _engines.choose(model.bfloat16(), None) == "cached"
    assert _engines.choose(model, "naive") == "naive"


def test_engine_that_cannot_run_says_why() -> None:
    _, model = twins("plain")
    half = models.PixelCNN(num_blocks=0).bfloat16()
    state = torch.get_rng_state()
    with pytest.raises(
        RuntimeError, match="PixelCNN: engine 'cuda' cannot run: it runs on CUDA devices, the model is on cpu"
    ):
        model.sample(1, (2, 2), engine="cuda")
    with pytest.raises(
        RuntimeError, match=r"engine 'cpu' cannot run: it runs in float32 and float64, .* torch.bfloat16"
    ):
        half.sample(1, (2, 2), engine="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    model.sample(1, (2, 2), seed=0)


def test_programs_do_not_speak_for_what_they_do_not_know() -> None:
    class Shifted(models.PixelCNN):
        def _logits(self, x: Tensor, cond: Tensor | None) -> Tensor:
            return super()._logits(x, cond) + 1

    with pytest.raises(RuntimeError, match="Shifted defines _logits without a sampling program"):
        Shifted(num_blocks=0).sample(1, (2, 2), engine="cached")
    _, model = twins("plain")
    handle = model.head.register_forward_hook(lambda module, args, out: None)
    with pytest.raises(RuntimeError, match="the model has forward hooks"):
        model.sample(1, (2, 2), engine="cached")
    assert _engines.choose(model, None) == "naive"
    handle.remove()
    assert _engines.choose(model, None) != "naive"


def test_cpu_engine_is_called_with_contiguous_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract with pygen.native.sampling, whichever is installed."""
    calls = []

    def draw(program: object, levels: Tensor, u: Tensor, known: Tensor, mask: Tensor, temperature: float) -> None:
        assert levels.shape == known.shape == mask.shape == (len(levels), 3, 5, 4) and u.shape == (len(levels), 5, 4, 3)
        assert all(t.is_contiguous() for t in (levels, u, known, mask)) and u.dtype == torch.float32
        calls.append((len(levels), temperature))
        levels.fill_(2)

    fake = types.ModuleType("pygen.native.sampling")
    fake.draw = draw
    monkeypatch.setitem(sys.modules, "pygen.native.sampling", fake)
    monkeypatch.setitem(_engines._backends.status(), "cpu", None)
    monkeypatch.setattr(_engines, "_MULTIPLY_ADDS_AT_ONCE", 1)
    _, model = twins("plain-rgb")
    mask = torch.tensor(False)
    images = model.sample(70, (5, 4), engine="cpu", known=torch.tensor(0, dtype=torch.uint8), known_mask=mask)
    assert (images == 2).all() and calls == [(32, 1.0), (32, 1.0), (6, 1.0)]
    monkeypatch.setitem(_engines._backends.status(), "cpu", "it is not compiled")
    with pytest.raises(RuntimeError, match="engine 'cpu' cannot run: it is not compiled"):
        model.sample(1, (2, 2), engine="cpu")


@each_of_programs
def test_weights_that_changed_since_the_last_call_count_however_they_changed(engine: str) -> None:
    """Some of these ways bump no version counter, or keep the parameter and its address."""
    _, model = twins("gated")
    _, other = twins("gated")
    randomise(other, seed=1)
    weight = model.blocks[0].horizontal.weight

    def optimise() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        model.loss(CASES["gated"].images(4, 5, 5)).backward()
        optimizer.step()

    def flip_memory() -> None:
        weight.detach().numpy()[:] *= -1

    changes: list[Callable[[], object]] = [
        optimise,
        flip_memory,
        lambda: weight.data.mul_(3),
        lambda: model.load_state_dict(other.state_dict()),
        lambda: setattr(model.head[3], "weight", nn.Parameter(-model.head[3].weight.detach())),
        lambda: setattr(weight, "data", -weight.data),
    ]
    before = model.sample(9, (6, 6), seed=2, engine=engine)
    for i, change in enumerate(changes):
        change()
        after = model.sample(9, (6, 6), seed=2, engine=engine)
        assert torch.equal(after, model.sample(9, (6, 6), seed=2, engine="naive")), i
        assert not torch.equal(after, before), i
        before = after


@each_engine
def test_weights_that_change_meanwhile_are_an_error(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = twins("plain")
    assert not any("cache" in key for key in model.state_dict())
    before = model.sample(2, (4, 4), seed=0, engine=engine)
    original = _engines.ENGINES[engine]

    def change(task: object, watch: object) -> None:
        model.head[1].weight.data.zero_()
        model.head[1].bias.mul_(2)
        original.draw(task, watch)

    def convert(task: object, watch: object) -> None:
        model.float()
        original.draw(task, watch)

    def replace(task: object, watch: object) -> None:
        model.head[1] = nn.Conv2d(8, 8, 1).double()
        original.draw(task, watch)

    for meddle in (change, convert, replace):
        _, model = twins("plain")
        monkeypatch.setitem(_engines.ENGINES, engine, dataclasses.replace(original, draw=meddle))
        with pytest.raises(RuntimeError, match=r"PixelCNN.sample: the model was changed while it was sampled from"):
            model.sample(2, (4, 4), seed=0, engine=engine)
        monkeypatch.undo()
    _, again = twins("plain")
    assert torch.equal(again.sample(2, (4, 4), seed=0, engine=engine), before)
