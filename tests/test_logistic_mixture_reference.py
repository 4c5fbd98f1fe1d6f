"""The reference of logistic_mixture_nll: closed forms, normalisation, tails, the functions that samplers use."""

import itertools

import mpmath
import pytest
import torch
from torch import Tensor

from pygen.reference import logistic_mixture_nll as reference

DOUBLE = torch.float64


def params_of(shape: tuple[int, ...], channels: int, count: int, dtype: torch.dtype = DOUBLE, seed: int = 0) -> Tensor:
    """[N, P, *spatial] of components of all widths, some narrower than the floor of -7, some beyond the image's range."""
    g = torch.Generator().manual_seed(seed)
    n, *spatial = shape
    p = torch.randn(n, reference.params_per_component(channels) * count, *spatial, generator=g, dtype=DOUBLE)
    rows = 2 if channels == 1 else 3
    for c in range(channels):
        first = count * (1 + rows * c)
        p[:, first + count : first + 2 * count] = p[:, first + count : first + 2 * count] * 3 - 3
    return p.to(dtype)


def log_p(level: int, mean: float, log_scale: float, num_levels: int = 256, dtype: torch.dtype = DOUBLE) -> float:
    means, log_scales = torch.tensor([mean], dtype=dtype), torch.tensor([log_scale], dtype=dtype)
    return reference.log_probs(means, log_scales, torch.tensor([level]), num_levels).item()


def exact(level: int, mean: float, log_scale: float, num_levels: int = 256) -> mpmath.mpf:
    """The mass of the bin as a difference of distribution functions, with 1800 digits."""
    with mpmath.workdps(1800):
        v, h = mpmath.mpf(2 * level) / (num_levels - 1) - 1, mpmath.mpf(1) / (num_levels - 1)

        def below(edge):
            return 1 / (1 + mpmath.exp(-(edge - mpmath.mpf(mean)) * mpmath.exp(-mpmath.mpf(log_scale))))

        upper = below(v + h) if level < num_levels - 1 else mpmath.mpf(1)
        lower = below(v - h) if level > 0 else mpmath.mpf(0)
        return mpmath.log(upper - lower)


@pytest.mark.parametrize(
    ("level", "mean", "log_scale", "expected"),
    [
        (191, -0.5, -7.0, -1090.1826),
        (191, -0.5, -4.0, -55.33158),
        (0, 0.9, -3.0, -38.08375),
        (1, -1.0, -7.0, -4.314179),
    ],
)
def test_log_probs_closed_forms(level, mean, log_scale, expected):
    """The density at a bin's centre, the usual way out of the tails, gives -1092.3310 and -55.33921 for the first two."""
    assert log_p(level, mean, log_scale) == pytest.approx(expected, rel=2e-7)
    assert log_p(level, mean, log_scale, dtype=torch.float32) == pytest.approx(expected, rel=4e-7)


