"""logistic_mixture_nll on every backend: closed forms, normalisation, tails and floors, layouts of levels, wrong levels."""

import itertools

import layouts
import pytest
import torch
from registry import leaves
from rows.logistic_mixture_nll import ROWS, tensors
from support import DTYPES, assert_accurate, assert_same, dtype_name, fast_targets, instruction_set, isas
from test_logistic_mixture_reference import exact

from pygen import _dispatch
from pygen.functional import logistic_mixture_nll
from pygen.reference import logistic_mixture_nll as reference

pytestmark = pytest.mark.usefixtures("poisoned")
op = ROWS[0]


def component(means, log_scales, dtype=torch.float64, device="cpu"):
    """One component of one channel a position, [1, 3, T]."""
    means, log_scales = torch.broadcast_tensors(*map(torch.atleast_1d, map(torch.as_tensor, (means, log_scales))))
    return torch.stack((torch.zeros_like(means), means, log_scales)).to(dtype=dtype, device=device).unsqueeze(0)


def nll_of(levels, means, log_scales, target, num_levels=256, dtype=torch.float64):
    """-log p of each level in a logistic of its own."""
    p = component(means, log_scales, dtype, target.device)
    x = torch.as_tensor(levels, device=target.device).expand(p.shape[2])
    return logistic_mixture_nll(
        p[0].t().reshape(-1, 3), x.reshape(-1, 1), num_levels=num_levels, reduction="none", backend=target.backend
    )


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=dtype_name)
def test_logistic_closed_forms(target, dtype):
    levels, expected = torch.tensor([191, 191, 0, 1]), [1090.1826, 55.33158, 38.08375, 4.314179]
    means, scales = torch.tensor([-0.5, -0.5, 0.9, -1.0]), torch.tensor([-7.0, -4.0, -3.0, -7.0])
    assert nll_of(levels, means, scales, target, dtype=dtype).tolist() == pytest.approx(expected, rel=4e-7)


