"""MAF: what is its own beside what test_flows.py looks at: conditions, densities, samples, what it refuses."""

import math

import pytest
import torch
from support import assert_same, threads
from test_flows import pair, randomised

from pygen import models
from pygen.reference import models as twins

CONDITIONAL = {"num_inputs": 5, "hidden_sizes": (9, 7), "cond_features": 3, "num_layers": 3}
VARIANTS = {
    "bounded": CONDITIONAL,
    "unbounded": CONDITIONAL | {"bound": None, "prior": "logistic", "hidden_sizes": 4},
    "splines": CONDITIONAL | {"num_bins": 4, "bound": 2.0},
    "tanh": CONDITIONAL | {"activation": "tanh"},
    "levels": CONDITIONAL | {"num_inputs": 6, "num_levels": 16},
    "one number": CONDITIONAL | {"num_inputs": 1, "num_layers": 2},
}
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def given(model, n=7):
    g = torch.Generator().manual_seed(2)
    cond = torch.randn(n, 3, generator=g, dtype=torch.float64)
    if model.num_levels is None:
        return torch.randn(n, model.num_inputs, generator=g, dtype=torch.float64), cond
    return torch.randint(model.num_levels, (n, model.num_inputs), generator=g, dtype=torch.uint8), cond


@each_variant
def test_maf_of_conditions_equals_its_twin(variant):
    """log p, every gradient, that of the conditions among them, and samples; each condition matters."""
    ours, twin = (m.double() for m in pair("MAF", **VARIANTS[variant]))
    x, cond = given(ours)
    cond.requires_grad_()
    noise, seed = None, {}
    if ours.num_levels is not None:
        seed = {"seed": 4}
        noise = torch.rand(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    a, b = ours.log_prob(x, cond, **seed), twin.log_prob(x, cond, noise=noise)
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    weights = torch.arange(1.0, 8.0, dtype=torch.float64)
    grads = [torch.autograd.grad(v @ weights, [cond, *m.parameters()]) for v, m in ((a, ours), (b, twin))]
    for name, one, other in zip(["cond", *(n for n, _ in ours.named_parameters())], *grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8, msg=name)
    assert (grads[0][0].abs().amax(0) > 1e-4).all()
    torch.testing.assert_close(ours.loss(x, cond, **seed), -a.mean())
    z = torch.randn(7, ours.num_inputs, dtype=torch.float64)
    torch.testing.assert_close(ours.inverse(z, cond)[0], twin.inverse(z, cond), rtol=1e-9, atol=1e-9)


def test_maf_of_conditions_samples_the_inverse_of_the_priors_draws():
    ours, twin = (m.double() for m in pair("MAF", **CONDITIONAL))
    _, cond = given(ours, 9)
    x = ours.sample(9, cond=cond, seed=11)
    z = torch.randn((9, 5), dtype=torch.float64, generator=torch.Generator().manual_seed(11))
    assert_same(x, ours.inverse(z, cond)[0])
    torch.testing.assert_close(x, twin.inverse(z, cond), rtol=1e-9, atol=1e-9)
    back, log_det = ours.transform(x, cond)
    torch.testing.assert_close(back, z, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_det, -ours.inverse(z, cond)[1], rtol=1e-9, atol=1e-9)
    assert_same(ours.sample(9, cond=cond, seed=11, temperature=0.0), ours.inverse(0 * z, cond)[0])
    assert (ours.sample(9, cond=cond.flip(0), seed=11) - x).abs().max() > 0.1
    assert ours.sample(0, cond=cond[:0]).shape == (0, 5)


@pytest.mark.parametrize("prior", ("logistic", "normal"))
@pytest.mark.parametrize("cond_features", (None, 2))
@pytest.mark.parametrize("num_bins", (None, 4))
def test_maf_density_integrates_to_one(prior, cond_features, num_bins):
    """In two dimensions, under each condition. ReLU leaves kinks, so midpoints of cells are a little off."""
    options = {"num_layers": 3, "prior": prior, "cond_features": cond_features, "num_bins": num_bins}
    model = randomised(models.MAF(2, (8, 6), **options), seed=5, scale=0.7).double()
    edge = 14 if prior == "normal" else 60 if num_bins is None else 20  # splines leave what lies far out as it is
    side = (torch.arange(1400, dtype=torch.float64) + 0.5) * (edge / 700) - edge
    grid = torch.cartesian_prod(side, side)
    for cond in (None,) if cond_features is None else (torch.tensor([0.5, -1.0]), torch.tensor([-2.0, 2.0])):
        of = None if cond is None else cond.double().expand(1 << 18, 2)
        with torch.no_grad():
            parts = (model.log_prob(part, *(() if of is None else (of[: len(part)],))) for part in grid.split(1 << 18))
            total = sum(part.exp().sum() for part in parts) * float(side[1] - side[0]) ** 2
        assert abs(float(total) - 1) < 3e-4


@pytest.mark.parametrize("num_bins", (None, 4))
def test_maf_sees_the_numbers_before_alone(num_bins):
    """In the first layer first to last, in the second last to first: together everything reaches everything."""
    model = randomised(models.MAF(4, (16,), num_layers=2, num_bins=num_bins), scale=1.5).double()
    x = torch.randn(1, 4, dtype=torch.float64)
    for layer, lower in zip(model.layers, (True, False), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x, layer=layer: layer(x)[0], x).view(4, 4)
        beyond = jacobian.triu(1) if lower else jacobian.tril(-1)
        before = jacobian.tril(-1) if lower else jacobian.triu(1)
        assert (beyond == 0).all() and (before != 0).sum() == 6
    assert (torch.autograd.functional.jacobian(lambda x: model.transform(x)[0], x) != 0).all()


@pytest.mark.parametrize("num_bins", (None, 4))
def test_maf_begins_as_its_prior(num_bins):
    model = models.MAF(4, 8, cond_features=2, num_bins=num_bins).double()
    x, cond = torch.randn(6, 4).double(), torch.randn(6, 2).double()
    z, log_det = model.transform(x, cond)
    if num_bins is None:
        assert torch.equal(z, x) and (log_det == 0).all()
    assert (z - x).abs().max() < 1e-14 and log_det.abs().max() < 1e-14
    torch.testing.assert_close(model.log_prob(x, cond), torch.distributions.Normal(0, 1).log_prob(x).sum(1))


@pytest.mark.parametrize("num_bins", (None, 8))
def test_maf_repeats_at_any_thread_count(num_bins):
    model = randomised(models.MAF(20, (40, 30), num_layers=2, num_bins=num_bins), scale=0.7)
    seen = []
    for count in (1, 2, 3):
        with threads(count):
            seen.append(model.sample(70, seed=1))
    assert_same(seen[0], seen[1])
    assert_same(seen[0], seen[2])


def test_maf_learns_what_conditions_say():
    """x of a known law of cond: the mean log-likelihood comes near to the law's own, step by step as the twin's does."""
    g = torch.Generator().manual_seed(0)
    cond = torch.rand(2048, 1, generator=g) * 2 - 1
    noise = torch.randn(2048, 2, generator=g)
    first = torch.sin(2 * cond) + 0.3 * noise[:, :1]
    x = torch.cat((first, first**2 + cond + 0.2 * noise[:, 1:]), 1)
    own = -(noise.square().sum(1) / 2 + math.log(2 * math.pi) + math.log(0.06)).mean()
    losses = []
    for side in (models, twins):
        torch.manual_seed(1)
        model = side.MAF(2, (24,), num_layers=3, cond_features=1)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        run = []
        for _ in range(150 if side is models else 20):
            loss = model.loss(x, cond)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.append(loss.item())
        losses.append(run)
    torch.testing.assert_close(torch.tensor(losses[0][:20]), torch.tensor(losses[1]), rtol=1e-3, atol=1e-3)
    assert -losses[0][-1] > own - 0.1 and losses[0][0] > 1.5


X, C = torch.zeros(2, 4), torch.zeros(2, 3)
REFUSED = {
    "num_inputs": (lambda: models.MAF(0, 4), "num_inputs: expected a number >= 1, got 0"),
    "hidden": (lambda: models.MAF(4, ()), "hidden_sizes: expected at least one width, got none"),
    "hidden size": (lambda: models.MAF(4, (4, 0)), "hidden_sizes: expected a number >= 1, got 0"),
    "layers": (lambda: models.MAF(4, 4, num_layers=0), "num_layers: expected a number >= 1, got 0"),
    "cond_features": (lambda: models.MAF(4, 4, cond_features=0), "cond_features: expected a number >= 1, got 0"),
    "bound": (lambda: models.MAF(4, 4, bound=0.0), "bound: expected 1e-6 <= bound <= 1e6, or None, got 0.0"),
    "bound bool": (lambda: models.MAF(4, 4, bound=True), "bound: expected 1e-6 <= bound <= 1e6, or None, got True"),
    "bins": (lambda: models.MAF(4, 4, num_bins=0), "num_bins: expected a number >= 1, got 0"),
    "bins many": (lambda: models.MAF(4, 4, num_bins=257), "num_bins: expected a number <= 256, got 257"),
    "bins unbound": (lambda: models.MAF(4, 4, num_bins=4, bound=None), "bound: expected a number, as splines have one, got None"),
    "prior": (lambda: models.MAF(4, 4, prior="cauchy"), "prior: expected 'logistic' or 'normal', got 'cauchy'"),
    "shape": (lambda: models.MAF(3, 4).log_prob(X), r"x: expected shape \[N, ...\] with 3 elements a sample, got \[2, 4\]"),
    "one dim": (lambda: models.MAF(4, 4).log_prob(X[0]), r"x: expected shape \[N, ...\] with 4 elements a sample, got \[4\]"),
    "cond unasked": (lambda: models.MAF(4, 4).sample(2, cond=C), "cond: expected None, as this model is unconditional"),
    "cond missing": (lambda: models.MAF(4, 4, cond_features=3).sample(2), r"cond: expected features \[N, 3\], .* got None"),
    "cond list": (lambda: models.MAF(4, 4, cond_features=3).loss(X, [1]), "cond: expected a torch.Tensor, got list"),
    "cond classes": (lambda: models.MAF(4, 4, cond_features=3).loss(X, C.long()), "cond: expected float64, .* got torch.int64"),
    "cond shape": (lambda: models.MAF(4, 4, cond_features=3).loss(X, C[:1]), r"cond: expected shape \[2, 3\], got \[1, 3\]"),
    "cond of n": (lambda: models.MAF(4, 4, cond_features=3).sample(3, cond=C), r"cond: expected shape \[3, 3\], got \[2, 3\]"),
    "cond of z": (lambda: models.MAF(4, 4, cond_features=3).inverse(X[:1], C), r"cond: expected shape \[1, 3\], got \[2, 3\]"),
    "x list": (lambda: models.MAF(4, 4, cond_features=3).log_prob([1.0], C), "x: expected a torch.Tensor, got list"),
    "x number": (lambda: models.MAF(4, 4, cond_features=3).transform(X[0, 0], C), r"x: expected shape \[N, ...\]"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_maf_refuses(name):
    call, match = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match="MAF: " + match):
        call()
