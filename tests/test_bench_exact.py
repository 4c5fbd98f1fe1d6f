"""The benchmarks' checks against float64: outputs and gradients, of ops and of training steps; what is wrong is left out."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pygen.models import PixelCNN
from pygen.reference import models as plain_models

pytest.importorskip("pytest_benchmark")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import attempts
import bench_gated_masked_conv2d as gated
import bench_masked_conv2d as convolutions
import bench_sampling
import exact
import harness
import training

NAN = float("nan")


@pytest.fixture(autouse=True)
def _nothing_has_failed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch, "compile", lambda op, **_: op)
    attempts.failed.clear()
    yield
    attempts.failed.clear()


def results(output: float, gradient: float, other: float = 1.0) -> exact.Results:
    return exact.Results(
        (torch.tensor([2.0, 1.0 + output]),), {"a": torch.tensor([4.0, gradient]), "b": torch.tensor(other)}
    )


TRUTH = results(0.0, 0.0)


def test_the_errors_are_parts_of_the_largest_value():
    found = exact.within(1.0, TRUTH, lambda: TRUTH)("an op", lambda: results(1.0, 1.0, 1.5))
    assert found == exact.Errors(0.5, {"a": 0.25, "b": 0.5})
    assert found.info() == {"error_vs_float64": 0.5, "gradient_errors": {"b": 0.5, "a": 0.25}}
    assert exact.Errors(0.5, {}).info() == {"error_vs_float64": 0.5}
    many = exact.Errors(0.0, {str(i): float(i) for i in range(9)})
    assert list(many.info()["gradient_errors"]) == ["8", "7", "6", "5", "4"]


def test_rounding_is_that_of_what_multiplies(monkeypatch):
    assert exact.slack(torch.float32) == 50 * 2.0**-23 and exact.slack(torch.bfloat16) == 50 * 2.0**-7
    monkeypatch.setattr(exact, "DEVICE", type("Device", (), {"type": "cuda"}))
    switch = torch.backends.cudnn.conv
    before = switch.fp32_precision
    try:
        for precision, slack in (("tf32", 2.0**-8), ("ieee", 50 * 2.0**-23)):
            switch.fp32_precision = precision
            assert exact.slack(torch.float32) == slack and exact.slack(torch.bfloat16) == 50 * 2.0**-7
    finally:
        switch.fp32_precision = before


@pytest.mark.parametrize("wrong", [(1.0, 0.0), (0.0, 2.0), (0.0, 0.0, 1.5), (NAN, 0.0), (0.0, NAN), (0.0, 0.0, NAN)])
def test_what_is_too_far_in_an_output_or_a_gradient_is_refused(wrong):
    for check in (exact.within(0.1, TRUTH, lambda: TRUTH), exact.like_eager(lambda: TRUTH, TRUTH, 0.1)):
        check("right", lambda: results(0.1, 0.3, 1.1 - 1e-6))
        with pytest.raises(AssertionError, match="an op is off by"):
            check("an op", lambda: results(*wrong))


def test_an_op_may_be_off_by_twice_what_eager_is_in_each_gradient_but_not_in_outputs():
    check = exact.within(1e-3, TRUTH, lambda: results(0.1, 0.4))  # 0.05 and 0.1
    check("right", lambda: results(0.002, 0.8))
    for wrong in (results(0.005, 0.0), results(0.0, 0.9), results(0.0, 0.0, 1.002)):
        with pytest.raises(AssertionError, match="an op is off by"):
            check("an op", lambda wrong=wrong: wrong)

    def fails() -> exact.Results:
        raise RuntimeError("no memory for it")

    alone = exact.within(1e-3, TRUTH, fails)  # the others are measured all the same
    alone("right", lambda: results(0.0019, 0.0039))
    with pytest.raises(AssertionError, match="an op is off by"):
        alone("an op", lambda: results(0.0, 0.005))
    assert list(attempts.failed) == ["eager, to compare with"]


def test_a_model_may_be_off_by_twice_what_eager_is_in_outputs_and_gradients_apart():
    check = exact.like_eager(lambda: results(0.02, 0.4), TRUTH, 1e-3)  # 0.01 and 0.1
    check("right", lambda: results(0.04, 0.8))
    check("its other gradient", lambda: results(0.0, 0.0, 1.2))
    for wrong in (results(0.05, 0.0), results(0.0, 0.9), results(0.0, 0.0, 1.21)):
        with pytest.raises(AssertionError, match="an op is off by"):
            check("an op", lambda wrong=wrong: wrong)
    with pytest.raises(AssertionError):  # nor is anything like what is no number
        exact.like_eager(lambda: results(0.0, NAN), TRUTH, 1e-3)("an op", lambda: TRUTH)


class _Falsified(torch.autograd.Function):
    """The gradient off by one part in a hundred."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad * 1.01


NAMES = ("input", "weight", "bias")


