"""rational_quadratic_spline: what is its own, beside what test_conformance_*.py tests of every op."""

import math

import pytest
import torch
from registry import OPS
from rows.rational_quadratic_spline import live_index, params_shape
from support import FAST_TARGETS, TARGETS, assert_same

from pygen import nn
from pygen.functional import rational_quadratic_spline

pytestmark = pytest.mark.usefixtures("poisoned")
NAN, INF = float("nan"), float("inf")
OP = next(op for op in OPS if op.name == "rational_quadratic_spline")
each_target = pytest.mark.parametrize("target", FAST_TARGETS, ids=str)
every_target = pytest.mark.parametrize("target", TARGETS, ids=str)
each_tail = pytest.mark.parametrize("tails", ("linear", None))


def given(shape, bins, *, dtype=torch.float64, device="cpu", scale=1.0, spread=1.5, seed=0, **options):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=g, dtype=torch.float64) * spread
    if options.get("tails", "linear") is None:
        x = x.clamp(-2.9, 2.9)
    p = torch.randn(params_shape(shape, bins, options), generator=g, dtype=torch.float64) * scale
    return x.to(device, dtype), p.to(device, dtype)


@each_target
@each_tail
def test_rational_quadratic_spline_inverse_undoes_forward(target, tails):
    """To rounding, which steep bins magnify; the two log-determinants cancel."""
    for dtype, most in ((torch.float64, 1e-11), (torch.float32, 2e-4)):
        for shape, bins, mask in (((50, 7), 8, None), ((3, 5, 6, 4), 3, "channel"), ((3, 4, 3), 17, "even_odd")):
            options = {"mask": mask, "tails": tails}
            x, p = given(shape, bins, dtype=dtype, device=target.device, **options)
            y, log_det = rational_quadratic_spline(x, p, backend=target.backend, **options)
            back, minus = rational_quadratic_spline(y, p, inverse=True, backend=target.backend, **options)
            assert (back - x).abs().max() < most and (log_det + minus).abs().max() < 20 * most
            assert log_det.abs().min() > 1e-3 and (y - x).abs().max() > 0.3


@each_target
@each_tail
@pytest.mark.parametrize("inverse", (False, True))
def test_rational_quadratic_spline_log_det_is_that_of_the_jacobian(target, tails, inverse):
    """By autograd, of every element; and of a coupling whose parameters depend on what passes: triangular."""
    for mask, flip, bins in ((None, False, 1), ("channel", True, 4), ("even_odd", False, 4)):
        options = {"mask": mask, "flip": flip, "tails": tails, "inverse": inverse}
        x, p = given((1, 5, 2), bins, device=target.device, **options)
        rest = [c for c in range(5) if c not in live_index(5, mask, flip)]

        def run(x, p=p, rest=rest, options=options):
            made = p + torch.tanh(x[:, rest].sum() * p) if rest else p
            return rational_quadratic_spline(x, made, backend=target.backend, **options)

        jacobian = torch.autograd.functional.jacobian(lambda x, run=run: run(x)[0], x).view(10, 10)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], run(x)[1][0], rtol=1e-9, atol=1e-9)