@fast_targets
@pytest.mark.parametrize("num_levels", (2, 5, 256, 65536))
def test_logistic_is_that_of_1800_digits(target, num_levels):
    cases = list(
        itertools.product(
            sorted({0, 1, num_levels // 2, num_levels - 1}), (-2.5, -1.0, 0.0, 0.125, 1.0), (-7.0, -2.0, 0.5, 14.0)
        )
    )
    levels, means, scales = (torch.tensor(c) for c in zip(*cases, strict=True))
    truth = torch.tensor([-float(exact(*case, num_levels)) for case in cases], dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        got = nll_of(levels, means, scales, target, num_levels, dtype).double().cpu()
        # A level's place is good to an eps, and s divides it.
        close = 8 * torch.finfo(dtype).eps * (truth + (1 + means.abs()) * torch.exp(-scales.double()) + 8)
        assert ((got - truth).abs() <= close).all(), f"off by {((got - truth).abs() / close).max():.1f}"


@fast_targets
def test_logistic_mixture_of_256_levels_sums_to_one(target):
    for dtype, close in ((torch.float64, 1e-13), (torch.float32, 2e-6)):
        t = tensors(1, 1, 5, ())
        p = t["params"].to(dtype=dtype, device=target.device).expand(256, -1)
        x = torch.arange(256, dtype=torch.uint8, device=target.device).unsqueeze(1)
        nll = logistic_mixture_nll(p, x, reduction="none", backend=target.backend)
        assert nll.double().neg().exp().sum().item() == pytest.approx(1, abs=close)


def test_logistic_mixture_of_all_colours_sums_to_one(target):
    """8 levels cubed: only if each channel is coupled to those before it alone, by values and not by means."""
    colours = torch.tensor(list(itertools.product(range(8), repeat=3)), device=target.device)
    p = tensors(1, 3, 4, ())["params"].to(target.device)
    nll = logistic_mixture_nll(p.expand(512, -1), colours, num_levels=8, reduction="none", backend=target.backend)
    assert nll.neg().exp().sum().item() == pytest.approx(1, abs=1e-13)


# What the rule of support.py cannot judge: where rounding a level's place moves the answer.


def sharp(count, log_scale, num_levels, dtype, channels=3):
    """Components narrower than their levels' distance from them; [count, P] and levels."""
    g = torch.Generator().manual_seed(4)
    p = torch.randn(count, 3 if channels == 1 else 10, generator=g)
    for c in range(channels):
        p[:, (2 if channels == 1 else 2 + 3 * c)] = log_scale
    x = torch.randint(num_levels, (count, channels), generator=g)
    x[:3], x[3:6] = 0, num_levels - 1
    return p.to(dtype), x


@fast_targets
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64, torch.bfloat16), ids=dtype_name)
@pytest.mark.parametrize(
    ("log_scale", "num_levels"), [(-7, 256), (-7, 2), (-7, 20), (-4.5, 256), (-2, 65536), (9, 256), (60, 3)]
)
def test_gradients_of_sharp_and_of_flat_components(target, dtype, log_scale, num_levels):
    """Finite, and within the last bits of a level's place of the closed form in float64 (of rounded parameters)."""
    p, x = sharp(200, log_scale, num_levels, dtype)
    leaf = p.to(target.device).requires_grad_()
    nll = logistic_mixture_nll(
        leaf, x.to(target.device), num_levels=num_levels, reduction="none", backend=target.backend
    )
    (grad,) = torch.autograd.grad(nll.sum(), leaf)
    ones = torch.ones(200, dtype=torch.float64)
    exactly = p.double()
    ref = reference.forward(exactly, x, num_levels, -7.0, "none")
    ref_grad = reference.backward(ones, exactly, x, num_levels, -7.0, "none")
    eps = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    inverse = torch.exp(-exactly[:, [2, 5, 8]].clamp(min=-7)).amax(1)
    place = eps * 4 * (inverse + 1)  # of a and b, in units of which the gradients move by no more than themselves
    assert nll.isfinite().all() and grad.isfinite().all()
    assert ((nll.double().cpu() - ref).abs() <= 8 * place * 4 + 16 * eps * ref.abs()).all()
    own = torch.finfo(dtype).eps * ref_grad.abs() if dtype == torch.bfloat16 else 0
    size = 1 + inverse.unsqueeze(1) + ref_grad.abs()
    assert ((grad.double().cpu() - ref_grad).abs() <= 8 * place.unsqueeze(1) * size + 32 * eps * size + own).all()


def test_gradient_of_sharp_components_under_16_bits_stays_in_its_dtype(target):
    p, x = sharp(40, -7, 256, torch.float16)
    leaf = p.to(target.device).requires_grad_()
    nll = logistic_mixture_nll(leaf, x.to(target.device), backend=target.backend)
    (grad,) = torch.autograd.grad(nll, leaf)
    assert nll.dtype == torch.float32 and grad.dtype == torch.float16 and grad.isfinite().all()


def test_log_scale_floor(target):
    """On it the gradient flows, below it there is none; and the floor itself counts."""
    p = component(0.25, torch.tensor([-7.5, -7.0, -6.5]), device=target.device).requires_grad_()
    x = torch.full((1, 1, 3), 160, device=target.device)
    nll = logistic_mixture_nll(p, x, backend=target.backend)
    (grad,) = torch.autograd.grad(nll, p)
    assert grad[0, 2].ne(0).tolist() == [False, True, True]
    floored = p.detach().clamp(min=-7.0)
    assert_same(nll.detach(), logistic_mixture_nll(floored, x, backend=target.backend))
    assert nll != logistic_mixture_nll(p, x, min_log_scale=-8.0, backend=target.backend)


@fast_targets
@pytest.mark.parametrize("kind", ("sigmoids", "density"))
def test_tails_are_neither_sigmoids_difference_nor_density(target, kind):
    """What people fall back to beyond 1e-5 (the density at a bin's centre times its width) is off by a fortieth here."""
    value = nll_of(191, -0.5, -7.0, target, dtype=torch.float32).item()
    a, b = ((191 + side) * 2 / 255 - 1 + 0.5 for side in (0.5, -0.5))
    inverse = torch.tensor(1096.6332)
    if kind == "sigmoids":
        assert (torch.sigmoid(a * inverse) - torch.sigmoid(b * inverse)) == 0
    else:
        u = (a + b) / 2 * inverse
        density = -(-u - torch.nn.functional.softplus(-u) * 2 + 7 + torch.log(torch.tensor(2 / 255)))
        assert abs(density.item() - value) > 2
    assert value == pytest.approx(1090.1826, rel=4e-7)


# Levels as tensors


@fast_targets
@pytest.mark.parametrize("dtype", (torch.uint8, torch.int64), ids=dtype_name)
def test_levels_in_any_layout_give_the_same(target, dtype):
    t = tensors(3, 3, 4, (6, 5))
    p = t["params"].float().to(target.device)
    x = t["x"].to(dtype=dtype, device=target.device)
    expected = logistic_mixture_nll(p, x, reduction="none", backend=target.backend)
    for maker in layouts.WRITABLE:
        assert_same(
            logistic_mixture_nll(p, maker(x), reduction="none", backend=target.backend), expected, what=maker.__name__
        )
    one = x[:, :, :1, :1].expand(x.shape)
    assert_same(
        logistic_mixture_nll(p, one, reduction="none", backend=target.backend),
        logistic_mixture_nll(p, one.contiguous(), reduction="none", backend=target.backend),
    )


@fast_targets
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 2), (1, 1, 2, 2)], ids=str)
def test_positions_of_any_number_of_dims_are_one_after_the_other(target, shape):
    t = {k: v.to(target.device) for k, v in tensors(2, 3, 2, shape).items()}
    got = logistic_mixture_nll(**t, reduction="none", backend=target.backend)
    flat = {k: v.reshape(2, v.shape[1], -1) for k, v in t.items()}
    torch.testing.assert_close(
        logistic_mixture_nll(**flat, reduction="none", backend=target.backend), got, rtol=0, atol=0
    )
    total = sum(logistic_mixture_nll(**{k: v[..., i] for k, v in flat.items()}, reduction="none", backend=target.backend)
                for i in range(flat["x"].shape[2]))  # fmt: skip
    torch.testing.assert_close(total, got, rtol=1e-12, atol=0)


