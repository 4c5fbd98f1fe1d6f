"""am_softmax beyond what the generic tests ask of every op."""

import math

import am_softmax_parts
import pytest
import torch
import torch.nn.functional as F
from registry import OPS
from rows.am_softmax import tensors
from support import TARGETS, assert_same, fast_targets
from test_conformance import check_against_truth

from pygen import nn as pnn
from pygen.functional import am_softmax
from pygen.ops import _am_softmax, _products

OP = next(op for op in OPS if op.name == "am_softmax")
TRITON = next((t for t in TARGETS if t.backend == "triton"), None)


def given(n: int, features: int, classes: int, device: str, dtype: torch.dtype = torch.float32) -> tuple:
    t = tensors(n, features, classes)
    input, weight = (t[k].to(dtype=dtype, device=device).requires_grad_() for k in ("input", "weight"))
    return input, weight, t["target"].to(device)


@fast_targets
def test_am_softmax_is_cross_entropy_of_cosines(target):
    input, weight, classes = given(9, 6, 11, target.device, torch.float64)
    cosines = F.linear(F.normalize(input), F.normalize(weight))
    hot = F.one_hot(classes, 11).double()
    for margin in (0.0, 0.35, -0.1):
        expected = F.cross_entropy(20.0 * (cosines - margin * hot), classes)
        got = am_softmax(input, weight, classes, scale=20.0, margin=margin, backend=target.backend)
        torch.testing.assert_close(got, expected, rtol=1e-13, atol=1e-13)


@fast_targets
@pytest.mark.parametrize("angular_margin", (0.2, 0.5, 1.5))
def test_am_softmax_of_wider_angles_is_that_of_arcface(target, angular_margin):
    """Of few features: some angles would pass pi."""
    input, weight, classes = given(90, 2, 7, target.device, torch.float64)
    cosines = F.linear(F.normalize(input), F.normalize(weight))
    angles = cosines.acos()
    hot = F.one_hot(classes, 7).bool()
    past = angles + angular_margin >= torch.pi
    assert (past & hot).any() and (~past & hot).any()
    wider = torch.where(past, cosines - angular_margin * math.sin(angular_margin), (angles + angular_margin).cos())
    for margin in (0.0, 0.1):
        expected = F.cross_entropy(20.0 * (torch.where(hot, wider, cosines) - margin * hot.double()), classes)
        got = am_softmax(
            input, weight, classes, scale=20.0, margin=margin, angular_margin=angular_margin, backend=target.backend
        )
        torch.testing.assert_close(got, expected, rtol=1e-13, atol=1e-13)
        pairs = [torch.autograd.grad(loss, [input, weight], retain_graph=True) for loss in (got, expected)]
        torch.testing.assert_close(*pairs, rtol=1e-10, atol=1e-12)


@fast_targets
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_am_softmax_of_no_angle_has_the_gradients_of_the_other_classes(target, dtype):
    """Samples that are their classes' weights, or opposite to them: the slope of a wider angle's cosine is infinite at 0, and the
    target's part of a gradient points along its own vector."""
    weight = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(target.device)
    classes, hot = torch.arange(5, device=target.device), torch.eye(5, dtype=torch.bool, device=target.device)
    for sign, wider in ((1.0, math.cos(0.5)), (-1.0, -1 - 0.5 * math.sin(0.5))):
        leaves = [(factor * weight).to(dtype).requires_grad_() for factor in (sign, 1.0)]
        cosines = F.normalize(leaves[0].double()) @ F.normalize(leaves[1].double()).t()
        expected = F.cross_entropy(10.0 * torch.where(hot, wider, cosines), classes)
        got = am_softmax(*leaves, classes, scale=10.0, margin=0.0, angular_margin=0.5, backend=target.backend)
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=2e-3)
        pairs = [torch.autograd.grad(loss, leaves) for loss in (got, expected)]
        torch.testing.assert_close(*pairs, rtol=1e-2, atol=1e-3)


@fast_targets
def test_am_softmax_knows_directions_alone(target):
    """Lengths change nothing, and gradients are across their vectors."""
    input, weight, classes = given(9, 6, 11, target.device, torch.float64)
    loss = am_softmax(input, weight, classes, backend=target.backend)
    for grad, t in zip(torch.autograd.grad(loss, [input, weight]), (input, weight), strict=True):
        assert (grad * t).sum(1).abs().max() < 1e-13 * grad.abs().max()
    other = am_softmax(3 * input, weight / 7, classes, backend=target.backend)
    torch.testing.assert_close(other, loss, rtol=1e-13, atol=0)


