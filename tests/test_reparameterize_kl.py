"""reparameterize_kl and gaussian_kl: closed forms, limits, free bits, broadcasting, samples."""

import math

import pytest
import torch
from registry import leaves
from rows.reparameterize_kl import ROWS, gaussians
from support import DTYPES, assert_accurate, assert_same, check_form, fast_targets, mixed_weights

from pygen.functional import gaussian_kl, reparameterize_kl

INF, NAN = math.inf, math.nan
pytestmark = pytest.mark.usefixtures("poisoned")
op = ROWS[0]


def at(*values, target=None, dtype=torch.float32, grad=False):
    return torch.tensor(values, dtype=dtype, device=target.device if target else "cpu").requires_grad_(grad)


def kl_of(mu, logvar, target, **options):
    return reparameterize_kl(mu, logvar, seed=1, backend=target.backend, **options)[1]


# Closed forms


@pytest.mark.parametrize(("logvar", "expected"), [(1e-2, 2.508354e-5), (1e-3, 2.500834e-7), (1e-4, 2.500083e-9)])
def test_gaussian_kl_near_the_prior_keeps_its_digits(target, logvar, expected):
    """exp(lv) - 1 - lv as it stands would be off by 0.26 %, 4.7 % and 232 %, with expm1 by up to 3e-4."""
    for dtype in (torch.float64, torch.float32):
        lv = at(logvar, target=target, dtype=dtype)
        kl = gaussian_kl(torch.zeros_like(lv), lv, backend=target.backend).item()
        assert kl == pytest.approx(expected, rel=1e-3 if target.backend == "reference" else 1e-6)


@fast_targets
def test_gaussian_kl_is_accurate_element_by_element(target):
    """Each element by itself, over 30 decades of logvar and both signs: no large neighbour to hide behind."""
    small = torch.logspace(-18, 2.6, 4000, base=10, dtype=torch.float64).clamp(max=80)
    lv = torch.cat((small, -small)).float().to(target.device)
    kl = gaussian_kl(torch.zeros_like(lv), lv, reduction="none", backend=target.backend).double()
    x = lv.double()
    series = x * x / 4 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6 * (1 + x / 7)))))
    exact = torch.where(x.abs() < 0.05, series, 0.5 * (torch.expm1(x) - x))
    relative = ((kl - exact).abs() / exact.clamp(min=1e-30))[exact > 1e-30]
    if target.backend == "reference":  # expm1(x) - x of float32: 3e-4 at 1e-4, and worse below
        relative = relative[x[exact > 1e-30].abs() > 0.1]
    assert relative.max() < 1e-6


def test_gaussian_kl_is_exactly_zero_at_the_prior(target):
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        mu, logvar = (t.to(dtype).to(target.device) for t in (torch.randn(3, 40), torch.randn(3, 40) * 3))
        leaf_mu, leaf_logvar = mu.clone().requires_grad_(), logvar.clone().requires_grad_()
        kl = gaussian_kl(leaf_mu, leaf_logvar, mu, logvar, reduction="none", backend=target.backend)
        assert (kl == 0).all()
        for g in torch.autograd.grad(kl.sum(), (leaf_mu, leaf_logvar)):
            assert (g == 0).all()
        zero = torch.zeros_like(mu)
        assert gaussian_kl(zero, zero, reduction="sum", backend=target.backend) == 0


def test_gaussian_kl_of_two_gaussians_is_torch_distributions(target):
    t = {k: v.to(target.device) for k, v in gaussians((6, 5), (6, 5), (6, 5), (6, 5)).items()}
    normal = torch.distributions.Normal
    q, p = normal(t["mu"], (t["logvar"] / 2).exp()), normal(t["prior_mu"], (t["prior_logvar"] / 2).exp())
    expected = torch.distributions.kl_divergence(q, p).sum(1)
    for got in (
        gaussian_kl(*t.values(), reduction="none", backend=target.backend),
        reparameterize_kl(**t, seed=1, reduction="none", backend=target.backend)[1],
    ):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gaussian_kl(*t.values(), backend=target.backend), expected.mean(), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        gaussian_kl(*t.values(), reduction="sum", backend=target.backend), expected.sum(), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(("mu", "logvar", "expected"), [(0.0, 11.5, 49351.64), (300.0, 0.0, 45000.0)])
