"""pygen.models.MADE against its twin, by enumeration, and its samples."""

from __future__ import annotations

import pytest
import torch
from made_twins import CASES, levels, twins
from pixel_twins import all_binary_images, randomise

from pygen.models import MADE, _sampling

each_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """These models are too small for two."""
    torch.set_num_threads(1)


@each_case
def test_made_equals_its_twin_in_values_and_gradients(name: str) -> None:
    plain, ours = twins(name)
    assert ours.orders == plain.orders
    x = levels(ours, 7)
    for method in (
        lambda m: m.loss(x),
        lambda m: m(x),
        lambda m: m.log_prob(x),
        lambda m: m.order_log_probs(x),
        lambda m: m.logits(x, m.num_orders - 1),
    ):
        a, b = method(plain), method(ours)
        torch.testing.assert_close(b, a, rtol=1e-11, atol=1e-11)
        weights = torch.linspace(-1, 2, a.numel(), dtype=torch.float64).view(a.shape)
        plain_grads = torch.autograd.grad(a, list(plain.parameters()), weights)
        our_grads = torch.autograd.grad(b, list(ours.parameters()), weights)
        torch.testing.assert_close(our_grads, plain_grads, rtol=1e-9, atol=1e-10)


def test_made_trains_as_its_twin_step_by_step() -> None:
    for name in ("two-layers", "orders"):
        sides = twins(name)
        optimizers = [torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=0.1) for model in sides]
        for step in range(20):
            losses = []
            for model, optimizer in zip(sides, optimizers, strict=True):
                optimizer.zero_grad()
                loss = model.loss(levels(model, 8, seed=step))
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            assert losses[1] == pytest.approx(losses[0], rel=1e-9)


@each_case
def test_made_sees_the_inputs_before_alone(name: str) -> None:
    """Exact zeros in the Jacobian of each ordering; with enough hidden units every earlier input is seen."""
    _, model = twins(name)
    inputs = model.num_inputs
    for order, when in enumerate(model.orders):
        total = torch.zeros(inputs, inputs, dtype=torch.float64)
        for draw in range(5):
            x = torch.randn(1, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(draw))
            jacobian = torch.autograd.functional.jacobian(lambda t, k=order: model._logits(t, k)[0], x)
            total += jacobian[:, :, 0].abs().sum(1)
        after = torch.tensor(when)[:, None] > torch.tensor(when)
        assert (total[~after] == 0).all()
        if name != "narrow":
            assert (total[after] == 0).sum() <= 0.1 * after.sum()  # a relu may be shut by chance


@pytest.mark.parametrize("name", ["one-layer", "two-layers", "orders"])
def test_made_probabilities_sum_to_one_in_each_ordering_and_for_the_ensemble(name: str) -> None:
    _, model = twins(name)
    x = all_binary_images(3, 3)
    each = model.order_log_probs(x)
    assert each.exp().sum(1).tolist() == pytest.approx([1] * model.num_orders, abs=1e-9)
    assert model.log_prob(x).exp().sum().item() == pytest.approx(1, abs=1e-9)
    torch.testing.assert_close(model.log_prob(x), each.exp().mean(0).log())
    if model.num_orders > 1:
        assert (each[0] - each[1]).abs().max() > 0.1
        mean_logits = torch.stack([model.logits(x, k) for k in range(model.num_orders)]).mean(0)
        invalid = torch.log_softmax(mean_logits, -1).gather(2, x.flatten(1).long()[..., None]).sum((1, 2))
        assert abs(invalid.exp().sum().item() - 1) > 1e-3  # averaging logits is no distribution


def test_made_probabilities_of_4x4_images_sum_to_one() -> None:
    model = MADE(16, 24, num_orders=2).double()
    randomise(model)
    x = all_binary_images(4, 4)
    with torch.no_grad():
        assert model.order_log_probs(x).exp().sum(1).tolist() == pytest.approx([1, 1], abs=1e-9)


def test_made_log_prob_is_the_sum_of_its_conditionals() -> None:
    _, model = twins("levels")
    x = levels(model, 5)
    log_p = torch.log_softmax(model.logits(x), dim=-1)
    manual = sum(log_p[torch.arange(5), d, x[:, d].long()] for d in range(6))
    torch.testing.assert_close(model.log_prob(x), manual)
    torch.testing.assert_close(model.loss(x.view(5, 1, 2, 3)), -manual.mean())
    assert model.sample(2).shape == (2, 1, 2, 3)


def test_made_orderings_are_permutations_that_stay() -> None:
    model = MADE(64, 8, num_orders=3)
    first, second, third = model.orders
    assert first == list(range(64)) and sorted(second) == sorted(third) == first and second != third != first
    assert MADE(64, 8, num_orders=3).orders == model.orders
    assert second[:6] == [13, 17, 41, 3, 24, 20]  # checkpoints depend on it


@each_case
def test_made_sample_equals_its_twins_whatever_the_batch(name: str) -> None:
    plain, ours = twins(name)
    whole = ours.sample(9, seed=3)
    assert torch.equal(whole, plain.sample(9, seed=3)) and whole.dtype == torch.uint8
    assert torch.equal(ours.sample(4, seed=3), whole[:4])
    known, mask = levels(ours, 9, seed=1), torch.rand(9, ours.num_inputs) < 0.5
    args = {"seed": 3, "known": known, "known_mask": mask, "temperature": 1.5}
    guided = ours.sample(9, **args)
    assert torch.equal(guided, plain.sample(9, **args)) and torch.equal(guided[mask], known[mask])


def test_made_sample_frequencies_are_the_models_probabilities(capsys: pytest.CaptureFixture[str]) -> None:
    model = MADE(4, 12, num_orders=3).double()
    randomise(model)
    n = 40_000
    drawn = model.sample(n, seed=0, progress=True).long()
    counts = torch.bincount((drawn << torch.arange(4)).sum(1), minlength=16)
    expected = n * model.log_prob(all_binary_images(2, 2)).detach().exp()
    big = expected > 5
    assert ((counts - expected).square() / expected)[big].sum() < 45  # 15 degrees of freedom
    assert capsys.readouterr().err.endswith("MADE.sample: 160000 of 160000\n")


def test_made_inpainting_is_not_led_by_later_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in ("naive", "fixed_point"):  # the others keep no undrawn levels
        _, model = twins("orders")
        free = model.sample(8, seed=2, engine=engine)
        monkeypatch.setattr(_sampling, "_UNDRAWN", 1)
        assert torch.equal(model.sample(8, seed=2, engine=engine), free)
        monkeypatch.undo()
    _, model = twins("two-layers")
    free, known = model.sample(8, seed=2), levels(model, 8)
    guided = model.sample(8, seed=2, known=known, known_mask=torch.arange(9) >= 5)
    assert torch.equal(guided[:, :5], free[:, :5]) and torch.equal(guided[:, 5:], known[:, 5:])
