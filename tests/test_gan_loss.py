"""discriminator_loss and generator_loss: what the generic tests cannot know. Values and layouts: tests/rows/gan_loss.py."""

import math

import pytest
import registry  # noqa: F401 (before its rows, which import it)
import torch
import torch.nn.functional as F
from rows.gan_loss import discriminator_terms, generator_terms, logits
from support import DTYPES, TARGETS, compute_dtype, dtype_name, threads

from pygen._gan_terms import KINDS, RELATIVISTIC, SMOOTHABLE
from pygen.functional import GanStats, discriminator_loss, generator_loss

pytestmark = pytest.mark.usefixtures("poisoned")
FAST = [t for t in TARGETS if not t.slow]
each_kind = pytest.mark.parametrize("kind", KINDS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)


def cases():
    for kind in KINDS:
        yield pytest.param("discriminator", kind, 0.0, id=f"D-{kind}")
        if kind in SMOOTHABLE:
            yield pytest.param("discriminator", kind, 0.1, id=f"D-{kind}-smoothed")
        yield pytest.param("generator", kind, 0.0, id=f"G-{kind}")


def loss_of(player, kind, smoothing, real, fake, **options):
    if player == "discriminator":
        return discriminator_loss(real=real, fake=fake, kind=kind, label_smoothing=smoothing, **options)
    return generator_loss(fake=fake, real=real if kind in RELATIVISTIC else None, kind=kind, **options)


def terms_of(player, kind, smoothing, r, f):
    return discriminator_terms(r, f, kind, smoothing) if player == "discriminator" else generator_terms(r, f, kind)


def pair(shape, fake_shape, target, dtype=torch.float64):
    return [t.to(dtype=dtype, device=target.device).requires_grad_() for t in logits(shape, fake_shape).values()]


def flat(result):
    return list(result) if isinstance(result, (tuple, list)) else [result]


