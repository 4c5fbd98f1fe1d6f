"""NICE, RealNVP and neural spline flows: densities that integrate to one, exact inverses, equal to their plain-PyTorch twins."""

import math

import pytest
import torch
from support import DTYPES, dtype_name, threads

from pygen import models, nn
from pygen.functional import affine_coupling
from pygen.ops._halves import are_halves, halves
from pygen.reference import models as twins

NICE = {"num_inputs": 5, "hidden_sizes": (8, 6)}
REAL = {"image_shape": (1, 4, 4), "hidden_channels": 6, "num_blocks": 1}


def randomised(model, seed=0, scale=1.0):
    """Weights that neither fade nor grow from layer to layer: a deep flow of large ones magnifies every rounding."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            size = scale / math.sqrt(p[0].numel()) if p.dim() > 1 else 0.3 * scale
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64) * size)
    return model


def pair(kind, **options):
    ours, twin = getattr(models, kind)(**options), getattr(twins, kind)(**options)
    randomised(ours, scale=0.7)
    twin.load_state_dict(ours.state_dict())
    ours.load_state_dict(twin.state_dict())
    return ours, twin


CASES = {
    "NICE": ("NICE", NICE, (7, 5)),
    "NICE normal": ("NICE", NICE | {"prior": "normal", "num_couplings": 3}, (7, 5, 1)),
    "NICE levels": ("NICE", NICE | {"num_inputs": 6, "num_levels": 16}, (7, 2, 3)),
    "NSF": ("NSF", NICE | {"num_bins": 5}, (7, 5)),
    "NSF levels": ("NSF", NICE | {"num_inputs": 6, "num_bins": 2, "bound": 1.5, "num_levels": 16}, (7, 2, 3)),
    "MAF": ("MAF", NICE, (7, 5)),
    "MAF levels": ("MAF", {"num_inputs": 6, "hidden_sizes": 7, "num_layers": 2, "num_levels": 16}, (7, 2, 3)),
    "MAF unbounded logistic": ("MAF", NICE | {"num_layers": 3, "bound": None, "prior": "logistic"}, (7, 5, 1)),
    "MAF splines": ("MAF", NICE | {"num_layers": 3, "num_bins": 5, "bound": 2.0}, (7, 5)),
    "RealNVP": ("RealNVP", REAL, (3, 1, 4, 4)),
    "RealNVP levels": ("RealNVP", REAL | {"image_shape": (3, 8, 4), "num_scales": 3, "num_levels": 256}, (3, 3, 8, 4)),
    "RealNVP one scale": ("RealNVP", REAL | {"num_scales": 1, "prior": "logistic", "image_shape": (2, 3, 5)}, (2, 2, 3, 5)),
}  # fmt: skip
each_case = pytest.mark.parametrize("case", CASES)


def data(case, dtype=torch.float64):
    _, options, shape = CASES[case]
    g = torch.Generator().manual_seed(2)
    if options.get("num_levels"):
        return torch.randint(options["num_levels"], shape, generator=g, dtype=torch.uint8)
    return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)


@each_case
def test_flows_equal_their_twins(case):
    """log p and every gradient, in float64, of the same noise."""
    kind, options, shape = CASES[case]
    ours, twin = (m.double() for m in pair(kind, **options))
    x, noisy = data(case), "num_levels" in options
    with torch.random.fork_rng():
        torch.manual_seed(4)
        noise = torch.rand(shape, dtype=torch.float64) if noisy else None
        torch.manual_seed(4)
        a = ours.log_prob(x)
    b = twin.log_prob(x, noise=noise)
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    weights = torch.arange(1.0, 1.0 + len(x), dtype=torch.float64)
    grads = [torch.autograd.grad(v @ weights, list(m.parameters())) for v, m in ((a, ours), (b, twin))]
    for (name, _), one, other in zip(ours.named_parameters(), *grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8, msg=name)


@each_case
def test_flows_invert_to_1e_12_and_log_det_is_that_of_the_jacobian(case):
    kind, options, shape = CASES[case]
    model = randomised(
        getattr(models, kind)(**{k: v for k, v in options.items() if k != "num_levels"}), scale=0.7
    ).double()
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    model.trained_shape = shape[1:]
    z, log_det = model.transform(x)
    back, minus = model.inverse(z)
    assert back.shape == x.shape and (back - x).abs().max() < 1e-12 and (log_det + minus).abs().max() < 1e-12
    size = math.prod(shape[1:])
    jacobian = torch.autograd.functional.jacobian(lambda x: model.transform(x)[0], x[:1], vectorize=False)
    torch.testing.assert_close(torch.linalg.slogdet(jacobian.reshape(size, size))[1], log_det[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("prior", ("logistic", "normal"))
def test_nice_density_integrates_to_one(prior):
    """In two dimensions, by the trapezoidal rule, whose error is tiny for what is smooth and falls off."""
    model = randomised(models.NICE(2, (6,), prior=prior), seed=5).double()
    side = torch.linspace(-42, 42, 1401, dtype=torch.float64)
    step = float(side[1] - side[0])
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        total = sum(model.log_prob(part).exp().sum() for part in grid.split(1 << 18)) * step**2
    assert abs(float(total) - 1) < 2e-4


def test_affine_coupling_density_integrates_to_one():
    """A coupling with a scale, over both masks of two numbers, under the normal prior."""
    torch.manual_seed(0)
    layers = [
        nn.AffineCoupling(torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)), flip=i == 1,
                          scale="tanh", bound=1.0).double()
        for i in range(2)
    ]  # fmt: skip
    side = torch.linspace(-25, 25, 1001, dtype=torch.float64)
    h, total = torch.cartesian_prod(side, side), 0
    with torch.no_grad():
        for layer in layers:
            h, log_det = layer(h)
            total = total + log_det
        density = (total - 0.5 * h.square().sum(1) - math.log(2 * math.pi)).exp()
    assert abs(float(density.sum()) * 0.05**2 - 1) < 1e-6


def test_nsf_density_integrates_to_one():
    """In two dimensions: midpoints of cells, of which knots, where the slope has a kink, cut a few."""
    model = randomised(models.NSF(2, (8,), num_bins=4, num_couplings=3), seed=5, scale=0.7).double()
    side = (torch.arange(1200, dtype=torch.float64) + 0.5) / 75 - 8
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        assert model.transform(grid[::999])[1].abs().max() > 0.5
        total = sum(model.log_prob(part).exp().sum() for part in grid.split(1 << 18)) / 75**2
    assert abs(float(total) - 1) < 2e-4


@pytest.mark.parametrize("prior", ("logistic", "normal"))
def test_flows_sample_their_own_density(prior):
    """At the start the model is its prior: its samples have the prior's moments, and temperature scales them."""
    model = models.NICE(4, 8, prior=prior)
    variance = math.pi**2 / 3 if prior == "logistic" else 1.0
    x = model.sample(20000, seed=3)
    assert abs(x.mean()) < 0.03 and abs(x.var() / variance - 1) < 0.05
    torch.testing.assert_close(model.sample(50, seed=3, temperature=0.5), 0.5 * model.sample(50, seed=3))
    kurtosis = (x**4).mean() / x.var() ** 2
    assert abs(kurtosis - (4.2 if prior == "logistic" else 3.0)) < 0.25
    assert (model.sample(5, temperature=0) == 0).all()