@pytest.mark.parametrize("num_levels", (2, 3, 256, 65536))
def test_log_probs_are_those_of_1800_digits(num_levels):
    """Scales from a quarter of a bin to a million images, means inside and far outside, edge bins and inner ones."""
    for level in {0, 1 % num_levels, num_levels // 2, num_levels - 2, num_levels - 1}:
        for mean, log_scale in itertools.product((-2.5, -1.0, 0.0, 0.33, 1.0, 2.5), (-7.0, -2.0, 0.5, 14.0)):
            truth = float(exact(level, mean, log_scale, num_levels))
            # a is good to eps relative to its own size
            close = 8e-16 * (1 + (abs(mean) + 1) * 2.718281828 ** (-log_scale))
            assert log_p(level, mean, log_scale, num_levels) == pytest.approx(truth, rel=2e-15, abs=4 * close)


def test_log_probs_of_a_narrow_difference():
    """In float32 the two sigmoids are equal here, so that their difference has no logarithm."""
    level = round((0.2 + 1) * 127.5)
    assert log_p(level, 0.0, -5.0, dtype=torch.float32) == pytest.approx(float(exact(level, 0.0, -5.0)), rel=1e-6)


@pytest.mark.parametrize("num_levels", (2, 5, 256))
def test_log_probs_of_all_levels_sum_to_one(num_levels):
    p = params_of((7, 1), 1, 4)
    levels = torch.arange(num_levels).view(1, -1, 1, 1)
    _, means, log_scales = reference.components(p, torch.zeros(7, 1, 1, dtype=DOUBLE))
    means, log_scales = means.expand(-1, num_levels, 1, -1), log_scales.expand(-1, num_levels, 1, -1)
    total = reference.log_probs(means, log_scales, levels, num_levels).exp().sum(1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-13, atol=0)


def test_mixture_of_256_levels_sums_to_one():
    p = params_of((1, 1), 1, 5).expand(256, -1, -1)
    nll = reference.forward(p, torch.arange(256).view(256, 1, 1), 256, -7.0, "none")
    assert nll.neg().exp().sum().item() == pytest.approx(1, rel=1e-13)


@pytest.mark.parametrize("seed", range(3))
def test_mixture_of_all_colours_sums_to_one(seed):
    """8 levels cubed: only if each channel is coupled to those before it alone, by values and not by means."""
    colours = torch.tensor(list(itertools.product(range(8), repeat=3))).unsqueeze(-1)
    p = params_of((1, 1), 3, 4, seed=seed).expand(512, -1, -1)
    nll = reference.forward(p, colours, 8, -7.0, "none")
    assert nll.neg().exp().sum().item() == pytest.approx(1, rel=1e-13)


def test_components_couple_channels_as_openai_does():
    """The first row of coefficients takes red to green, the next two red and green to blue."""
    p, k = params_of((2, 3, 2), 3, 4), 4
    x = torch.rand(2, 3, 3, 2, dtype=DOUBLE) * 2 - 1
    weights, means, log_scales = reference.components(p, x, min_log_scale=-4.0)
    assert weights.shape == (2, 1, 3, 2, k) and means.shape == log_scales.shape == (2, 3, 3, 2, k)
    torch.testing.assert_close(weights.squeeze(1).exp(), p[:, :k].softmax(1).movedim(1, -1))
    rows = [
        p[:, k + i * k : k + (i + 1) * k].movedim(1, -1) for i in range(9)
    ]  # means, log scales, coefficients of r, g, b
    red, green = x[:, 0].unsqueeze(-1), x[:, 1].unsqueeze(-1)
    torch.testing.assert_close(means[:, 0], rows[0])
    torch.testing.assert_close(means[:, 1], rows[3] + rows[2].tanh() * red)
    torch.testing.assert_close(means[:, 2], rows[6] + rows[5].tanh() * red + rows[8].tanh() * green)
    for c in range(3):
        torch.testing.assert_close(log_scales[:, c], rows[3 * c + 1].clamp(min=-4.0))
    assert (log_scales == -4.0).any()
    x[:, 2] = float("nan")  # a sampler has no blue yet
    assert reference.components(p, x)[1].isfinite().all()


@pytest.mark.parametrize(("channels", "reduction"), [(1, "sum"), (3, "none"), (3, "batchmean")])
def test_reference_is_differentiable_twice(channels, reduction):
    """By autograd and in closed form, with levels in both edge bins and scales on both sides of the floor."""
    p = params_of((2, 3), channels, 2).requires_grad_()
    x = torch.tensor([[0, 7, 15], [3, 15, 0]]).unsqueeze(1).repeat(1, channels, 1)
    options = (16, -2.0, reduction)
    assert torch.autograd.gradcheck(lambda p: reference.forward(p, x, *options), (p,))
    assert torch.autograd.gradgradcheck(lambda p: reference.forward(p, x, *options), (p,))
    nll = reference.forward(p, x, *options)
    g = torch.linspace(0.5, 1.5, nll.numel(), dtype=DOUBLE).view(nll.shape).requires_grad_()
    (grad,) = torch.autograd.grad(nll, p, g)
    torch.testing.assert_close(reference.backward(g, p, x, *options), grad, rtol=1e-11, atol=1e-12)
    assert torch.autograd.gradcheck(lambda g, p: reference.backward(g, p, x, *options), (g, p))


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("log_scale", (-7.0, -3.0, 0.0, 30.0, 200.0))
def test_reference_has_finite_gradients_in_the_tails(dtype, log_scale):
    """To second order: nothing finite is multiplied by an infinity that `where` hides."""
    p = torch.zeros(1, 10, 6, dtype=dtype)
    p[:, [1, 4, 7]] = torch.tensor([-40.0, -1.0, 0.0, 0.7, 1.0, 900.0], dtype=dtype)
    p[:, [2, 5, 8]] = log_scale
    p.requires_grad_()
    for level in (0, 1, 128, 255):
        x = torch.full((1, 3, 6), level)
        nll = reference.forward(p, x, 256, -7.0, "sum")
        (grad,) = torch.autograd.grad(nll, p, create_graph=True)
        (second,) = torch.autograd.grad(grad.square().sum(), p)
        closed = reference.backward(torch.ones((), dtype=dtype), p, x, 256, -7.0, "sum")
        (closed_second,) = torch.autograd.grad(closed.square().sum(), p)
        for t in (nll, grad, second, closed, closed_second):
            assert t.isfinite().all()
        torch.testing.assert_close(closed, grad, rtol=1e-4, atol=1e-4)


def test_log_scale_floor_stops_the_gradient_below_it_alone():
    p = torch.zeros(1, 3, 3, dtype=DOUBLE)
    p[:, 2] = torch.tensor([-7.5, -7.0, -6.5], dtype=DOUBLE)
    p.requires_grad_()
    for grad in (
        torch.autograd.grad(reference.forward(p, torch.full((1, 1, 3), 100), 256, -7.0, "sum"), p)[0],
        reference.backward(torch.ones((), dtype=DOUBLE), p, torch.full((1, 1, 3), 100), 256, -7.0, "sum"),
    ):
        assert grad[0, 2, 0] == 0 and grad[0, 2, 1] != 0 and grad[0, 2, 2] != 0


def test_wrong_levels_are_nan():
    p = params_of((3, 2), 3, 2)
    x = torch.zeros(3, 3, 2, dtype=torch.int64)
    x[0, 1, 1], x[2, 2, 0] = -1, 256
    nll = reference.forward(p, x, 256, -7.0, "none")
    assert nll[0].isnan() and nll[1].isfinite() and nll[2].isnan()