@pytest.mark.parametrize(("player", "kind", "smoothing"), list(cases()))
@pytest.mark.parametrize("reduction", ("mean", "sum", "none"))
def test_gan_loss_equals_its_closed_form_to_second_order(player, kind, smoothing, reduction, target):
    """Value, gradient and second gradient in float64, upstream gradients of both signs, unequal counts where they may be."""
    real, fake = pair((7, 5), (7, 5) if kind == "relativistic" else (11,), target)
    terms = [-0.75 * t for t in terms_of(player, kind, smoothing, real, fake)]
    expected = terms if reduction == "none" else [sum(t.mean() if reduction == "mean" else t.sum() for t in terms)]
    options = {"scale": -0.75, "reduction": reduction, "backend": target.backend}
    got = flat(loss_of(player, kind, smoothing, real, fake, **options))
    assert len(got) == len(expected)
    upstream = [torch.linspace(-1, 2, e.numel(), dtype=e.dtype, device=e.device).reshape(e.shape) for e in expected]
    first = []
    for outputs in (expected, got):
        grads = torch.autograd.grad(outputs, (real, fake), upstream, create_graph=True, allow_unused=True)
        first.append([torch.zeros_like(t) if g is None else g for g, t in zip(grads, (real, fake), strict=True)])
    for a, b in zip([*got, *first[1]], [*expected, *first[0]], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    second = []
    for grads in first:
        total = sum(
            (g * torch.linspace(1, -1, g.numel(), dtype=g.dtype, device=g.device).view(g.shape)).sum() for g in grads
        )
        if not total.requires_grad:
            second.append([torch.zeros_like(t) for t in (real, fake)])
            continue
        found = torch.autograd.grad(total, (real, fake), allow_unused=True)
        second.append([torch.zeros_like(t) if g is None else g for g, t in zip(found, (real, fake), strict=True)])
    for a, b in zip(second[1], second[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("player", "kind", "smoothing"), list(cases()))
def test_gan_loss_of_a_list_is_the_mean_over_its_members(player, kind, smoothing, target):
    shapes = ((2, 1, 5, 3), (7,), (1,))
    members = [pair(s, s, target) for s in shapes]
    real, fake = ([m[i] for m in members] for i in range(2))
    for reduction in ("mean", "sum"):
        options = {"reduction": reduction, "backend": target.backend}
        together = loss_of(player, kind, smoothing, real, fake, **options)
        each = [loss_of(player, kind, smoothing, r, f, **options) for r, f in zip(real, fake, strict=True)]
        torch.testing.assert_close(together, sum(each) / 3)
        inputs = [t for t in (*real, *fake)]
        ours = torch.autograd.grad(together, inputs, allow_unused=True)
        theirs = torch.autograd.grad(sum(each) / 3, inputs, allow_unused=True)
        for a, b in zip(ours, theirs, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b)
    terms = loss_of(player, kind, smoothing, real, fake, reduction="none", backend=target.backend)
    assert isinstance(terms, list) and len(terms) == 3
    for many, r, f in zip(terms, real, fake, strict=True):
        alone = loss_of(player, kind, smoothing, r, f, reduction="none", backend=target.backend)
        for a, b in zip(flat(many), flat(alone), strict=True):
            assert torch.equal(a, b)


@each_kind
def test_gan_loss_of_nothing(kind, target):
    """With "sum" 0, its gradient empty, its statistics NaN; an empty member beside a full one counts as 0."""
    real, fake = pair((0, 3), (0, 3), target, torch.float32)
    loss, stats = discriminator_loss(
        real=real, fake=fake, kind=kind, reduction="sum", return_stats=True, backend=target.backend
    )
    assert loss.item() == 0 and all(s.isnan() for s in stats)
    assert [g.shape for g in torch.autograd.grad(loss, (real, fake))] == [(0, 3)] * 2
    full = pair((4,), (4,), target, torch.float32)
    both = discriminator_loss(
        real=[real, full[0]], fake=[fake, full[1]], kind=kind, reduction="sum", backend=target.backend
    )
    alone = discriminator_loss(real=full[0], fake=full[1], kind=kind, reduction="sum", backend=target.backend)
    torch.testing.assert_close(both, alone / 2)


@each_dtype
def test_gan_loss_at_ties_and_hinge_points_has_the_derivative_of_relu(dtype, target):
    """On the point, one step of the dtype below it and one above."""
    one = torch.ones((), dtype=dtype)
    points = torch.stack([torch.nextafter(one, 0 * one), one, torch.nextafter(one, 2 * one)]).to(target.device)
    real, fake = points.clone().requires_grad_(), (-points).clone().requires_grad_()
    loss = discriminator_loss(real=real, fake=fake, kind="hinge", reduction="sum", backend=target.backend)
    grads = torch.autograd.grad(loss, (real, fake))
    assert grads[0].tolist() == [-1, 0, 0] and grads[1].tolist() == [1, 0, 0]
    ties = torch.zeros(5, dtype=dtype, device=target.device, requires_grad=True)
    loss = discriminator_loss(
        real=ties, fake=ties.detach(), kind="relativistic", reduction="sum", backend=target.backend
    )
    assert torch.autograd.grad(loss, ties)[0].tolist() == [-0.5] * 5


@pytest.mark.parametrize(("player", "kind", "smoothing"), list(cases()))
@each_dtype
def test_gan_loss_at_extreme_logits_is_finite_and_right(player, kind, smoothing, dtype, target):
    """+-1e4 in every dtype; -103 .. 103 crosses the subnormal numbers."""
    if target.slow and dtype not in (torch.float32, torch.float16):
        pytest.skip("two dtypes are enough for Triton's interpreter")
    values = torch.tensor([-1e4, -103.0, -88.0, -20.0, 0.0, 20.0, 88.0, 103.0, 1e4]).to(dtype)
    real, fake = (t.to(target.device).requires_grad_() for t in (values, values.flip(0).clone()))
    wide = [t.detach().double().cpu().requires_grad_() for t in (real, fake)]
    result = flat(loss_of(player, kind, smoothing, real, fake, reduction="none", backend=target.backend))
    terms = terms_of(player, kind, smoothing, *wide)
    for got, expected in zip(result, terms, strict=True):
        assert got.dtype == compute_dtype(dtype) and got.isfinite().all()
        torch.testing.assert_close(got.detach().double().cpu(), expected.detach(), rtol=3e-6, atol=1e-44)
    used = [i for i, t in enumerate(wide) if kind in RELATIVISTIC or player == "discriminator" or i == 1]
    grads = torch.autograd.grad(sum(t.sum() for t in result), [(real, fake)[i] for i in used])
    truth = torch.autograd.grad(sum(t.sum() for t in terms), [wide[i] for i in used])
    eps = torch.finfo(dtype).eps
    for got, expected in zip(grads, truth, strict=True):
        assert got.dtype == dtype and got.isfinite().all()
        tiny = 4 * torch.finfo(dtype).tiny * eps  # torch.sigmoid has no subnormal results
        torch.testing.assert_close(
            got.double().cpu(), expected, rtol=max(3e-6, 2 * eps), atol=tiny + 1e-6 * (kind in RELATIVISTIC)
        )


def test_gan_loss_passes_nan_and_infinity_on(target):
    values = torch.tensor([math.inf, -math.inf, math.nan], device=target.device)
    for kind in ("nonsaturating", "hinge", "minimax"):
        real, fake = discriminator_loss(real=values, fake=values, kind=kind, reduction="none", backend=target.backend)
        assert real[0] == 0 and real[1] == math.inf and real[2].isnan()
        assert fake[0] == math.inf and fake[1] == 0 and fake[2].isnan()
    x = values.clone().requires_grad_()
    loss = discriminator_loss(real=x, fake=values[:1], label_smoothing=0.1, reduction="none", backend=target.backend)[0]
    assert loss[0] == math.inf and loss[1] == math.inf
    (grad,) = torch.autograd.grad(loss.sum(), x)
    assert grad[0] == pytest.approx(0.1) and grad[1] == pytest.approx(-0.9) and grad[2].isnan()


def test_generator_gradients_are_those_of_the_notes(target):
    """The saturating loss learns nothing from bad samples, the non-saturating one everything."""
    at = torch.tensor([-20.0, -10.0, -5.0, 0.0, 5.0], device=target.device, requires_grad=True)
    exact = torch.sigmoid(at.detach().double())
    for kind, expected in (("minimax", -exact), ("nonsaturating", exact - 1)):
        loss = generator_loss(fake=at, kind=kind, reduction="sum", backend=target.backend)
        (grad,) = torch.autograd.grad(loss, at)
        torch.testing.assert_close(grad.double(), expected, rtol=1e-6, atol=0)
    rounded = [2e-9, 5e-5, 0.0067, 0.5, 0.99]
    torch.testing.assert_close(exact.cpu(), torch.tensor(rounded).double(), rtol=0.1, atol=0)


@pytest.mark.parametrize("target", FAST, ids=str)
def test_discriminator_at_its_optimum_gives_the_jensen_shannon_divergence(target):
    """min_D of E_p sp(-D) + E_q sp(D) is log 4 - 2 JS(p, q), at D = log p / q."""
    p = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64)
    q = torch.tensor([0.125, 0.125, 0.25, 0.5], dtype=torch.float64)
    counts = (8 * p).long(), (8 * q).long()
    log_ratio = (p / q).log()
    real, fake = (torch.repeat_interleave(log_ratio, n).to(target.device).requires_grad_() for n in counts)
    loss = discriminator_loss(real=real, fake=fake, kind="minimax", backend=target.backend)
    mixture = (p + q) / 2
    js = 0.5 * ((p * (p / mixture).log()).sum() + (q * (q / mixture).log()).sum())
    assert -loss.item() == pytest.approx(-math.log(4) + 2 * js.item(), abs=1e-14)
    grads = torch.autograd.grad(loss, (real, fake))
    for value in log_ratio.unique():  # at the optimum every state's two pulls cancel
        pulls = [g[t == value].sum().item() for g, t in zip(grads, (real, fake), strict=True)]
        assert sum(pulls) == pytest.approx(0, abs=1e-15)


@each_kind
def test_stats_come_from_the_same_pass(kind, target):
    real, fake = pair((2049,), (2049,) if kind == "relativistic" else (3, 5), target, torch.float32)
    loss, stats = discriminator_loss(real=real, fake=fake, kind=kind, return_stats=True, backend=target.backend)
    assert torch.equal(loss, discriminator_loss(real=real, fake=fake, kind=kind, backend=target.backend))
    assert isinstance(stats, GanStats) and all(s.dim() == 0 and not s.requires_grad for s in stats)
    r, f = real.detach().double(), fake.detach().double()
    at = {"least_squares": 0.5}.get(kind, 0.0)
    right = {
        "relativistic": lambda: (r > f, r > f),
        "relativistic_average": lambda: (r > f.mean(), f < r.mean()),
    }.get(kind, lambda: (r > at, f < at))()
    expected = [r.mean(), f.mean(), *(t.double().mean() for t in right)]
    for got, truth in zip(stats, expected, strict=True):
        torch.testing.assert_close(got.double(), truth, rtol=1e-5, atol=1e-6)
    assert loss.requires_grad
    loss.backward()


@each_kind
def test_accuracies_do_not_count_logits_on_the_boundary(kind, target):
    at = 0.5 if kind == "least_squares" else 0.0
    real = torch.full((21,), at, device=target.device)
    fake = real.clone()
    real[:6] += torch.tensor((1.0, -1.0, 2.0, -2.0, 3.0, -3.0), device=target.device)  # their mean stays
    if kind != "relativistic":
        fake[:2] += torch.tensor((1.0, -1.0), device=target.device)
    _, stats = discriminator_loss(real=real, fake=fake, kind=kind, return_stats=True, backend=target.backend)
    assert stats.real_accuracy.item() == pytest.approx(3 / 21)
    assert stats.fake_accuracy.item() == pytest.approx((3 if kind == "relativistic" else 1) / 21)


def test_stats_of_a_list_and_beside_terms(target):
    members = [pair((6,), (9,), target, torch.float32), pair((5, 2), (3,), target, torch.float32)]
    real, fake = ([m[i] for m in members] for i in range(2))
    (first, second), stats = discriminator_loss(
        real=real, fake=fake, reduction="none", return_stats=True, backend=target.backend
    )
    assert first[0].shape == (6,) and first[1].shape == (9,) and second[0].shape == (5, 2)
    torch.testing.assert_close(stats.real_mean, (real[0].mean() + real[1].mean()).detach() / 2)
    torch.testing.assert_close(stats.fake_accuracy, sum((t < 0).float().mean() for t in fake) / 2)


@pytest.mark.parametrize("target", FAST, ids=str)
def test_gan_loss_upstream_zero_gives_zero_and_unused_terms_too(target):
    real, fake = pair((9,), (7,), target, torch.float32)
    loss = discriminator_loss(real=real, fake=fake, backend=target.backend)
    assert not any(g.any() for g in torch.autograd.grad(loss, (real, fake), torch.zeros_like(loss)))
    terms = discriminator_loss(
        real=real, fake=fake, kind="relativistic_average", reduction="none", backend=target.backend
    )
    only_real = torch.autograd.grad(terms[0].sum(), (real, fake))
    expected = torch.autograd.grad(F.softplus(-(real - fake.mean())).sum(), (real, fake))
    for a, b in zip(only_real, expected, strict=True):
        torch.testing.assert_close(a, b)


@each_kind
def test_terms_that_nothing_uses_send_no_nan_back(kind, target):
    """The gradient to unused terms is exactly 0, whatever the logits: 0 times the slope at NaN would be NaN."""
    (good_real, good_fake), (bad_real, bad_fake) = (pair((6,), (6,), target, torch.float32) for _ in range(2))
    with torch.no_grad():
        bad_real[2], bad_fake[3] = math.nan, math.inf
    options = {"kind": kind, "reduction": "none", "backend": target.backend}
    used, _ = discriminator_loss(real=[good_real, bad_real], fake=[good_fake, bad_fake], **options)
    upstream = [torch.ones_like(t) for t in flat(used)]
    grads = torch.autograd.grad(flat(used), (good_real, good_fake, bad_real, bad_fake), upstream)
    assert all(g.isfinite().all() for g in grads) and not grads[2].any() and not grads[3].any()
    if kind in RELATIVISTIC:
        return
    real_terms, _ = discriminator_loss(real=good_real, fake=bad_fake, **options)
    grads = torch.autograd.grad(real_terms.sum(), (good_real, bad_fake))
    assert grads[0].any() and not grads[1].any()


def test_large_gan_loss_repeats_and_is_exact():
    real, fake = torch.randn(300_007) * 3, torch.randn(150_001) * 3
    for kind in ("nonsaturating", "hinge", "relativistic_average"):
        expected = sum(t.mean() for t in discriminator_terms(real.double(), fake.double(), kind))
        values = set()
        for count in (1, 2, 3):
            with threads(count):
                values.add(discriminator_loss(real=real, fake=fake, kind=kind).item())
        assert len(values) == 1
        assert values.pop() == pytest.approx(expected.item(), rel=2e-7)


# Presets and the module