def test_flows_sample_what_the_inverse_gives():
    model = randomised(models.RealNVP(**REAL), scale=0.7).double()
    x = model.sample(6, seed=11)
    assert x.shape == (6, 1, 4, 4) and x.dtype == torch.float64
    z, _ = model.transform(x)
    expected = torch.randn((6, 16), dtype=torch.float64, generator=torch.Generator().manual_seed(11))
    torch.testing.assert_close(z, expected, rtol=1e-10, atol=1e-10)


def test_flows_give_and_take_levels():
    for levels, dtype in ((16, torch.uint8), (1000, torch.int64)):
        model = randomised(models.NICE(6, 8, num_levels=levels), scale=0.2)
        x = model.sample(40, seed=1)
        assert x.dtype == dtype and x.shape == (40, 6) and x.min() >= 0 and x.max() < levels and len(x.unique()) > 5
        real = models.NICE(6, 8)  # whose draws lie in the bins of these levels
        real.load_state_dict(model.state_dict())
        bins = ((real.sample(40, seed=1) + 1) * (levels / 2)).floor()
        assert torch.equal(x, bins.clamp(0, levels - 1).to(dtype))
        one, two, other = (model.log_prob(x, seed=s) for s in (1, 1, 2))
        assert torch.equal(one, two) and not torch.equal(one, other)