@fast_targets
def test_am_softmax_of_vectors_without_a_direction(target):
    """Cosines are 0, and gradients those of F.normalize: over 1e-12."""
    input, weight, classes = given(4, 3, 5, target.device, torch.float64)
    with torch.no_grad():
        input[1], weight[2] = 0, 0
        input[3] *= 1e-13  # shorter than what counts as a length
    cosines = F.linear(F.normalize(input), F.normalize(weight))
    expected = F.cross_entropy(30.0 * (cosines - 0.35 * F.one_hot(classes, 5).double()), classes)
    got = am_softmax(input, weight, classes, backend=target.backend)
    torch.testing.assert_close(got, expected, rtol=1e-13, atol=0)
    pairs = zip(torch.autograd.grad(got, [input, weight]), torch.autograd.grad(expected, [input, weight]), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


@fast_targets
@pytest.mark.parametrize("reduction", ("none", "sum", "batchmean"))
def test_am_softmax_of_some_samples_at_a_time_is_the_same(target, reduction, monkeypatch):
    input, weight, classes = given(70, 5, 50, target.device)
    seen = []

    def run():
        options = {"reduction": reduction, "angular_margin": 0.3, "backend": target.backend}
        nll = am_softmax(input, weight, classes, **options)
        return nll, *torch.autograd.grad(nll.sum(), [input, weight])

    whole = run()
    monkeypatch.setattr(_am_softmax, "_LEAST_SAMPLES", 16)
    monkeypatch.setattr(_am_softmax, "_PRODUCTS_AT_ONCE", {"cpu": 50 * 32, "cuda": 50 * 32})
    monkeypatch.setattr(_products, "_RUN", 20)
    at_once = _am_softmax.samples_at_once(50, target.device)
    monkeypatch.setattr(_am_softmax, "samples_at_once", lambda *a: seen.append(at_once) or at_once)
    parts = run()
    assert at_once == 32 and (seen or target.backend == "reference")
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


@fast_targets
def test_am_softmax_holds_no_matrix_of_logits(target):
    """Backward of a sum makes nothing anew, and only what it hands out is held."""
    if target.backend == "reference":
        pytest.skip("plain PyTorch makes them")
    input, weight, classes = given(40, 4, 300, target.device)
    loss = am_softmax(input, weight, classes, backend=target.backend)
    held = [t for t in loss.grad_fn.ready if t is not None]
    assert [tuple(t.shape) for t in held] == [(40, 4), (300, 4)]
    first = torch.autograd.grad(loss, [input, weight], retain_graph=True)
    assert not loss.grad_fn.ready
    for a, b in zip(first, torch.autograd.grad(loss, [input, weight]), strict=True):  # made anew
        assert_same(a, b)


@fast_targets
def test_am_softmax_of_frozen_weights_or_samples(target):
    input, weight, classes = given(12, 4, 9, target.device)
    expected = torch.autograd.grad(am_softmax(input, weight, classes, backend=target.backend), [input, weight])
    for wanted, given_ in ((0, (input, weight.detach())), (1, (input.detach(), weight))):
        loss = am_softmax(*given_, classes, backend=target.backend)
        (grad,) = torch.autograd.grad(loss, [given_[wanted]])
        assert_same(grad, expected[wanted])


@fast_targets
@pytest.mark.parametrize("classes", (16383, 16384, 16385, 16500, 32769))
def test_am_softmax_of_a_tile_of_classes_and_one_more_or_less(target, classes):
    if target.backend == "reference":
        pytest.skip("it has no tiles")
    input, weight, _ = given(4, 2, classes, target.device)
    where = torch.tensor([0, 16382, min(16384, classes - 1), classes - 1], device=target.device)
    t = {"input": input.detach(), "weight": weight.detach(), "target": where}
    check_against_truth(OP, t, {"reduction": "none", "scale": 8.0}, target.backend)
    t["input"][:, 0], t["weight"][:16384, 0] = t["input"][:, 0].abs() + 9, -t["weight"][:16384, 0].abs() - 9
    t["weight"][16384:] *= -t["weight"][16384:, :1].sign()
    t["weight"][16385:, 0] += 9  # the largest logit comes in the last tile, and the first one's are far below
    check_against_truth(OP, t, {"reduction": "none", "scale": 8.0}, target.backend)


@fast_targets
def test_am_softmax_of_a_target_that_is_no_class(target):
    input, weight, classes = given(4, 3, 5, target.device)
    for wrong in (-1, 5):
        classes[2] = wrong
        if target.device == "cpu":
            with pytest.raises(ValueError, match=r"target: expected classes 0 .. 4, got"):
                am_softmax(input, weight, classes, backend=target.backend)
        else:
            nll = am_softmax(input, weight, classes, reduction="none", backend=target.backend)
            assert nll.isnan().tolist() == [False, False, True, False]


def test_am_softmax_module_trains_and_loads():
    torch.manual_seed(0)
    module = pnn.AMSoftmax(8, 10, scale=16.0)
    assert {k: tuple(v.shape) for k, v in module.state_dict().items()} == {"weight": (10, 8)}
    assert "8, 10, scale=16.0, margin=0.35" in repr(module)
    centres = F.normalize(torch.randn(10, 8))
    labels = torch.randint(10, (400,))
    points = centres[labels] + 0.2 * torch.randn(400, 8)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    first = module(points, labels).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = module(points, labels)
        loss.backward()
        optimizer.step()
    right = (F.linear(points, F.normalize(module.weight)).argmax(1) == labels).float().mean().item()
    assert loss.item() < 0.3 * first and right > 0.9
    with pytest.raises(ValueError, match=r"AMSoftmax: num_classes: expected an int >= 1, got 0"):
        pnn.AMSoftmax(8, 0)


@pytest.mark.slow
@pytest.mark.skipif(TRITON is None, reason="Triton runs neither here nor under its interpreter")
class TestTritonAmSoftmax:
    """Few rows: under the interpreter each takes milliseconds."""

    @pytest.mark.parametrize("more", (-1, 0, 1))
    def test_rows_of_a_block_of_classes_and_one_more_or_less(self, more):
        from pygen.kernels import _blocks, am_softmax

        am_softmax_parts.check_rows(am_softmax, 2 * _blocks.AM_SOFTMAX_CLASSES + more, torch.float32, TRITON.device)

    @pytest.mark.parametrize("more", (-1, 0, 1))
    def test_across_of_a_block_of_features_and_one_more_or_less(self, more):
        from pygen.kernels import _blocks, am_softmax

        am_softmax_parts.check_across(am_softmax, 2 * _blocks.AM_SOFTMAX_FEATURES + more, torch.bfloat16, TRITON.device)
