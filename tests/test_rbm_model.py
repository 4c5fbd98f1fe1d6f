"""pygen.models.RBM against its twin, by enumeration, by annealed importance sampling, on digits."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from pygen.models import RBM
from pygen.reference.models import RBM as PlainRBM


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """These models are too small for two."""
    torch.set_num_threads(1)


def machine(visible: int, hidden: int, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> RBM:
    torch.manual_seed(visible + hidden)
    model = RBM(visible, hidden).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(scale * torch.randn(p.shape))
    return model


def states(units: int) -> Tensor:
    return torch.tensor(list(itertools.product((0, 1), repeat=units)), dtype=torch.uint8)


def levels(n: int, visible: int) -> Tensor:
    return torch.randint(0, 2, (n, visible), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("persistent", (False, True))
def test_rbm_trains_with_its_twin(persistent: bool) -> None:
    ours, plain = machine(9, 5), PlainRBM(9, 5).double()
    plain.load_state_dict(ours.state_dict())
    optimizers = [torch.optim.SGD(m.parameters(), 0.1, momentum=0.5) for m in (ours, plain)]
    for step in range(5):
        x, seed, losses = levels(8, 9).roll(step, 1), torch.tensor(step), []
        for model, optimizer in zip((ours, plain), optimizers, strict=True):
            optimizer.zero_grad()
            loss = model.loss(x, k=2, persistent=persistent, seed=seed)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-9, abs=1e-9)
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
    assert torch.equal(ours.chains, plain.chains) and len(ours.chains) == (8 if persistent else 0)


def test_rbm_persistent_chains_go_on_and_are_saved() -> None:
    model, x = machine(6, 4), levels(5, 6)
    torch.manual_seed(0)
    model.loss(x, persistent=True)
    chains = model.chains.clone()
    again = RBM(6, 4).double()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.chains, chains)
    expected = model.gibbs(chains, 3, seed=4)
    again.eval()
    again.loss(x, persistent=True, seed=4, k=3)
    assert torch.equal(again.chains, chains)  # not in training
    again.train()
    again.loss(x[:2], persistent=True, seed=4, k=3)  # a smaller batch does not end chains
    assert torch.equal(again.chains, expected)
    with pytest.raises(RuntimeError, match="size mismatch for chains"):
        RBM(6, 4).load_state_dict({**model.state_dict(), "chains": torch.zeros(2, 5, dtype=torch.uint8)})


@pytest.mark.parametrize(("visible", "hidden"), [(9, 4), (4, 9)])
def test_rbm_probabilities_sum_to_one_and_the_exact_gradient_is_that_of_the_likelihood(
    visible: int, hidden: int
) -> None:
    model = machine(visible, hidden)
    x = states(visible)
    log_prob = model.log_prob(x.view(len(x), visible, 1))
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-12)
    value, error, method = model.log_partition()
    assert error == 0 and method == "exact" and value.dtype == torch.float64
    torch.testing.assert_close((-model.free_energy(x)).logsumexp(0), value)
    torch.testing.assert_close(model.log_prob(x, log_partition=value), log_prob)
    weights = log_prob.detach().exp()
    grads = torch.autograd.grad((weights * log_prob).sum(), list(model.parameters()))
    for grad in grads:  # of the model's own mean of log p: sum of p grad log p, nothing
        torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32))
def test_rbm_annealed_importance_sampling_lies_within_a_tenth_of_a_nat(dtype: torch.dtype) -> None:
    model = machine(20, 12, 0.7, dtype)
    exact = model.log_partition().value
    value, error, method = model.log_partition("ais", num_chains=200, num_temperatures=300, seed=0)
    assert method == "ais" and abs(value - exact) < 0.1 and 0 < error < 0.1
    assert abs(value - exact) < 4 * error
    assert model.log_partition("ais", num_chains=200, num_temperatures=300, seed=0).value == value
    assert model.log_partition("ais", num_chains=200, num_temperatures=300, seed=1).value != value


def test_rbm_estimates_are_unbiased_for_z() -> None:
    """Even of two temperatures, over many chains; a wrong weight would show."""
    model = machine(5, 4, 0.8)
    value, error, _ = model.log_partition("ais", num_chains=60_000, num_temperatures=2, seed=3)
    assert error < 0.03 and abs(value - model.log_partition().value) < 3 * error


def test_rbm_samples_follow_its_probabilities_and_do_not_see_their_batch() -> None:
    model = machine(4, 3)
    n = 20_000
    drawn = model.sample(n, steps=30, seed=0)
    assert drawn.dtype == torch.uint8 and drawn.shape == (n, 4)
    counts = torch.bincount((drawn.long() * torch.tensor([8, 4, 2, 1])).sum(1), minlength=16)
    expected = n * model.log_prob(states(4)).detach().exp()
    assert ((counts - expected).square() / expected).sum() < 38  # 15 degrees of freedom, 1e-3
    assert torch.equal(model.sample(7, steps=30, seed=0), drawn[:7])
    assert model.sample(0, steps=2).shape == (0, 4)
    with torch.no_grad():
        model.weight.zero_()  # then a unit is on, nearly frozen, where its bias is above 0
    frozen = model.sample(50, steps=2, temperature=1e-3, seed=0)
    assert torch.equal(frozen, (model.visible_bias > 0).to(torch.uint8).expand(50, 4))


def test_rbm_inpainting_draws_the_conditional() -> None:
    model = machine(4, 3)
    n = 20_000
    known, mask = torch.tensor([1, 0, 0, 0], dtype=torch.uint8), torch.tensor([True, False, False, True])
    drawn = model.sample(n, (2, 2), steps=40, known=known.view(2, 2), known_mask=mask.view(2, 2), seed=1)
    assert drawn.shape == (n, 2, 2)
    flat = drawn.flatten(1)
    assert (flat[:, mask] == known[mask]).all()
    x = states(4)
    fits = (x[:, mask] == known[mask]).all(1)
    expected = n * model.log_prob(x[fits]).detach().softmax(0)
    counts = torch.bincount((flat[:, 1:3].long() * torch.tensor([2, 1])).sum(1), minlength=4)
    assert ((counts - expected).square() / expected).sum() < 16  # 3 degrees of freedom, 1e-3


def test_rbm_reconstructs_and_moves_images() -> None:
    model = machine(12, 5)
    x = levels(3, 12).view(3, 1, 3, 4)
    v = x.flatten(1).double()
    units = torch.sigmoid(v @ model.weight.t() + model.hidden_bias)
    expected = torch.sigmoid(units @ model.weight + model.visible_bias).view(x.shape)
    torch.testing.assert_close(model.reconstruct(x), expected)
    assert model.gibbs(x, 2, seed=1).shape == x.shape
    assert torch.equal(model.gibbs(x, 0), x)
    model.loss(x)
    assert model.sample(2, steps=1).shape == (2, 1, 3, 4)


REFUSALS = {
    "levels": (lambda m: m.loss(torch.full((2, 6), 2)), ValueError, "x: expected levels 0 .. 1"),
    "floats": (lambda m: m.free_energy(torch.ones(2, 6)), TypeError, "x: expected levels"),
    "size": (lambda m: m.free_energy(levels(2, 5)), ValueError, "x: expected shape .* 6 elements"),
    "cond": (lambda m: m.loss(levels(2, 6), torch.ones(2)), TypeError, "cond: expected None"),
    "k": (lambda m: m.loss(levels(2, 6), k=0), ValueError, "k: expected a number >= 1"),
    "shape": (lambda m: m.sample(1, (5,)), ValueError, "shape: expected 6 elements"),
    "temperature": (lambda m: m.sample(1, temperature=0), ValueError, "temperature: expected a finite number > 0"),
    "method": (lambda m: m.log_partition("sum"), ValueError, "method: expected 'exact', 'ais' or None"),
    "chains": (lambda m: m.log_partition("ais", num_chains=1), ValueError, "num_chains: expected a number >= 2"),
    "exact": (lambda m: m.log_partition("exact"), ValueError, "method: expected a layer of at most 20 units"),
    "log Z": (lambda m: m.log_prob(levels(1, 21)), ValueError, "log_partition: expected a layer of at most 20 units"),
    "num_hidden": (lambda m: RBM(3, 0), ValueError, "num_hidden: expected a number >= 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_rbm_refuses(name: str) -> None:
    call, error, match = REFUSALS[name]
    small, large = RBM(6, 4), RBM(21, 21)
    before = torch.random.get_rng_state()
    with pytest.raises(error, match=f"RBM: {match}"):
        call(large if name in ("exact", "log Z") else small)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.slow
def test_rbm_on_digits_reaches_the_bar() -> None:
    """Persistent contrastive divergence; log Z by AIS, whose error the bar includes."""
    for name in ("sklearn", "rich", "matplotlib"):
        pytest.importorskip(name)
    from test_pixel_models_digits import BEST_POSSIBLE

    from pygen.data import digits

    torch.manual_seed(0)
    data = digits()
    model = RBM(64, 64)  # more, in 3,000 batches, reach 18.4 nats: docs/rbm.md
    ones = data.train_x.float().mean(0).clamp(0.01, 0.99).flatten()
    with torch.no_grad():
        model.visible_bias.copy_(ones.logit())
    steps = 2000
    optimizer = torch.optim.SGD(model.parameters(), 0.1, weight_decay=3e-4)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        x = data.train_x[torch.randint(len(data.train_x), (100,))]
        optimizer.zero_grad()
        model.loss(x, persistent=True).backward()
        optimizer.step()
    with torch.no_grad():
        log_z = model.log_partition("ais", num_chains=100, num_temperatures=1000, seed=0)
        nll = -model.log_prob(data.test_x, log_partition=log_z.value).mean().item()
    assert log_z.standard_error < 0.1
    assert BEST_POSSIBLE <= nll <= 19.5