def test_reductions_are_sums_of_the_samples(target):
    t = {k: v.to(target.device) for k, v in tensors(5, 3, 2, (3,)).items()}
    each = logistic_mixture_nll(**t, reduction="none", backend=target.backend)
    total = logistic_mixture_nll(**t, reduction="sum", backend=target.backend)
    mean = logistic_mixture_nll(**t, backend=target.backend)
    torch.testing.assert_close(total, each.sum(), rtol=1e-14, atol=0)
    torch.testing.assert_close(mean, each.sum() / 5, rtol=1e-14, atol=0)
    nothing = {k: v[:0] for k, v in t.items()}
    assert logistic_mixture_nll(**nothing, reduction="sum", backend=target.backend) == 0
    assert logistic_mixture_nll(**nothing, backend=target.backend).isnan()
    assert logistic_mixture_nll(**nothing, reduction="none", backend=target.backend).shape == (0,)


@fast_targets
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=dtype_name)
def test_a_row_does_not_depend_on_its_batch(target, dtype):
    t = {
        k: (v.to(dtype) if v.is_floating_point() else v).to(target.device)
        for k, v in tensors(9, 3, 2, (13, 11)).items()
    }
    whole = logistic_mixture_nll(**t, reduction="none", backend=target.backend)
    part = logistic_mixture_nll(**{k: v[4:6] for k, v in t.items()}, reduction="none", backend=target.backend)
    if target.backend == "reference":  # vectorised PyTorch rounds its tails otherwise
        torch.testing.assert_close(part, whole[4:6])
    else:
        assert_same(part, whole[4:6])


@fast_targets
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_one_nan_or_infinity_stays_in_its_pixel_and_its_row(target, dtype):
    t = {
        k: (v.to(dtype) if v.is_floating_point() else v).to(target.device) for k, v in tensors(3, 3, 2, (7, 5)).items()
    }
    for row, bad in ((0, float("nan")), (3, float("nan")), (5, float("nan")), (6, float("nan")), (1, float("inf"))):
        leaf = t["params"].clone().requires_grad_()
        with torch.no_grad():
            leaf[1, row, 4, 3] = bad
        nll = logistic_mixture_nll(leaf, t["x"], reduction="none", backend=target.backend)
        (grad,) = torch.autograd.grad(nll.sum(), leaf)
        assert nll[1].isnan() and nll[[0, 2]].isfinite().all()
        wrong = grad.isnan().any(1)
        assert wrong[1, 4, 3] and wrong.sum() == 1


@pytest.mark.parametrize("levels", (5, 256))
@pytest.mark.parametrize("dtype", (torch.uint8, torch.int64), ids=dtype_name)
def test_wrong_levels_raise_on_a_cpu(levels, dtype):
    t = tensors(2, 3, 2, (3, 2), levels, dtype)
    wrongs = [v for v in (levels, 255, -1, 2**40) if dtype == torch.int64 or levels <= v <= 255]
    for wrong in wrongs:
        if wrong == 255 and levels == 256:
            continue
        x = t["x"].clone()
        x[1, 2, 0, 1] = wrong
        for params in (t["params"], t["params"].clone().requires_grad_()):
            with pytest.raises(ValueError, match=rf"x: expected levels 0 .. {levels - 1}, got .*{wrong}"):
                logistic_mixture_nll(params, x, num_levels=levels)
            with torch.device("cpu"), pytest.raises(ValueError, match="x: expected levels"):
                logistic_mixture_nll(params, x, num_levels=levels)
        fast = torch.compile(
            lambda p, x: logistic_mixture_nll(p, x, num_levels=levels), backend="eager", fullgraph=True
        )
        with pytest.raises(ValueError, match="x: expected levels"):
            fast(t["params"], x)