@every_target
@each_tail
def test_rational_quadratic_spline_goes_through_its_knots(target, tails):
    """Which the softmaxes say, by the formulas of the paper; with the slopes there, and rising between them."""
    bins, least = 4, {"min_bin_width": 0.01, "min_bin_height": 0.02, "min_derivative": 0.05}
    _, p = given((1, 1), bins, tails=tails, seed=3, scale=1.5)
    w, h, d = p[0, :bins], p[0, bins : 2 * bins], p[0, 2 * bins :]
    x, y = (
        torch.cat((torch.tensor([-2.0]), -2 + 4 * (share + (1 - bins * share) * a.softmax(0)).cumsum(0)))
        for a, share in ((w, 0.01), (h, 0.02))
    )
    beta = math.log(2) / 0.95
    d = 0.05 + torch.nn.functional.softplus(d, beta=beta)
    d = torch.cat((torch.ones(1), d, torch.ones(1))) if tails == "linear" else d
    x[-1] = y[-1] = 2.0
    options = {"tails": tails, "bound": 2.0, "backend": target.backend, **least}
    for inverse, (a, b) in ((False, (x, y)), (True, (y, x))):
        leaf = a[:, None].to(target.device).requires_grad_()
        params = p.expand(bins + 1, -1).to(target.device)
        out, log = rational_quadratic_spline(leaf, params, inverse=inverse, **options)
        torch.testing.assert_close(out[:, 0].detach().cpu(), b, rtol=0, atol=2e-14)
        slopes = torch.autograd.grad(out.sum(), leaf)[0][:, 0].cpu()
        torch.testing.assert_close(slopes, 1 / d if inverse else d, rtol=1e-12, atol=0)
        torch.testing.assert_close(log.detach().cpu(), slopes.log(), rtol=0, atol=1e-12)
    for dtype in (torch.float64, torch.float32):
        many = torch.linspace(-2, 2, 301, dtype=dtype)[:, None].to(target.device)
        for inverse in (False, True):
            out, _ = rational_quadratic_spline(
                many, p.to(target.device, dtype).expand(301, -1), inverse=inverse, **options
            )
            assert (out.diff(dim=0) > 0).all() and out[0] == -2 and 2 - 16 * torch.finfo(dtype).eps <= out[-1] <= 2


@every_target
def test_rational_quadratic_spline_of_zeros_is_the_identity(target):
    """With identity_init; without it slopes at inner knots are log 2 + min_derivative."""
    for dtype, most in ((torch.float64, 1e-14), (torch.float32, 2e-6)):
        x = torch.linspace(-4, 4, 33, dtype=dtype)[:, None].to(target.device)
        for tails, numbers in (("linear", 14), (None, 16)):
            p = x.new_zeros(33, numbers)
            for inverse in (False, True):
                out, log = rational_quadratic_spline(
                    x, p, tails=tails, bound=4.0, inverse=inverse, backend=target.backend
                )
                assert (out - x).abs().max() < most and log.abs().max() < most
        knot = x.new_tensor([[-0.8]])
        log = rational_quadratic_spline(knot, p[:1, :14], bound=4.0, identity_init=False, backend=target.backend)[1]
        assert abs(log.item() - math.log(math.log(2) + 1e-3)) < 4 * most


@every_target
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
@pytest.mark.parametrize("inverse", (False, True))
def test_rational_quadratic_spline_is_the_identity_outside(target, dtype, inverse):
    """The bits of input, also where params are NaN, whose gradient is exactly 0; ends of the bound belong to it."""
    x, p = given((6, 4), 3, dtype=dtype, device=target.device)
    outside = torch.tensor([[3.0, -3.0, INF, -INF], [1e30, -7.0, 3.25, -3.25]]).repeat(3, 1).to(target.device, dtype)
    lies = torch.tensor([True, False, True, True]).to(target.device).expand(6, 4)
    x = torch.where(lies, outside, x.clamp(-2, 2))
    spoilt = torch.where(lies.repeat_interleave(8, 1), torch.full_like(p, NAN), p)
    results = []
    for params in (p, spoilt):
        leaves = x.clone().requires_grad_(), params.clone().requires_grad_()
        y, log_det = rational_quadratic_spline(*leaves, inverse=inverse, backend=target.backend)
        up = torch.full_like(y, 0.75), torch.full_like(log_det, -2.0)
        grads = torch.autograd.grad((y, log_det), leaves, up, create_graph=True)
        again = torch.autograd.grad(sum(g.sum() for g in grads), leaves)
        results.append([t.detach() for t in (y, log_det, *grads, *again)])
    for a, b in zip(*results, strict=True):
        assert_same(a, b)
    y, log_det, grad_x, grad_p = results[0][:4]
    assert torch.equal(y[lies], x[lies]) and (grad_x[lies] == 0.75).all() and log_det.isfinite().all()
    assert (grad_p.view(6, 4, 8)[lies] == 0).all() and (grad_p.view(6, 4, 8)[~lies] != 0).any(1).all()


