"""affine_coupling: what is its own, beside what test_conformance_*.py tests of every op."""

import math

import pytest
import torch
from registry import OPS
from rows.affine_coupling import half_shape, live
from support import FAST_TARGETS, TARGETS, assert_same

from pygen.functional import affine_coupling

pytestmark = pytest.mark.usefixtures("poisoned")
NAN = float("nan")
OP = next(op for op in OPS if op.name == "affine_coupling")
SCALES = ({"scale": "exp"}, {"scale": "tanh", "bound": 1.5}, {"scale": "sigmoid"})
MASKS = ("channel", "checkerboard", "even_odd")
each_target = pytest.mark.parametrize("target", FAST_TARGETS, ids=str)
every_target = pytest.mark.parametrize("target", TARGETS, ids=str)
each_mask = pytest.mark.parametrize("mask", MASKS)


def given(shape, *, half=False, flip=False, dtype=torch.float64, device="cpu", seed=0):
    g = torch.Generator().manual_seed(seed)
    params = half_shape(shape, flip=flip) if half else shape
    return [torch.randn(s, generator=g, dtype=torch.float64).to(device, dtype) for s in (shape, params, params)]


@each_target
@each_mask
@pytest.mark.parametrize("scale", SCALES, ids=lambda s: s["scale"])
def test_affine_coupling_inverse_undoes_forward(target, mask, scale):
    """To 1e-12 in float64, and the two log-determinants cancel; in float32 to its rounding, as the scale magnifies it."""
    for shape in ((5, 7), (3, 5, 6, 4)) if mask != "checkerboard" else ((3, 5, 6, 4), (2, 3, 3)):
        for flip, half in ((False, False), (True, False), (True, mask != "checkerboard")):
            for dtype, most in ((torch.float64, 1e-12), (torch.float32, 2e-4)):
                x, t, s = given(shape, half=half, flip=flip, dtype=dtype, device=target.device)
                options = {"mask": mask, "flip": flip, "backend": target.backend, **scale}
                y, log_det = affine_coupling(x, t, s, **options)
                back, minus = affine_coupling(y, t, s, inverse=True, **options)
                assert (back - x).abs().max() < most and (log_det + minus).abs().max() < most
                assert log_det.abs().min() > 0.01 and (y - x).abs().max() > 0.1


@pytest.mark.parametrize("inverse", (False, True))
@each_target
@each_mask
def test_affine_coupling_log_det_is_that_of_the_jacobian(target, mask, inverse):
    """By autograd, the conditioner made of what passes: triangular, so its determinant is the transformed places' alone."""
    shape = (1, 4, 3, 2)
    x, a, b = given(shape, device=target.device)
    for scale in SCALES:
        for flip in (False, True):
            m = live(shape, mask, flip).to(target.device)

            def run(x, m=m, flip=flip, scale=scale):
                seen = torch.where(m, 0.0, x).flatten(1)
                mixed = torch.tanh(seen @ torch.sin(torch.arange(576.0, device=x.device, dtype=x.dtype)).view(24, 24))
                t, s = mixed.view(shape) + a, mixed.view(shape) * 0.7 + b
                options = {"mask": mask, "flip": flip, "inverse": inverse, "backend": target.backend, **scale}
                return affine_coupling(x, t, s, **options)

            jacobian = torch.autograd.functional.jacobian(lambda x, run=run: run(x)[0], x).view(24, 24)
            torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], run(x)[1][0], rtol=1e-10, atol=1e-10)