def test_gaussian_kl_of_float16_does_not_overflow_inside(target, mu, logvar, expected):
    """exp(11.5) and 300^2 are beyond float16, the KL of either is not beyond float32."""
    m, lv = (
        at(mu, target=target, dtype=torch.float16, grad=True),
        at(logvar, target=target, dtype=torch.float16, grad=True),
    )
    kl = gaussian_kl(m, lv, backend=target.backend)
    assert kl.dtype == torch.float32 and kl.item() == pytest.approx(expected, rel=1e-6)
    grad_mu, grad_logvar = torch.autograd.grad(kl, (m, lv))
    assert grad_mu.item() == mu and grad_logvar.item() == torch.tensor(0.5 * math.expm1(logvar)).half().item()


# Limits


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16, torch.float64), ids=str)
def test_reparameterize_kl_at_infinite_and_nan_logvar(target, dtype):
    mu = at(1.5, -2.0, 0.5, 3.0, target=target, dtype=dtype, grad=True)
    logvar = at(-INF, INF, NAN, 0.25, target=target, dtype=dtype, grad=True)
    z, kl = reparameterize_kl(mu, logvar, seed=1, reduction="none", backend=target.backend)
    assert z[0] == 1.5 and z[1].isinf() and z[2].isnan() and z[3].isfinite()
    assert kl[0] == INF and kl[1] == INF and kl[2].isnan() and kl[3].isfinite()
    grad_mu, grad_logvar = torch.autograd.grad(z.sum(), (mu, logvar), retain_graph=True)
    assert (grad_mu == 1).all() and grad_logvar[0] == 0 and grad_logvar[1].isinf() and grad_logvar[2].isnan()
    grad_mu, grad_logvar = torch.autograd.grad(kl.sum(), (mu, logvar))
    assert torch.equal(grad_mu, mu) and grad_logvar[0] == -0.5 and grad_logvar[1] == INF and grad_logvar[2].isnan()
    assert grad_logvar[3].isfinite()


@fast_targets
def test_one_nan_stays_in_its_element_and_its_row(target):
    """Whichever input it is in, at whichever place of a vector: the others are bit for bit as without it."""
    names = ("mu", "logvar", "prior_mu", "prior_logvar")
    clean = {k: t.float().to(target.device) for k, t in gaussians(*[(5, 37)] * 4).items()}
    marked, inputs = leaves(op, clean)
    plain = op.run(marked, {"reduction": "none"}, target.backend)
    plain_grads = torch.autograd.grad(plain[0].sum() + plain[1].sum(), inputs)
    for name in names:
        for row, col in ((0, 0), (2, 17), (4, 36)):
            marked, inputs = leaves(op, {k: t.clone() for k, t in clean.items()})
            with torch.no_grad():
                marked[name][row, col] = NAN
            z, kl = op.run(marked, {"reduction": "none"}, target.backend)
            grads = torch.autograd.grad(z.sum() + kl.sum(), inputs)
            hit = torch.zeros(5, 37, dtype=torch.bool, device=target.device)
            hit[row, col] = True
            assert kl[row].isnan() and torch.equal(kl.isnan(), hit.any(1))
            assert torch.equal(z.isnan(), hit if name in ("mu", "logvar") else torch.zeros_like(hit))
            for got, expected in zip((z, *grads), (plain[0], *plain_grads), strict=True):
                assert_same(got[~hit], expected[~hit], what=name)
            assert_same(kl[~hit.any(1)], plain[1][~hit.any(1)])


@fast_targets
def test_a_row_does_not_depend_on_its_batch(target):
    tensors = {k: t.float().to(target.device) for k, t in gaussians((9, 1500)).items()}
    z, kl = op.run(tensors, {"reduction": "none"}, target.backend)
    z_part, kl_part = op.run({k: t[:4] for k, t in tensors.items()}, {"reduction": "none"}, target.backend)
    assert_same(z[:4], z_part)
    assert_same(kl[:4], kl_part)