@pytest.mark.parametrize("pixels", [False, True])
def test_convolutions_of_wrong_gradients_are_left_out_in_both_layouts(pixels):
    case = convolutions.Case("small", (3, 3), "B", 3 if pixels else 4, 4, 2, 5)
    named = NAMES[pixels:]  # pixels need no gradient
    right = convolutions.competitors(case)["w*mask"]
    masked = lambda x, w, b: torch.nn.functional.conv2d(x, w, b, padding=1)  # noqa: E731

    live = case.live()
    dead = lambda x, w, b: masked(x, w + (w * live - w).detach(), b)  # noqa: E731  right but for dead weights' gradients

    def falsified(name: str) -> convolutions.Conv:
        return lambda *given: right(
            *(_Falsified.apply(t) if n == name else t for n, t in zip(NAMES, given, strict=True))
        )

    ops = {
        "w*mask": right,
        convolutions.MASKED_BEFORE: masked,
        "unmasked": masked,
        "split": convolutions.competitors(case)["split"],
    }
    ops |= {"dead": dead, **{name: falsified(name) for name in named}}
    torch.manual_seed(0)
    given = convolutions._given(case)
    works, errors = convolutions._checked(case, "forward+backward", ops, *given)
    assert list(works) == [
        f"{n}{layout}" for n in ("w*mask", "masked before", "split") for layout in ("", " channels_last")
    ]
    assert list(attempts.failed) == [
        f"{n}{layout}" for n in ("unmasked", "dead", *named) for layout in ("", " channels_last")
    ]
    assert all(e.gradients.keys() == set(named) and 0 < max(e.gradients.values()) < 1e-5 for e in errors.values())
    attempts.failed.clear()
    works, errors = convolutions._checked(case, "forward", ops, *given)  # which asks no gradients
    assert list(attempts.failed) == ["unmasked", "unmasked channels_last"]
    assert all("gradient_errors" not in e.info() for e in errors.values())


@pytest.mark.parametrize("kind", ["vertical", "horizontal"])
def test_gated_layers_of_wrong_gradients_are_left_out(kind):
    case = gated._case(kind, 4, 2, 5, torch.float32, cond=True)
    names = [*NAMES, *(["add"] if case.add else []), "cond"]
    right = gated._behind(convolutions.competitors(case.conv)["w*mask"], 1)

    def falsified(name: str) -> gated.Layer:
        at = (*NAMES, "add", "cond").index(name)
        return lambda *given: right(*(_Falsified.apply(t) if i == at else t for i, t in enumerate(given)))

    torch.manual_seed(0)
    ops = {"w*mask": right, **{name: falsified(name) for name in names}}
    works, errors = gated._checked(case, "forward+backward", ops, *gated._given(case))
    assert list(works) == ["w*mask", "w*mask channels_last"]
    assert list(attempts.failed) == [f"{name}{layout}" for name in names for layout in ("", " channels_last")]
    assert all(e.gradients.keys() == set(names) and max(e.gradients.values()) < 1e-5 for e in errors.values())


def _wrong_gradient(model: nn.Module) -> nn.Module:
    loss = model.loss
    model.loss = lambda x: _Falsified.apply(loss(x))
    return model


def test_training_steps_are_checked_by_loss_and_gradients_then_timed(monkeypatch):
    monkeypatch.setattr(training, "BUDGET_S", 0)
    torch.manual_seed(0)
    options = {"hidden_channels": 4, "num_blocks": 1}
    models = {
        "eager": plain_models.PixelCNN(**options),
        "eager .data": plain_models.DataPixelCNN(**options),
        "dead": plain_models.DataPixelCNN(**options),
        "wrong": _wrong_gradient(plain_models.PixelCNN(**options)),
        "pygen default": PixelCNN(**options),
        "pygen compiled": PixelCNN(**options),
    }
    for model in models.values():
        model.load_state_dict(models["eager"].state_dict())
    before = {name: model.first.weight.detach().clone() for name, model in models.items()}
    x = (torch.rand(2, 1, 6, 6) < 0.3).to(torch.uint8)
    kept = []
    measured = training.Training(models, x, lr=1e-2).measured(kept.append)
    assert kept == [measured] and list(attempts.failed) == ["dead", "wrong"]
    assert list(measured) == ["eager", "eager .data", "pygen default", "pygen compiled"]
    for name, m in measured.items():
        assert 0 < m.info["error_vs_float64"] < 1e-5 and m.info["peak_bytes"] > 0
        assert len(m.info["gradient_errors"]) == exact.WORST and max(m.info["gradient_errors"].values()) < 1e-4
        assert not torch.equal(before[name], models[name].first.weight)  # a step is one
    assert torch.equal(before["wrong"], models["wrong"].first.weight)


def test_samplers_tell_their_memory_on_a_gpu_in_the_call_that_warms_up(monkeypatch):
    calls = []

    def fails() -> None:
        raise RuntimeError("no memory for it")

    works = {
        "cached eager": lambda: calls.append(1),
        "cached compiled in graphs": lambda: calls.append(2),
        "fails": fails,
    }
    assert "peak_bytes" not in bench_sampling._measured(dict(works))["cached eager"].info
    calls.clear()
    monkeypatch.setattr(bench_sampling, "DEVICE", type("Device", (), {"type": "cuda"}))
    monkeypatch.setattr(harness, "peak_bytes", lambda work: (work(), 7)[1])
    measured = bench_sampling._measured(works)
    assert {name: m.info for name, m in measured.items()} == {
        "cached eager": {"peak_bytes": 7},
        "cached compiled in graphs": {"peak_bytes": None},
    }
    assert calls.count(1) == len(measured["cached eager"].samples) + 1 and "fails" in attempts.failed