def test_flows_bound_of_levels_is_below_their_probability():
    """Two levels, two numbers: P(x) is the density's integral over the cell, log_prob a draw whose mean is at most log P(x)."""
    model = randomised(models.NICE(2, 6, num_levels=2), seed=7).double()
    side = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    total = 0.0
    with torch.no_grad():
        for level in ((0, 0), (0, 1), (1, 0), (1, 1)):
            cell = torch.cartesian_prod(side + level[0], side + level[1]) - 1  # 2 (x + u) / 2 - 1
            z, log_det = model.transform(cell)
            density = log_det + model._log_prior(z)
            probability = density.exp().mean()  # the cell's area is 1
            bound = model.log_prob(torch.tensor(level).expand(4000, 2), seed=1)
            assert (
                abs(bound.mean() - density.mean()) < 5 * bound.std() / 4000**0.5 and density.mean() < probability.log()
            )
            total += float(probability)
    assert 0.05 < total < 1  # the rest of the density lies outside


def test_flows_learn():
    """A ring: the likelihood rises by most of a nat, as it does for the twin, whose losses are the same."""
    g = torch.Generator().manual_seed(0)
    angle = torch.rand(256, generator=g) * 2 * math.pi
    x = torch.stack((angle.cos(), angle.sin()), 1) * 2 + 0.1 * torch.randn(256, 2, generator=g)
    losses = []
    for side in (models, twins):
        torch.manual_seed(1)
        model = side.NICE(2, (32, 32), num_couplings=4)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        run = []
        for _ in range(60):
            loss = model.loss(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.append(loss.item())
        losses.append(run)
    assert losses[0][-1] < losses[0][0] - 0.7
    torch.testing.assert_close(torch.tensor(losses[0][:10]), torch.tensor(losses[1][:10]), rtol=1e-4, atol=1e-4)


@each_case
def test_flows_run_in_every_dtype(case):
    kind, options, _ = CASES[case]
    for dtype in DTYPES:
        model = randomised(getattr(models, kind)(**options), scale=0.5).to(dtype)
        loss = model(data(case, dtype))
        loss.backward()
        assert loss.isfinite() and all(p.grad.isfinite().all() for p in model.parameters()), dtype_name(dtype)
        assert model.log_prob(data(case, dtype)[:0]).shape == (0,)
        assert model.trained_shape == CASES[case][2][1:] and model.sample(2, seed=0).shape == (
            2,
            *model._sample_shape(),
        )


def test_flows_repeat_at_any_thread_count():
    model = randomised(models.RealNVP((3, 16, 16), hidden_channels=8), scale=0.1)
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    h, seen = x, []
    for count in (1, 2, 3):
        with threads(count):
            seen.append(nn.AffineCoupling(lambda a: 0.1 * a.repeat(1, 2, 1, 1), mask="checkerboard")(h))
    assert all(torch.equal(a, b) for other in seen[1:] for a, b in zip(seen[0], other, strict=True))
    assert model.log_prob(x).shape == (4,)


def test_affine_coupling_module_takes_tuples_and_conditions():
    class Network(torch.nn.Module):
        def forward(self, x, c):
            return x + c, x * 0.1

    layer, x, c = nn.AffineCoupling(Network()), torch.randn(3, 4), torch.randn(3, 2)
    y, log_det = layer(x, c)
    torch.testing.assert_close(y[:, 2:], x[:, 2:] * (0.1 * x[:, :2]).exp() + x[:, :2] + c)
    torch.testing.assert_close(log_det, 0.1 * x[:, :2].sum(1))
    torch.testing.assert_close(layer.inverse(y, c)[0], x)
    x[:, 3] = math.nan  # of what is transformed nothing reaches the other half
    assert layer(x, c)[0][:, :3].isfinite().all()


def test_affine_coupling_module_hands_on_the_gradient_of_both_halves_as_it_lies():
    """One tensor of a conditioner has one gradient, which the kernel wrote: the same as by chunks, and to second order."""
    made, x = torch.randn(3, 8, 5, requires_grad=True), torch.randn(3, 8, 5)
    grads = []
    for split in (halves, lambda t: t.chunk(2, 1)):
        y, log_det = affine_coupling(x, *split(made))
        loss = y.square().sum() + log_det.sum()
        (grad,) = torch.autograd.grad(loss, made, create_graph=True)
        (again,) = torch.autograd.grad(grad.square().sum(), made)
        (plain,) = torch.autograd.grad(affine_coupling(x, *split(made))[0].square().sum(), made)
        grads.append((grad, again, plain))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    shift, log_scale = halves(made)
    w = torch.randn(3, 4, 5)  # a gradient that both halves share lies together and is not theirs
    assert torch.equal(torch.autograd.grad((shift + log_scale) * w, made, torch.ones(3, 4, 5))[0], torch.cat((w, w), 1))
    shift, log_scale = halves(made)
    assert are_halves(shift, log_scale) and not are_halves(log_scale, shift)
    seen = []
    log_scale.register_hook(lambda g: seen.append(g))
    affine_coupling(x, shift, log_scale)[0].sum().backward()
    assert made.grad.untyped_storage().data_ptr() == seen[0].untyped_storage().data_ptr()


def test_nsf_fits_what_lies_on_a_ring():
    """A ring: the likelihood of other points of it rises by more than a nat."""
    g = torch.Generator().manual_seed(0)
    angle = torch.rand(1024, generator=g) * 2 * math.pi
    x = torch.stack((angle.cos(), angle.sin()), 1) * 2 + 0.1 * torch.randn(1024, 2, generator=g)
    torch.manual_seed(1)
    model = models.NSF(2, (32,), num_couplings=4, num_bins=8)
    before = model.loss(x[512:]).item()
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    for _ in range(80):
        loss = model.loss(x[:512])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert model.loss(x[512:]).item() < before - 1.0
        radius = model.sample(500, seed=2).norm(dim=1)
    assert 1.6 < radius.median() < 2.4


REFUSED = {
    "num_inputs": (lambda: models.NICE(1, 4), r"NICE: num_inputs: expected a number >= 2, got 1"),
    "hidden_sizes": (lambda: models.NICE(4, ()), r"NICE: hidden_sizes: expected at least one width"),
    "prior": (lambda: models.NICE(4, 4, prior="cauchy"), r"NICE: prior: expected 'logistic' or 'normal', got 'cauchy'"),
    "levels": (lambda: models.NICE(4, 4, num_levels=1), r"NICE: num_levels: expected a number >= 2, got 1"),
    "image": (lambda: models.RealNVP((1, 6, 8), num_scales=3), r"RealNVP: image_shape: expected H and W .* 4, for 3 scales"),
    "image dims": (lambda: models.RealNVP((6, 8)), r"RealNVP: image_shape: expected \(C, H, W\)"),
    "bound": (lambda: models.RealNVP((1, 2, 2), bound=0), r"RealNVP: bound: expected 1e-6 <= bound"),
    "bins": (lambda: models.NSF(4, 4, num_bins=257), r"NSF: num_bins: expected a number <= 256, got 257"),
    "spline bound": (lambda: models.NSF(4, 4, bound=0.0), r"NSF: bound: expected 1e-6 <= bound"),
    "shape": (lambda: models.NICE(4, 4).log_prob(torch.zeros(2, 5)), r"NICE: x: expected shape \[N, ...\] with 4 elements"),
    "seed": (lambda: models.NICE(4, 4).log_prob(torch.zeros(2, 4), seed=1), r"NICE: seed: expected None, as nothing is drawn"),
    "cond": (lambda: models.NICE(4, 4).loss(torch.zeros(2, 4), torch.zeros(2)), r"NICE: cond: expected None"),
    "level": (lambda: models.NICE(4, 4, num_levels=2).loss(torch.full((2, 4), 2)), r"NICE: x: expected levels 0 .. 1"),
    "floats": (lambda: models.NICE(4, 4).loss(torch.zeros(2, 4, dtype=torch.int64)), r"NICE: x: expected float64, float32"),
    "temperature": (lambda: models.NICE(4, 4).sample(1, temperature=-1), r"NICE: temperature: expected a finite number >= 0"),
    "z": (lambda: models.RealNVP((1, 2, 2), num_scales=1).inverse(torch.zeros(2, 5)), r"RealNVP: z: expected shape \[N, 4\]"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_flows_refuse(name):
    call, match = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=match):
        call()
