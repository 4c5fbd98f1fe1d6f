"""MaskedAutoregressiveSpline: what is its own beside what it shares with MaskedAutoregressive, whose tests look at both."""

import math

import pytest
import torch
from masked_autoregressive_twins import compare, derived, each_backend, given, made, ours, plain
from support import assert_same

from pygen.nn import MaskedAutoregressiveSpline

pytestmark = pytest.mark.usefixtures("poisoned")


@each_backend
def test_masked_autoregressive_spline_begins_as_the_identity(backend):
    for options in ({}, {"tails": None, "bound": (-6.0, 5.0)}):
        layer = MaskedAutoregressiveSpline(6, (9, 4), cond_features=3, backend=backend, **options).double()
        y, cond = given(layer)
        for x, log_det in (layer(y, cond), layer.inverse(y, cond)):
            assert (x - y).abs().max() < 1e-14 and log_det.abs().max() < 1e-13
    layer = MaskedAutoregressiveSpline(6, (9, 4), identity_init=False).double()
    assert layer(y)[1].abs().max() > 0.1


@each_backend
@pytest.mark.parametrize("dtype", (torch.float64, torch.float32))
def test_masked_autoregressive_spline_leaves_what_is_outside(backend, dtype):
    """Exactly, ends included; others of the sample are found all the same, and gradients are those of passes."""
    layer = made(7, (9, 4), num_bins=4, bound=2.0, backend=backend, dtype=dtype)
    y = given(layer, dtype=dtype)[0]
    y[0], y[1, ::2], y[2, 1], y[3, 2] = 2.5, -7.0, 2.0, -2.0
    x, log_det = layer.inverse(y)
    outside = y.abs() >= 2
    assert_same(x[outside], y[outside])
    assert (x[~outside] != y[~outside]).all() and x[~outside].abs().max() <= 2
    assert log_det[0] == 0 and (log_det[1:] != 0).all()
    compare(layer, (y,))


@each_backend
def test_masked_autoregressive_spline_in_a_box_gives_nan_outside(backend):
    """As the function does: of that number, of the numbers after it, which see it, and of its sample's log-determinant."""
    layer = made(5, (6, 4), num_bins=3, tails=None, bound=3.0, backend=backend)
    y = given(layer, 4)[0].clamp(-3, 3)
    y[1, 2], y[2, 0] = 3.0, 3.5
    clean = layer.inverse(y.clamp(-3, 3))
    x, log_det = layer.inverse(y)
    for row in (0, 1, 3):
        assert_same(x[row], clean[0][row])
        assert_same(log_det[row], clean[1][row])
    assert abs(x[1, 2] - 3) < 1e-12 and x[2].isnan().all() and log_det[2].isnan()


@each_backend
def test_masked_autoregressive_spline_of_the_most_bins(backend):
    layer = made(3, (4,), num_bins=256, backend=backend, min_bin_width=1e-4, min_bin_height=1e-4)
    inputs = given(layer)
    got, expected = (derived(layer, run(layer), inputs, torch.float64) for run in (ours, plain))
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-9, atol=1e-9, msg=name)


def layer(*sizes, **options):
    return MaskedAutoregressiveSpline(*(sizes or (3, 4)), **options)


def test_masked_autoregressive_spline_says_what_it_is():
    assert repr(layer(num_bins=5, order=(2, 1, 0), bound=(-1.0, 2.0))).split("\n")[1].strip() == (
        "3, num_bins=5, tails='linear', bound=(-1.0, 2.0), order=range(D)[::-1]"
    )
    assert [list(p.shape) for p in layer(num_bins=5).parameters()] == [[4, 3], [4], [42, 4], [42]]
    assert len(layer(num_bins=5, tails=None).layers[-1].bias) == 3 * 16


REFUSED = {
    "bins": (lambda: layer(num_bins=0), "num_bins: expected an int >= 1, got 0"),
    "bins float": (lambda: layer(num_bins=4.0), "num_bins: expected an int >= 1, got "),
    "bins many": (lambda: layer(num_bins=257), "num_bins: expected an int <= 256, got 257"),
    "tails": (lambda: layer(tails="flat"), "tails: expected 'linear' or None, got 'flat'"),
    "bound": (lambda: layer(bound=0.0), "bound: expected 1e-6 <= bound <= 1e6, got 0.0"),
    "bound pair": (lambda: layer(bound=(2.0, 1.0)), "bound: expected low < high"),
    "width": (lambda: layer(min_bin_width=0.2), r"min_bin_width: expected 1e-6 <= min_bin_width < 1 / 8, .* got 0\.2"),
    "height": (lambda: layer(min_bin_height=math.nan), "min_bin_height: expected 1e-6 <= min_bin_height < 1 / 8"),
    "slope": (lambda: layer(min_derivative=1.0), "min_derivative: expected 1e-6 <= min_derivative < 1, got 1"),
    "identity": (lambda: layer(identity_init=1), "identity_init: expected True or False, got 1"),
    "activation": (lambda: layer(activation=None), "activation: expected 'relu' or .* got None"),
    "inputs": (lambda: layer(0, 4), "num_inputs: expected an int >= 1, got 0"),
    "y shape": (lambda: layer().inverse(torch.zeros(2, 4)), r"y: expected shape \[N, 3\], got \[2, 4\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_masked_autoregressive_spline_refuses(name):
    call, match = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match="MaskedAutoregressiveSpline: " + match):
        call()
