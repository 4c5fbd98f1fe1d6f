"""pygen.models.NADE against its twin, by enumeration, and the samples of each engine."""

from __future__ import annotations

import pytest
import torch
from nade_twins import CASES, levels, twins
from pixel_twins import all_binary_images, randomise
from sampling_check import check_made_samples
from support import instruction_set, isas, poisoned_memory, threads
from torch import Tensor

from pygen.models import NADE, _engines, _sampling
from pygen.reference.models import NADE as PlainNADE

each_case = pytest.mark.parametrize("name", CASES)
ENGINES = [name for name in _engines.ENGINES if _engines.why_not(NADE(2, 3), name) is None]
each_engine = pytest.mark.parametrize("engine", ENGINES)
of_cpp = pytest.mark.skipif("cpu" not in ENGINES, reason="the C++ module did not load")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """These models are too small for two."""
    torch.set_num_threads(1)


def options(model: NADE, n: int) -> list[dict]:
    known = levels(model, n, seed=1)
    some = torch.rand(known.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    late = torch.arange(model.num_inputs) >= model.num_inputs // 2
    return [{}, {"known": known, "known_mask": some}, {"known": known, "known_mask": late, "temperature": 0.6}]


def gradients(value: Tensor, model: torch.nn.Module, weights: Tensor) -> tuple[Tensor, ...]:
    """Of one input, whose weight feeds nothing, 0."""
    parameters = list(model.parameters())
    return torch.autograd.grad(value, parameters, weights, allow_unused=True, materialize_grads=True)


@each_case
def test_nade_equals_its_twin_in_values_and_gradients(name: str) -> None:
    plain, ours = twins(name)
    assert ours.orders == plain.orders
    x = levels(ours, 7)
    for method in (
        lambda m: m.loss(x),
        lambda m: m.log_prob(x.long()),
        lambda m: m.order_log_probs(x),
        lambda m: m.logits(x, m.num_orders - 1),
    ):
        a, b = method(plain), method(ours)
        torch.testing.assert_close(b, a, rtol=1e-11, atol=1e-11)
        weights = torch.linspace(-1, 2, a.numel(), dtype=torch.float64).view(a.shape)
        grads = [gradients(v, m, weights) for v, m in ((a, plain), (b, ours))]
        torch.testing.assert_close(grads[1], grads[0], rtol=1e-9, atol=1e-10)


def test_nade_starts_as_its_twin_and_trains_with_it() -> None:
    torch.manual_seed(3)
    sides = [PlainNADE(9, 7, num_orders=2), NADE(9, 7, num_orders=2)]
    for plain, ours in zip(*(m.parameters() for m in sides), strict=True):
        assert plain.shape == ours.shape and plain.any() == ours.any()
        assert 0.6 < (plain.std() + 1) / (ours.std() + 1) < 1.6 and plain.abs().max() <= 3 / 7
    sides[1].load_state_dict(sides[0].state_dict())
    optimizers = [torch.optim.AdamW(model.double().parameters(), 1e-2) for model in sides]
    for step in range(10):
        losses = []
        for model, optimizer in zip(sides, optimizers, strict=True):
            optimizer.zero_grad()
            loss = model.loss(levels(sides[1], 8, seed=step))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[1] == pytest.approx(losses[0], rel=1e-9)


@each_case
def test_nade_sees_the_inputs_before_alone(name: str) -> None:
    """Exact zeros in the Jacobian of each ordering, and nothing else."""
    _, model = twins(name)
    x = torch.rand(1, model.num_inputs, dtype=torch.float64)
    for order, when in enumerate(model.orders):
        jacobian = torch.autograd.functional.jacobian(lambda t, k=order: model._logits(t, k)[0, :, 1], x)[:, 0]
        after = torch.tensor(when)[:, None] > torch.tensor(when)
        assert (jacobian[~after] == 0).all() and (jacobian[after] != 0).all()


def test_nade_probabilities_sum_to_one_in_each_ordering_and_for_the_ensemble() -> None:
    _, model = twins("orders")
    x = all_binary_images(3, 3)
    with torch.no_grad():
        each = model.order_log_probs(x)
    assert each.exp().sum(1).tolist() == pytest.approx([1] * model.num_orders, abs=1e-9)
    torch.testing.assert_close(model.log_prob(x).detach(), each.exp().mean(0).log())
    assert (each[0] - each[1]).abs().max() > 0.1


# Samples


@each_case
def test_nade_sample_of_each_engine_equals_its_twins_whatever_the_batch(name: str) -> None:
    plain, model = twins(name)
    for args in options(model, 17):
        expected = plain.sample(17, seed=3, **args)
        assert expected.dtype == torch.uint8
        for engine in ENGINES:
            with poisoned_memory():
                assert torch.equal(model.sample(17, seed=3, engine=engine, **args), expected), engine
    for n in (0, 1, 3):
        for engine in ENGINES:
            assert torch.equal(model.sample(n, seed=3, engine=engine), plain.sample(17, seed=3)[:n]), engine


@each_engine
@each_case
def test_nade_engine_draws_what_the_noise_selects(name: str, engine: str) -> None:
    truth, _ = twins(name)
    base, model = twins(name, torch.float32)
    args = options(model, 128)[2]
    verdict = check_made_samples(model.sample(128, seed=-2, engine=engine, **args), truth, base, seed=-2, **args)
    assert verdict.fine, verdict


def test_nade_cached_draws_what_the_noise_selects_in_low_precision() -> None:
    truth, _ = twins("orders")
    base, model = twins("orders", torch.bfloat16)
    verdict = check_made_samples(model.sample(128, seed=4), truth, base, seed=4)
    assert verdict.wrong == 0 and verdict.undecided < verdict.positions / 2, verdict


def test_nade_sample_frequencies_are_the_models_probabilities(capsys: pytest.CaptureFixture[str]) -> None:
    model = NADE(4, 6, num_orders=3).double()
    randomise(model)
    n = 40_000
    drawn = model.sample(n, seed=0, progress=True).long()
    counts = torch.bincount((drawn << torch.arange(4)).sum(1), minlength=16)
    expected = n * model.log_prob(all_binary_images(2, 2)).detach().exp()
    big = expected > 5
    assert ((counts - expected).square() / expected)[big].sum() < 45  # 15 degrees of freedom
    assert capsys.readouterr().err.endswith("NADE.sample: 160000 of 160000\n")


def test_nade_of_weights_that_are_nan_draws_zeros_and_its_last_row_feeds_nothing() -> None:
    _, model = twins("several-vectors")
    model.num_orders = 1
    expected = {engine: model.sample(5, seed=1, engine=engine) for engine in ENGINES}
    with torch.no_grad():
        model.weight[-1] = torch.nan
    for engine in ENGINES:
        assert torch.equal(model.sample(5, seed=1, engine=engine), expected[engine]), engine
    with torch.no_grad():
        model.hidden_bias.fill_(torch.nan)
    for engine in ENGINES:
        assert not model.sample(5, seed=1, engine=engine).any(), engine


@of_cpp
@pytest.mark.parametrize("isa", isas())
def test_nade_cpu_equals_naive_on_each_instruction_set_and_any_threads(isa: str) -> None:
    _, model = twins("several-vectors")
    args = {"seed": 1, **options(model, 35)[1]}
    expected = model.sample(35, engine="naive", **args)
    with instruction_set(isa):
        for count in (1, 3):
            with threads(count), poisoned_memory():
                assert torch.equal(model.sample(35, engine="cpu", **args), expected), count


@of_cpp
def test_nade_cpu_depends_on_neither_batch_nor_threads_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large numbers that nearly cancel make the last bits of sums decide: another order of summation draws otherwise."""
    _, model = twins("several-vectors", torch.float32)
    model.num_orders = 1
    with torch.no_grad():
        model.weight.zero_()
        model.output_weight.mul_(1e7)
        model.output_bias.copy_(-(model.output_weight.double() @ model.hidden_bias.sigmoid().double()))
    whole = model.sample(70, seed=3, engine="cpu")
    assert (model.sample(70, seed=3, engine="cached") != whole).any()
    for n in (1, 2, 6, 7, 13, 49):
        assert torch.equal(model.sample(n, seed=3, engine="cpu"), whole[:n]), n
    for count in (2, 3, 8):
        with threads(count):
            assert torch.equal(model.sample(70, seed=3, engine="cpu"), whole), count
    monkeypatch.setattr(_engines, "_MULTIPLY_ADDS_AT_ONCE", 1)  # several calls
    monkeypatch.setattr(_engines, "_LEAST_AT_ONCE", 9)
    monkeypatch.setattr(_engines, "_LEAST_LARGE_AT_ONCE", 9)
    assert torch.equal(model.sample(70, seed=3, engine="cpu"), whole)


def test_nade_inpainting_is_not_led_by_later_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = twins("orders")
    free = model.sample(8, seed=2, engine="naive")
    monkeypatch.setattr(_sampling, "_UNDRAWN", 1)
    assert torch.equal(model.sample(8, seed=2, engine="naive"), free)


def test_nade_chooses_its_engine() -> None:
    assert _engines.choose(NADE(3, 4), None) == ("cpu" if "cpu" in ENGINES else "cached")
    assert _engines.choose(NADE(3, 4).bfloat16(), None) == "cached"
    with pytest.raises(RuntimeError, match="NADE: engine 'cuda' cannot run: it runs on CUDA devices"):
        NADE(3, 4).sample(1, engine="cuda")


# Calls


def test_nade_refuses() -> None:
    model = NADE(4, 3)
    for wrong, match in (
        (lambda: NADE(0, 3), "num_inputs: expected"),
        (lambda: NADE(4, 0), "hidden_size: expected"),
        (lambda: model.loss(torch.zeros(2, 5, dtype=torch.uint8)), r"x: expected shape \[N, ...\] with 4 elements"),
        (lambda: model.loss(torch.full((2, 4), 2)), "x: expected levels 0 .. 1"),
        (lambda: model.logits(torch.zeros(2, 4, dtype=torch.int64), 1), "order: expected 0 .. 0"),
        (lambda: model.sample(1, (3, 2)), "shape: expected 4 elements"),
    ):
        with pytest.raises(ValueError, match=f"NADE: {match}"):
            wrong()
    with pytest.raises(TypeError, match=r"NADE: x: expected levels 0 .. 1 as torch.uint8 or torch.int64, .*\(x \* 1\)"):
        model.loss(torch.zeros(2, 4))
    with pytest.raises(TypeError, match="NADE: cond: expected None"):
        model.log_prob(torch.zeros(2, 4, dtype=torch.uint8), torch.zeros(2))