@every_target
def test_rational_quadratic_spline_nan_goes_where_the_docstring_says(target):
    """What leaves a box without tails, NaN of input, of widths, of a slope beside the bin and elsewhere."""
    x, p = (
        torch.zeros(6, 2, device=target.device),
        torch.zeros(6, 2 * 13, device=target.device),
    )  # 4 bins, knots -1.5, 0, 1.5
    x += 0.5
    x[0, 1], x[1, 0] = 3.01, NAN
    p[2, 1], p[3, 7], p[4, 8], p[5, 10] = NAN, INF, NAN, NAN  # a width, a height, slopes: of the first knot, of 0's
    x, p = x.requires_grad_(), p.requires_grad_()
    y, log_det = rational_quadratic_spline(x, p, tails=None, backend=target.backend)
    wrong = torch.tensor([[0, 1], [1, 0], [1, 0], [1, 0], [0, 0], [1, 0]], dtype=torch.bool)
    assert torch.equal(y.isnan().cpu(), wrong) and torch.equal(log_det.isnan().cpu(), wrong.any(1))
    grad_x, grad_p = torch.autograd.grad(y.sum() + log_det.sum(), (x, p))
    assert grad_x[0, 1] == 0 and grad_x[1, 0] == 0 and (grad_p[0, 13:] == 0).all() and (grad_p[1, :13] == 0).all()
    assert grad_p[4].isfinite().all() and grad_p[:, 13:].isfinite().all()
    y, log_det = rational_quadratic_spline(x, p[:, :22], backend=target.backend)  # tails: NaN alone is NaN
    assert y.isnan()[1, 0] and log_det.isnan()[1] and y[0, 1] == x[0, 1]
    exact = rational_quadratic_spline(
        x.detach().new_tensor([[-3.0, 3.0]]), p[:1].detach(), tails=None, backend=target.backend
    )
    assert torch.equal(exact[0].cpu(), torch.tensor([[-3.0, 3.0]])) and exact[1].isfinite().all()


@each_target
def test_rational_quadratic_spline_stays_inside_and_finite_at_extreme_parameters(target):
    """Bins of the least sizes, slopes from the least to hundreds: finite values and gradients, an inverse that has its root."""
    for seed in range(3):
        x, p = given((200, 3), 6, dtype=torch.float32, device=target.device, scale=40.0, seed=seed)
        x, p = x.clamp(-2.999, 2.999).requires_grad_(), p.requires_grad_()
        for inverse in (False, True):
            y, log_det = rational_quadratic_spline(x, p, inverse=inverse, backend=target.backend)
            assert y.abs().max() <= 3 and log_det.isfinite().all()
            grads = torch.autograd.grad((y, log_det), (x, p), (torch.ones_like(y), torch.ones_like(log_det)))
            assert all(g.isfinite().all() for g in grads)
            back, _ = rational_quadratic_spline(y.double(), p.double(), inverse=not inverse, backend=target.backend)
            exact = rational_quadratic_spline(x.double(), p.double(), inverse=inverse, backend=target.backend)[0]
            assert (y - exact).abs().max() < 2e-3 and back.isfinite().all()


@each_target
def test_rational_quadratic_spline_just_below_the_bound_stays_inside_it(target):
    """Where the plain formula passes it by rounding, in 1 to 10 of 100 elements."""
    _, p = given((2000, 1), 4, dtype=torch.float32, device=target.device, scale=2.0)
    for bound in (1.0, 2.7, 3.0):
        x = torch.nextafter(torch.tensor(bound), torch.zeros(())).to(target.device).expand(2000, 1)
        for inverse, least in ((False, 5), (True, 100)):
            options = {"bound": bound, "inverse": inverse}
            plain, _ = OP.composite({"input": x, "params": p}, options)
            assert (plain > x.new_tensor(bound)).sum() >= least
            y, _ = rational_quadratic_spline(x, p, backend=target.backend, **options)
            assert (y <= x.new_tensor(bound)).all()