@every_target
def test_affine_coupling_half_parameters_equal_full_ones(target):
    for mask in ("channel", "even_odd"):
        for flip in (False, True):
            x, t, s = given((3, 5, 2, 3), half=True, flip=flip, dtype=torch.float32, device=target.device)
            index = live((1, 5), mask, flip)[0].nonzero()[:, 0].to(target.device)
            full = [torch.full_like(x, NAN).index_copy(1, index, p) for p in (t, s)]
            options = {"mask": mask, "flip": flip, "backend": target.backend}
            for a, b in zip(affine_coupling(x, t, s, **options), affine_coupling(x, *full, **options), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@every_target
@each_mask
@pytest.mark.parametrize("inverse", (False, True))
def test_affine_coupling_nan_at_passing_places_does_not_leak(target, mask, inverse):
    """Neither into values nor into gradients: theirs is exactly 0, and the output there is the input's own bits."""
    shape = (2, 5, 4, 3)
    x, t, s = given(shape, dtype=torch.float32, device=target.device)
    m = live(shape, mask, False).to(target.device)
    x[1, 0, 1, 0], x[1, 0, 0, 1] = -0.0, float("inf")
    x = torch.where(m & ~x.isfinite(), 0.5, x)
    poison = [torch.where(m, p, NAN).requires_grad_() for p in (t, s)]
    clean = [torch.where(m, p, 0.0).requires_grad_() for p in (t, s)]
    results = []
    for params in (poison, clean):
        leaf = x.clone().requires_grad_()
        y, log_det = affine_coupling(leaf, *params, mask=mask, inverse=inverse, backend=target.backend)
        results.append([y, log_det, *torch.autograd.grad((y, log_det), (leaf, *params), (torch.ones_like(y), log_det))])
    for a, b in zip(*results, strict=True):
        assert_same(a, b)
    y, log_det, _, grad_t, grad_s = results[0]
    passes = (~m).expand(shape)
    assert torch.equal(y[passes], x[passes]) and torch.equal(y[passes].signbit(), x[passes].signbit())
    assert log_det.isfinite().all() and (grad_t[passes] == 0).all() and (grad_s[passes] == 0).all()
    assert (grad_t[~passes] != 0).all()


@every_target
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@pytest.mark.parametrize("inverse", (False, True))
def test_affine_coupling_extreme_scales(target, dtype, inverse):
    """The policy: the result as rounded, infinite where it overflows, never NaN of finite arguments; 0 stays 0."""
    most = math.log(torch.finfo(dtype).max)
    tiny = torch.finfo(dtype).tiny
    scales = torch.tensor([1.5 * most, 3 * most, -1.5 * most, -3 * most], dtype=dtype, device=target.device)
    sign = -1.0 if inverse else 1.0
    for x in (0.0, 1.0, -2.5, tiny * 8):
        for s in (scales, sign * scales):
            full = torch.stack((torch.zeros_like(s), torch.full_like(s, x)), 1)
            t = torch.zeros_like(s)[:, None].requires_grad_()
            leaves = full.requires_grad_(), s[:, None].clone().requires_grad_()
            y, log_det = affine_coupling(leaves[0], t, leaves[1], inverse=inverse, backend=target.backend)
            truth = x * (sign * s.double()).clamp(-709, 709).exp() if dtype is torch.float32 else None
            assert not y.isnan().any() and torch.equal(log_det, sign * s)
            grew = sign * s > 0
            if x == 0.0:
                assert (y == 0).all()
            elif x == tiny * 8:
                near = s.abs() < 2 * most
                assert y[near & grew, 1].isfinite().all() and (y[near & grew, 1] > 0).all()
                if truth is not None:
                    torch.testing.assert_close(y[near & grew, 1].double(), truth[near & grew], rtol=3e-5, atol=0)
            else:
                assert y[grew, 1].isinf().all() and (y[~grew, 1] == 0).all()
            grads = torch.autograd.grad((y, log_det), (*leaves, t), (torch.full_like(y, 0.5), torch.ones_like(log_det)))
            assert not any(g.isnan().any() for g in grads)
            if x == 0.0:  # the log-determinant's own
                assert torch.equal(grads[1], torch.full_like(grads[1], sign))


@each_target
def test_affine_coupling_bounded_scales_invert_where_unbounded_ones_cannot(target):
    """Scales of e^30 leave no digit of x beside the shift; tanh and sigmoid keep the factor where digits survive."""
    x, t, _ = given((4, 8), half=True, dtype=torch.float32, device=target.device)
    s = torch.full_like(t, -30.0)
    errors = []
    for scale in ({"scale": "exp"}, {"scale": "tanh", "bound": 2.0}):
        y, _ = affine_coupling(x, t, s, backend=target.backend, **scale)
        back, _ = affine_coupling(y, t, s, inverse=True, backend=target.backend, **scale)
        assert back.isfinite().all()
        errors.append((back - x).abs().max().item())
    assert errors[0] > 0.1 and errors[1] < 1e-5


@every_target
@pytest.mark.parametrize("bound", (2.0, 40.0, 41.0, 160.0))
def test_affine_coupling_bounded_scales_keep_their_digits(target, bound):
    """Small ones, where 1 - e^-2a cancels; both sides of where the formula turns; and the bound itself, either way."""
    a = torch.cat((torch.logspace(-6, 0, 61), torch.tensor([0.349999, 0.35, 0.350001, 60.0, 1e3]))).repeat(2, 1)
    s = (bound * a * torch.tensor([[1.0], [-1.0]])).to(target.device)
    x, t = torch.full_like(s, math.exp(-80.0)), torch.zeros_like(s)
    for inverse in (False, True):
        one = [v.T.reshape(-1, 1) for v in (x, t, s)]  # a sample for each, whose log_det is its own f
        truth = [v.double().cpu().requires_grad_() for v in one]
        given = [v.requires_grad_() for v in one]
        options = {"flip": True, "scale": "tanh", "bound": bound, "inverse": inverse}
        ours = affine_coupling(*given, backend=target.backend, **options)
        exact = affine_coupling(*truth, backend="reference", **options)
        slopes = (torch.autograd.grad(out[1].sum(), s)[0] for out, s in ((ours, given[2]), (exact, truth[2])))
        for got, expected, rtol in (
            (ours[0], exact[0], 1e-6 + 1e-7 * bound),
            (ours[1], exact[1], 1e-6),
            (*slopes, 2e-6),
        ):
            seen = (expected.abs() > 1e-37) & (expected.abs() < 1e38)
            torch.testing.assert_close(got.detach().double().cpu()[seen], expected.detach()[seen], rtol=rtol, atol=0)


@each_target
def test_affine_coupling_dtypes_of_the_results(target):
    for dtype, sums in (
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float64, torch.float64),
    ):
        x, t, s = given((2, 6), half=True, dtype=dtype, device=target.device)
        y, log_det = affine_coupling(x, t, s, backend=target.backend)
        assert (y.dtype, log_det.dtype) == (dtype, sums)
        torch.testing.assert_close(log_det.double(), s.double().sum(1), rtol=1e-6, atol=1e-6)