@fast_targets
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
def test_reparameterize_kl_over_the_whole_range_of_logvar(target, dtype):
    """Underflow, overflow and everything between. Within a factor 2 of the largest number exp(logvar) may overflow first."""
    limit = math.log(torch.finfo(dtype).max)
    lv = torch.linspace(-2 * limit, 2 * limit, 4001, dtype=torch.float64).to(dtype)
    lv = lv[(lv < limit - 0.01) | (lv > limit + math.log(2) + 0.01)].to(target.device)
    for chunk in lv.split(7):  # small groups, so that the large do not excuse the small
        logvar = chunk.clone().requires_grad_()
        kl = gaussian_kl(torch.zeros_like(chunk), logvar, reduction="none", backend=target.backend)
        truth = chunk.double().clone().requires_grad_()
        ref = 0.5 * (torch.expm1(truth) - truth)
        assert_accurate(kl, ref, -0.5 * (1 + chunk - chunk.exp()), dtype=dtype)
        (grad,), (ref_grad,) = torch.autograd.grad(kl.sum(), logvar), torch.autograd.grad(ref.sum(), truth)
        assert_accurate(grad, ref_grad, ref_grad.to(dtype), dtype=dtype, what="grad_logvar")


# Free bits


def test_free_bits_on_below_and_above_the_boundary(target):
    """mu = 2 has KL 2 exactly: on the floor counts as the floor, without a gradient."""
    for floor, value, slope in ((1.75, 2.0, 2.0), (2.0, 2.0, 0.0), (2.25, 2.25, 0.0)):
        mu, logvar = at(2.0, target=target, grad=True), at(0.0, target=target, grad=True)
        kl = kl_of(mu, logvar, target, free_bits=floor)
        assert kl.item() == value
        grad_mu, grad_logvar = torch.autograd.grad(kl, (mu, logvar))
        assert grad_mu.item() == slope and grad_logvar.item() == 0
    above = math.nextafter(2.0, 3.0)
    mu = at(2.0, target=target, dtype=torch.float64, grad=True)
    zero = torch.zeros_like(mu)
    assert torch.autograd.grad(kl_of(mu, zero, target, free_bits=above), mu)[0].item() == 0
    assert torch.autograd.grad(kl_of(mu, zero, target, free_bits=math.nextafter(2.0, 0.0)), mu)[0].item() == 2


def test_free_bits_are_per_element_and_leave_z_alone(target):
    tensors = {k: t.float().to(target.device) for k, t in gaussians(*[(4, 9)] * 4).items()}
    floor = 0.7
    each = gaussian_kl(*(t.reshape(-1) for t in tensors.values()), reduction="none", backend=target.backend).view(4, 9)
    assert (each < floor).any() and (each > floor).any()
    marked, inputs = leaves(op, tensors)
    z, kl = op.run(marked, {"free_bits": floor, "reduction": "none"}, target.backend)
    torch.testing.assert_close(kl, each.clamp(min=floor).sum(1))
    assert_same(z, op.run(tensors, {}, target.backend)[0])
    weights = mixed_weights((4,), device=target.device)
    free = torch.autograd.grad(kl, inputs, weights)
    full = torch.autograd.grad(op.run(marked, {"reduction": "none"}, target.backend)[1], inputs, weights)
    for a, b in zip(free, full, strict=True):
        assert_same(a, torch.where(each <= floor, torch.zeros_like(b), b))


def test_free_bits_beyond_the_dtype_are_infinite(target):
    """In float64 they are a number like any other."""
    for dtype in DTYPES:
        mu, logvar = at(2.0, -1.0, target=target, dtype=dtype, grad=True), at(0.0, 3.0, target=target, dtype=dtype)
        kl = kl_of(mu, logvar, target, free_bits=1e300, reduction="sum")
        assert kl.item() == (2e300 if dtype == torch.float64 else math.inf)
        assert torch.autograd.grad(kl, mu)[0].tolist() == [0, 0]


def test_free_bits_do_not_swallow_nan(target):
    kl = kl_of(at(NAN, target=target), at(0.0, target=target), target, free_bits=3.0)
    assert kl.isnan()


def test_free_bits_of_zero_mean_no_clamp(target):
    """Gradients flow where the KL is 0."""
    mu = at(0.0, 1e-30, target=target, grad=True)
    kl = kl_of(mu, torch.zeros_like(mu), target, free_bits=0.0, reduction="sum")
    assert torch.equal(torch.autograd.grad(kl, mu)[0], mu)


# Reductions, broadcasting, samples, eps


def test_mean_is_refused_with_an_explanation():
    with pytest.raises(ValueError, match=r"'mean' .*shrinks the KL by the latent size.*'batchmean'"):
        gaussian_kl(torch.zeros(2, 3), torch.zeros(2, 3), reduction="mean")