@fast_targets
def test_wrong_levels_below_the_check_are_nan(target):
    """As on a GPU, where nobody looks at them first."""
    t = {k: v.to(target.device) for k, v in tensors(4, 3, 2, (5,), dtype=torch.int64).items()}
    x = t["x"].clone()
    x[0, 0, 4], x[2, 1, 0], x[3, 2, 3] = -1, 256, 2**62
    launcher = _dispatch.launcher(op.name, op.name, target.backend, t["params"])
    nll = launcher.forward(t["params"], x, 256, -7.0, "none")
    assert nll.isnan().tolist() == [True, False, True, True]
    grad = launcher.backward(torch.ones_like(nll), t["params"], x, 256, -7.0, "none")
    wrong = grad.isnan().all(1)
    assert wrong.nonzero().tolist() == [[0, 4], [2, 0], [3, 3]] and not grad.isnan().any(1)[~wrong].any()


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("positions", (1, 3, 15, 16, 17, 127, 128, 129, 300))
def test_blocks_and_vectors_of_each_instruction_set(isa, positions):
    """Whole vectors, one pixel more and one less; whole blocks of pixels; rows of images and images of rows."""
    for n, dtype in ((1, torch.float32), (5, torch.bfloat16)):
        sample = tensors(n, 1, 2, (positions,))
        t = {"params": sample["params"].to(dtype), "x": sample["x"]}
        marked, inputs = leaves(op, t)
        with instruction_set(isa):
            nll = logistic_mixture_nll(**marked, reduction="none", backend="cpu")
            (grad,) = torch.autograd.grad(nll, inputs, torch.linspace(-1, 1, n))
        for wide in (torch.float64, torch.float32):
            p = t["params"].to(wide).requires_grad_()
            ref = reference.forward(p, t["x"], 256, -7.0, "none")
            (ref_grad,) = torch.autograd.grad(ref, p, torch.linspace(-1, 1, n, dtype=wide))
            if wide == torch.float64:
                truth, truth_grad = ref.detach(), ref_grad
        assert_accurate(nll.detach(), truth, ref.detach())
        assert_accurate(grad, truth_grad, ref_grad.to(dtype), dtype=dtype)


def test_vmap_runs_over_levels_too():
    t = tensors(3, 3, 2, (2, 2))
    stacked = {k: torch.stack((v, v.flip(0))) for k, v in t.items()}
    got = torch.func.vmap(lambda p, x: logistic_mixture_nll(p, x, reduction="none"))(*stacked.values())
    for i in range(2):
        each = logistic_mixture_nll(*(v[i] for v in stacked.values()), reduction="none")
        torch.testing.assert_close(got[i], each, rtol=1e-12, atol=1e-12)


@fast_targets
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_recording_gradients_changes_no_bit_and_neither_does_handing_them_out(target, dtype):
    """On a CPU forward makes the gradient for 1 and backward scales it, or of 16 bits makes it anew: as backward alone would."""
    t = tensors(3, 3, 4, (5, 7))
    params, x = t["params"].to(dtype).to(target.device), t["x"].to(target.device)
    for reduction, weight in (("none", (1.0, 1.0, 1.0)), ("none", (0.3, -1.0, 0.0)), ("batchmean", 1.0), ("sum", -0.7)):
        leaf = params.clone().requires_grad_()
        nll = logistic_mixture_nll(leaf, x, reduction=reduction, backend=target.backend)
        plain = logistic_mixture_nll(params, x, reduction=reduction, backend=target.backend)
        assert_same(nll.detach(), plain)
        upstream = torch.tensor(weight, dtype=nll.dtype, device=target.device)
        got = [torch.autograd.grad(nll, leaf, upstream, retain_graph=True)[0] for _ in range(2)]
        alone = _dispatch.launcher(op.name, op.name, target.backend, params).backward(
            upstream, params, x, 256, -7.0, reduction
        )
        for grad in got:
            assert_same(grad, alone, what=f"{reduction} {weight}")
        got[0].zero_()  # whoever has it may change it
        assert_same(torch.autograd.grad(nll, leaf, upstream)[0], alone)


@fast_targets
def test_an_edge_beside_the_mean_keeps_its_digits(target):
    """Bins as wide as a third of the image, five scales from the mean to the edge and hundreds to the bin's middle."""
    mean, log_scale = torch.tensor([-0.495, -0.505, 0.485], dtype=torch.float32), torch.tensor([-7.0])
    levels = torch.tensor([0, 1, 2])
    truth = [-float(exact(level, m, -7.0, 3)) for level, m in zip((0, 1, 2), mean.tolist(), strict=True)]
    got = nll_of(levels, mean, log_scale, target, 3, torch.float32)
    for value, expected in zip(got.tolist(), truth, strict=True):
        assert value == pytest.approx(expected, rel=5e-7, abs=3e-7)