@each_target
def test_rational_quadratic_spline_knots_are_better_than_plain_ones(target):
    """Root mean square errors of outputs: what all bins together are too narrow is dealt to them."""
    for bins, inverse in ((8, False), (8, True), (16, False), (16, True)):
        x, p = given((3000, 1), bins, dtype=torch.float32, device=target.device)
        x = x.clamp(-2.9, 2.9)
        exact = OP.composite({"input": x.double(), "params": p.double()}, {"inverse": inverse})[0]
        plain = OP.composite({"input": x, "params": p}, {"inverse": inverse})[0]
        ours = rational_quadratic_spline(x, p, inverse=inverse, backend=target.backend)[0]
        errors = [(y.double() - exact).square().mean().sqrt().item() for y in (ours, plain)]
        assert errors[0] < 0.75 * errors[1]


@every_target
def test_rational_quadratic_spline_reads_what_layers_give(target):
    """One row of params for each channel, in the order that a Linear, a Conv2d and people's reshapes have, in any layout."""
    x, p = given((3, 4, 5, 2), 2, dtype=torch.float32, device=target.device)
    whole, log_det = rational_quadratic_spline(x, p, backend=target.backend)
    for n, c, i, j in ((0, 0, 0, 0), (1, 2, 3, 1), (2, 3, 4, 0)):
        own = x[n : n + 1, c : c + 1, i, j], p[n : n + 1, 5 * c : 5 * c + 5, i, j]
        one = rational_quadratic_spline(*own, backend=target.backend)
        torch.testing.assert_close(one[0][0, 0], whole[n, c, i, j], rtol=1e-6, atol=1e-6)
    last = [t.contiguous(memory_format=torch.channels_last) for t in (x, p)]
    again = rational_quadratic_spline(*last, backend=target.backend)
    torch.testing.assert_close(again[0], whole, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(again[1], log_det, rtol=1e-5, atol=1e-5)
    assert again[0].is_contiguous(memory_format=torch.channels_last)


def test_rational_quadratic_spline_gives_a_place_the_same_bits_wherever_it_stands():
    """At the end of a tile, in a tile of its own, in planes, among numbers side by side; a sample among others."""
    x, p = given((1, 1, 9, 31), 5, dtype=torch.float32)
    whole = rational_quadratic_spline(x, p, backend="cpu")
    flat_x, flat_p = x.reshape(279, 1), p.movedim(1, -1).reshape(279, 14)
    for count in (1, 3, 64, 65, 279):
        out, log = rational_quadratic_spline(flat_x[:count].contiguous(), flat_p[:count].contiguous(), backend="cpu")
        assert_same(out[:, 0], whole[0].reshape(-1)[:count])
    torch.testing.assert_close(log.sum(), whole[1][0], rtol=1e-5, atol=1e-5)
    x, p = OP.sample("blocks of 1024").cast(torch.float32).values()
    both, alone = (rational_quadratic_spline(x[i:], p[i:], backend="cpu") for i in (0, 1))
    for a, b in zip(both, alone, strict=True):
        assert_same(a[1:], b)


def test_spline_coupling_module_conditions_on_what_passes():
    torch.manual_seed(0)
    for mask, flip in (("channel", False), ("even_odd", True)):
        conditioner = torch.nn.Conv2d(3, 2 * 8 if not flip else 3 * 8, 1)
        conditioner = conditioner if not flip else torch.nn.Conv2d(2, 3 * 8, 1)
        layer, x = nn.SplineCoupling(conditioner, mask=mask, flip=flip, bound=2.5), torch.randn(4, 5, 3, 2)
        y, log_det = layer(x)
        back, minus = layer.inverse(y)
        live = live_index(5, mask, flip)
        rest = [c for c in range(5) if c not in live]
        assert torch.equal(y[:, rest], x[:, rest]) and (y[:, live] != x[:, live]).any()
        torch.testing.assert_close(back, x, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(minus, -log_det, rtol=1e-4, atol=1e-4)
        x[:, live[0]] = NAN  # of what is transformed nothing reaches what the others are transformed by
        assert layer(x)[0][:, live[1:]].isfinite().all()


def test_rational_quadratic_spline_keeps_input_and_params_alone():
    kept = []
    x, p = (t.requires_grad_() for t in given((4, 6), 3))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        rational_quadratic_spline(x, p)
    assert {t.data_ptr() for t in kept} == {x.data_ptr(), p.data_ptr()}