@each_target
def test_affine_coupling_additive_keeps_nothing_for_backward(target):
    kept = []
    x, t, s = (p.requires_grad_() for p in given((4, 6), half=True, device=target.device))
    with torch.autograd.graph.saved_tensors_hooks(lambda p: kept.append(p) or p, lambda p: p):
        y, log_det = affine_coupling(x, t, backend=target.backend)
        assert kept == [] and torch.equal(log_det, torch.zeros_like(log_det))
        affine_coupling(x, t, s, backend=target.backend)
    assert {p.data_ptr() for p in kept} == {x.data_ptr(), s.data_ptr()}
    grads = torch.autograd.grad((y, log_det), (x, t), (torch.ones_like(y), torch.ones_like(log_det)))
    assert all((g == 1).all() for g in grads)


@every_target
def test_affine_coupling_of_a_log_det_alone(target):
    """Whose gradient does not depend on the input, infinite though that be."""
    for inverse in (False, True):
        x, t, s = given((4, 6), half=True, device=target.device)
        x[1, 4], t[2, 0], s[3, 1] = float("inf"), NAN, NAN
        x, t, s = (p.requires_grad_() for p in (x, t, s))
        _, log_det = affine_coupling(x, t, s, inverse=inverse, backend=target.backend)
        grads = torch.autograd.grad(log_det, (x, t, s), torch.arange(4.0, dtype=torch.float64, device=target.device))
        assert (grads[0] == 0).all() and (grads[1] == 0).all()
        expected = torch.arange(4.0, dtype=torch.float64, device=target.device)[:, None].expand(4, 3)
        assert torch.equal(grads[2], -expected if inverse else expected)


def test_affine_coupling_a_long_sample_is_summed_in_blocks_of_its_own():
    """Rows of several blocks, in any layout and at any batch: the same bits for the same sample."""
    x, t, s = OP.sample("blocks of 1024").cast(torch.float32).values()
    whole = affine_coupling(x, t, s, backend="cpu")
    alone = affine_coupling(x[1:2], t[1:2], s[1:2], backend="cpu")
    for a, b in zip(whole, alone, strict=True):
        assert_same(a[1:2], b)
    chunks = torch.cat((t, s), 1).chunk(2, 1)
    for a, b in zip(affine_coupling(x, *chunks, backend="cpu"), whole, strict=True):
        assert_same(a, b)
