"""Every sampling engine draws what the noise selects, by a float64 forward over the images; and that check is checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from pixel_twins import CASES, twins
from sampling_cases import _one_thread as _one_thread
from sampling_cases import each_case, each_engine, each_fast, each_of_programs, options
from sampling_check import Verdict, acceptable, check_samples
from torch import Tensor, nn

from pygen.models import _cached_late
from pygen.models._program import Conv

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
    for name in ("plain-grey", "gated", "rnn"):
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