def test_reductions_agree(target):
    tensors = {k: t.to(target.device) for k, t in gaussians((6, 2, 5)).items()}
    none, total, mean = (op.run(tensors, {"reduction": r}, target.backend)[1] for r in ("none", "sum", "batchmean"))
    assert none.shape == (6,) and total.shape == mean.shape == ()
    torch.testing.assert_close(none.sum(), total)
    torch.testing.assert_close(none.mean(), mean)


@pytest.mark.parametrize("shapes", [((4, 3, 5), (5,), (3, 1), (4, 1, 1)), ((4, 3), (1,), (), (1, 3))], ids=str)
def test_broadcast_gradients_are_summed_back(target, shapes):
    small = {k: t.to(target.device) for k, t in gaussians(*shapes).items()}
    marked, inputs = leaves(op, small)
    outputs = op.run(marked, {}, target.backend)
    weights = [mixed_weights(o.shape, o.dtype, target.device) for o in outputs]
    grads = torch.autograd.grad(outputs, inputs, weights)
    expanded, wide = leaves(op, {k: t.expand(shapes[0]).contiguous() for k, t in small.items()})
    for t, g, w in zip(
        inputs, grads, torch.autograd.grad(op.run(expanded, {}, target.backend), wide, weights), strict=True
    ):
        check_form(g, t, t.dtype, what="gradient")
        torch.testing.assert_close(g, w.sum_to_size(t.shape), rtol=1e-12, atol=1e-12)


def test_samples_share_one_kl_and_the_first_equals_none(target):
    tensors = {k: t.float().to(target.device) for k, t in gaussians((5, 7)).items()}
    z, kl = op.run(tensors, {}, target.backend)
    for k in (1, 4):
        many, same = op.run(tensors, {"num_samples": k}, target.backend)
        assert many.shape == (k, 5, 7)
        assert_same(many[0], z)
        assert_same(same, kl)


def test_gradient_sums_over_samples(target):
    tensors = {k: t.to(target.device) for k, t in gaussians((5, 7)).items()}
    marked, inputs = leaves(op, tensors)
    z = op.run(marked, {"num_samples": 3}, target.backend)[0]
    weights = mixed_weights(z.shape, z.dtype, target.device)
    together = torch.autograd.grad(z, inputs, weights, retain_graph=True)
    each = [torch.autograd.grad(z[k], inputs, weights[k], retain_graph=True) for k in range(3)]
    for whole, *parts in zip(together, *each, strict=True):
        torch.testing.assert_close(whole, sum(parts), rtol=1e-12, atol=1e-12)


def test_eps_is_the_noise(target):
    """For parity with existing code; the default generator is not touched."""
    tensors = {k: t.float().to(target.device) for k, t in gaussians((3, 8)).items()}
    for k in (None, 2):
        eps = torch.randn((3, 8) if k is None else (k, 3, 8), device=target.device)
        state = torch.get_rng_state()
        z, _ = op.run({**tensors, "eps": eps}, {"num_samples": k}, target.backend)
        assert torch.equal(torch.get_rng_state(), state)
        torch.testing.assert_close(z, tensors["mu"] + (tensors["logvar"] / 2).exp() * eps)
    drawn = op.run({k: torch.zeros_like(t) for k, t in tensors.items()}, {}, target.backend)[0]
    assert_same(op.run({**tensors, "eps": drawn}, {}, target.backend)[0], op.run(tensors, {}, target.backend)[0])


def test_autocast_of_another_device_promotes_nothing():
    mu, logvar = torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bfloat16)
    before = torch.is_autocast_enabled("cuda")
    torch.set_autocast_enabled("cuda", True)
    try:
        with pytest.raises(TypeError, match=r"logvar: expected torch.float32, the dtype of mu, got torch.bfloat16"):
            gaussian_kl(mu, logvar)
    finally:
        torch.set_autocast_enabled("cuda", before)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
def test_equal_means_under_a_prior_without_variance_have_no_gradient(target, dtype):
    """1 / prior sigma is kept finite wherever in a vector of exponentials it is computed. Found by fuzzing: case 7001/8615."""
    shape = (1, 4 if target.backend == "triton" else 1023)
    mu = torch.ones(shape, dtype=dtype, device=target.device, requires_grad=True)
    never = torch.full(shape, -INF, dtype=dtype, device=target.device)
    kl = gaussian_kl(mu, torch.zeros_like(never), mu.detach(), never, reduction="sum", backend=target.backend)
    assert (torch.autograd.grad(kl, mu)[0] == 0).all()
