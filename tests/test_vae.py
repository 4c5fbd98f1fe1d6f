"""pygen.models.VAE against its plain-PyTorch twin, closed forms and enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from vae_twins import Z, levels, twins

from pygen.functional import gaussian_kl
from pygen.models import VAE
from pygen.reference.models import VAE as PlainVAE

# (input_shape, options): the default, several widths, one width as an int, convolutions on even, odd and mixed sides.
MODELS = {
    "mlp-8x8": ((1, 8, 8), {}),
    "mlp-three-layers": ((2, 3, 5), {"hidden": (16, 8, 4)}),
    "mlp-int": ((1, 4, 4), {"hidden": 12, "beta": 0.5}),
    "conv-8x8": ((1, 8, 8), {"conv": True, "hidden": (6, 10)}),
    "conv-odd": ((3, 7, 5), {"conv": True, "hidden": (4, 5, 6), "beta": 2.0}),
    "conv-1x1": ((1, 1, 1), {"conv": True, "hidden": 4}),
}


def tiny(latents: int = 2) -> VAE:
    """A float64 model of 2x2 images whose latents matter."""
    torch.manual_seed(3)
    model = VAE((1, 2, 2), latents, hidden=8).double()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(2.5)
    return model


def all_2x2_images() -> Tensor:
    return torch.tensor(list(itertools.product([0, 1], repeat=4)), dtype=torch.uint8).view(16, 1, 2, 2)


def exact_log_prob(model: VAE, x: Tensor) -> Tensor:
    """log p(x) [N] of a model with two latents, by summing over a fine grid of z."""
    axis = torch.linspace(-8, 8, 401, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)  # [G, 2]
    log_prior = -0.5 * z.square().sum(1) - math.log(2 * math.pi)
    logits = model.decode(z).flatten(1)  # [G, D]
    signs = 2.0 * x.flatten(1).double() - 1  # [N, D]
    log_joint = torch.stack([nn.functional.logsigmoid(logits * s).sum(1) for s in signs]) + log_prior
    return log_joint.logsumexp(1) + 2 * math.log(float(axis[1] - axis[0]))


# The twin


@pytest.mark.parametrize("name", MODELS)
def test_vae_equals_its_twin_in_values_and_gradients(name: str) -> None:
    shape, options = MODELS[name]
    plain, ours = twins(shape, **options)
    x = levels(7, shape)
    eps = torch.randn(5, 7, Z, dtype=torch.float64)
    for method in (
        lambda m: m.loss(x, eps=eps[0]),
        lambda m: m(x, eps=eps[0]),
        lambda m: m.elbo(x, eps=eps[0]),
        lambda m: m.log_prob(x, num_samples=5, eps=eps),
        lambda m: torch.cat(m.encode(x)),
    ):
        a, b = method(plain), method(ours)
        assert a.shape == b.shape
        torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12)
        weights = torch.linspace(-1, 2, a.numel(), dtype=torch.float64).view(a.shape)
        plain_grads = torch.autograd.grad(a, list(plain.parameters()), weights, allow_unused=True)
        our_grads = torch.autograd.grad(b, list(ours.parameters()), weights, allow_unused=True)
        for (key, _), g, h in zip(plain.named_parameters(), plain_grads, our_grads, strict=True):
            assert (g is None) == (h is None), key
            if g is not None:
                torch.testing.assert_close(h, g, rtol=1e-9, atol=1e-11, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", MODELS)
def test_vae_state_dict_loads_both_ways(name: str) -> None:
    shape, options = MODELS[name]
    plain, ours = PlainVAE(shape, Z, **options), VAE(shape, Z, **options)
    assert list(plain.state_dict()) == list(ours.state_dict())
    ours.load_state_dict(plain.state_dict(), strict=True)
    PlainVAE(shape, Z, **options).load_state_dict(ours.state_dict(), strict=True)
    x = levels(4, shape)
    torch.testing.assert_close(ours.reconstruct(x), plain.reconstruct(x))
    assert torch.equal(ours.sample(9, seed=5), plain.sample(9, seed=5))


def test_vae_has_every_public_method_of_its_twin() -> None:
    public = {name for name in vars(PlainVAE) if not name.startswith("_")}
    assert public == {name for name in vars(VAE) if not name.startswith("_")}


# Exact likelihoods


def test_vae_log_prob_converges_to_the_integral_over_latents() -> None:
    model, x = tiny(), all_2x2_images()
    with torch.no_grad():
        exact = exact_log_prob(model, x)
        estimate = model.log_prob(x, num_samples=40_000, seed=0)
    assert exact.exp().sum().item() == pytest.approx(1, abs=1e-6)
    assert estimate.exp().sum().item() == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(estimate, exact, rtol=0, atol=0.03)


def test_vae_bounds_are_ordered() -> None:
    """E[ELBO] = E[log_prob with K=1] <= E[K=10] <= exact, each clearly apart from the next."""
    model, x = tiny(), all_2x2_images()
    with torch.no_grad():
        many = x.repeat(4000, 1, 1, 1)
        elbo, one = model.elbo(many, seed=1).mean(), model.log_prob(many, num_samples=1, seed=2).mean()
        ten, exact = model.log_prob(many, num_samples=10, seed=3).mean(), exact_log_prob(model, x).mean()
    assert one.item() == pytest.approx(elbo.item(), abs=0.02)
    assert elbo < ten - 0.05
    assert ten < exact - 0.005


def test_vae_whose_decoder_ignores_z_is_exact() -> None:
    """Then log p(x) is a product over pixels, and with q at the prior ELBO and every K give exactly that."""
    model = tiny()
    with torch.no_grad():
        model.decoder[0].weight.zero_()
        model.encoder[-1].weight.zero_()
        model.encoder[-1].bias.zero_()
    x = all_2x2_images()
    logits = model.decode(torch.zeros(1, 2, dtype=torch.float64))
    product = torch.distributions.Bernoulli(logits=logits).log_prob(x.double()).sum((1, 2, 3))
    torch.testing.assert_close(model.elbo(x), product)
    torch.testing.assert_close(model.log_prob(x, num_samples=3), product)
    with torch.no_grad():  # away from the prior the ELBO loses exactly the KL, log_prob only noise
        model.encoder[-1].bias.copy_(torch.tensor([0.3, -0.7, 0.2, -0.4]))
        kl = sum((m * m + math.exp(v) - v - 1) / 2 for m, v in ((0.3, 0.2), (-0.7, -0.4)))
        torch.testing.assert_close(model.elbo(x), product - kl)
        torch.testing.assert_close(model.log_prob(x, num_samples=20_000, seed=0), product, rtol=0, atol=0.03)


def test_vae_loss_sums_over_latents_and_pixels_and_averages_over_the_batch() -> None:
    shape = (1, 4, 4)
    x = levels(6, shape)
    losses = {}
    for beta in (0.0, 1.0, 3.0):
        _, model = twins(shape, beta=beta, hidden=8)
        losses[beta] = model.loss(x, seed=0)
    kl = gaussian_kl(*model.encode(x), reduction="none").mean()
    torch.testing.assert_close(losses[1.0] - losses[0.0], kl)
    torch.testing.assert_close(losses[3.0] - losses[0.0], 3 * kl)
    torch.testing.assert_close(losses[1.0], -model.elbo(x, seed=0).mean())  # elbo knows no beta
    zeros = torch.zeros(12, Z, dtype=torch.float64)
    torch.testing.assert_close(model.loss(x.repeat(2, 1, 1, 1), eps=zeros), model.loss(x, eps=zeros[:6]))


def test_vae_log_prob_does_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = tiny(), all_2x2_images()
    whole = model.log_prob(x, num_samples=13, seed=4)
    for rows in (1, 16, 50):
        monkeypatch.setattr("pygen.models.vae._ROWS_AT_ONCE", rows)
        torch.testing.assert_close(model.log_prob(x, num_samples=13, seed=4), whole)


def test_score_function_gradient_varies_far_more_than_the_reparameterised() -> None:
    """Both estimate d/dmu E_q[log p(x | z)]; their means agree, their variances lie orders of magnitude apart."""
    pytest.importorskip("sklearn")
    from pygen.data import digits

    torch.manual_seed(0)
    train_x = digits().train_x
    model, x = VAE((1, 8, 8), 8, hidden=64), train_x[:8]
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(train_x[:256]).backward()
        optimizer.step()
    draws, n = 300, len(x)
    mu, logvar = (t.detach() for t in model.encode(x))
    eps = torch.randn(draws, n, 8)
    z = (mu + eps * torch.exp(0.5 * logvar)).requires_grad_()
    signs = 2.0 * x.float() - 1
    logits = model.decode(z.flatten(0, 1)).unflatten(0, (draws, n))
    log_likelihood = nn.functional.logsigmoid(logits * signs).sum((2, 3, 4))  # [draws, N]
    (reparameterised,) = torch.autograd.grad(log_likelihood.sum(), z)
    score_function = log_likelihood.detach()[..., None] * eps * torch.exp(-0.5 * logvar)
    spread = (score_function.var(0).sum() / draws).sqrt()
    assert (score_function.mean(0) - reparameterised.mean(0)).norm() < 4 * spread
    assert score_function.var(0).sum() > 100 * reparameterised.var(0).sum()


# Quality


@pytest.mark.slow
def test_vae_on_digits_reaches_the_bar_beside_its_twin() -> None:
    for name in ("sklearn", "rich", "matplotlib"):
        pytest.importorskip(name)
    from pygen._demo import vae_digits
    from pygen.data import digits

    data = digits()
    steps = vae_digits.EPOCHS * (len(data.train_x) // vae_digits.BATCH)
    nlls = []
    for seed in range(3):  # one run's NLL varies by 0.09 nats with its noise alone
        models = vae_digits.train(data, steps, seed, torch.device("cpu"), on_step=lambda losses: None)[:2]
        nlls.append([vae_digits.nll(model, data.test_x, 500, seed) for model in models])
    plain_nll, our_nll = torch.tensor(nlls).mean(0).tolist()
    assert 15.5 <= our_nll <= 17.9
    assert abs(our_nll - plain_nll) <= 0.2
