"""The noise-contrastive losses beyond what the generic tests ask of every op."""

import math

import pytest
import torch
import torch.nn.functional as F
from registry import OPS
from rows.noise_contrastive import LOSSES, tensors
from support import TARGETS, assert_same, fast_targets, threads
from test_conformance import check_against_truth

import pygen
from pygen import nn as pnn
from pygen.functional import nce_loss, negative_sampling_loss, noise_sample, noise_table, sampled_softmax_loss
from pygen.native import noise_contrastive as native
from pygen.ops import _noise_contrastive_autograd

OP = next(op for op in OPS if op.name == "nce_loss")
call = OP.call
each_kind = pytest.mark.parametrize("kind", LOSSES)


def given(n, features, classes, count, target, *, shared=False, dtype=torch.float64):
    t = {k: v.to(target.device) for k, v in tensors(n, features, classes, count, shared=shared).items()}
    t = {k: v.to(dtype) if v.is_floating_point() else v for k, v in t.items()}
    return t | {k: t[k].requires_grad_() for k in ("input", "weight", "bias")}


def gradients(t, options, target):
    loss = call(t, options | {"reduction": "sum"}, target.backend)[0]
    return loss, *torch.autograd.grad(loss, [t["input"], t["weight"], t["bias"]])


def doubled(t):
    """The same numbers in float64."""
    made = {k: v.detach().double() if v.is_floating_point() else v for k, v in t.items()}
    return made | {k: made[k].requires_grad_() for k in ("input", "weight", "bias")}


@fast_targets
def test_negative_sampling_is_binary_cross_entropy(target):
    """The formula of word2vec, whose code passes over a negative that is the target."""
    t = given(6, 5, 9, 4, target)
    x, w, b, classes, negatives = (t[k] for k in ("input", "weight", "bias", "target", "negatives"))
    assert (negatives == classes.unsqueeze(1)).any()
    own = (x * w[classes]).sum(1) + b[classes]
    others = torch.einsum("nd,nkd->nk", x, w[negatives]) + b[negatives]
    each = F.binary_cross_entropy_with_logits(others, torch.zeros_like(others), reduction="none")
    for hits in (True, False):
        counts = torch.ones_like(each) if not hits else (negatives != classes.unsqueeze(1)).to(each.dtype)
        expected = F.binary_cross_entropy_with_logits(own, torch.ones_like(own), reduction="none")
        expected = expected + (each * counts).sum(1)
        got = negative_sampling_loss(
            x, w, classes, negatives, bias=b, remove_accidental_hits=hits, reduction="none", backend=target.backend
        )
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@fast_targets
def test_sampled_softmax_of_all_classes_once_is_cross_entropy(target):
    """Equally likely noise, each other class drawn once: the correction is one number for all."""
    t = given(6, 5, 9, 1, target)
    x, w, b, classes = (t[k] for k in ("input", "weight", "bias", "target"))
    every = torch.arange(9, device=target.device)
    noise = noise_table(torch.ones(9, device=target.device))
    expected = F.cross_entropy(F.linear(x, w, b), classes)
    for negatives in (every, every.expand(6, 9)):
        got = sampled_softmax_loss(x, w, classes, negatives, bias=b, noise=noise, backend=target.backend)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@fast_targets
def test_nce_learns_the_log_partition_of_a_gaussian_energy(target):
    """Classes are points of a line, s(x) = -a x^2 / 2 - c; where the loss is least a = 1 and c = log sum exp(-x^2 / 2)."""
    points = torch.linspace(-4, 4, 33, dtype=torch.float64, device=target.device)
    weight = torch.stack((-(points**2) / 2, -torch.ones_like(points)), 1)
    log_z = torch.logsumexp(-(points**2) / 2, 0)
    data = (-(points**2) / 2 - log_z).exp()
    noise = noise_table((-points.abs()).exp(), power=1.0)  # not the data's law
    q = noise[:, 2].view(torch.float64).exp()
    assert abs(log_z.item() + math.log(0.25) - math.log(2 * math.pi) / 2) < 1e-3  # the points lie 1/4 apart
    pairs = torch.cartesian_prod(torch.arange(33), torch.arange(33)).to(target.device)
    law = (data[pairs[:, 0]] * q[pairs[:, 1]]).detach()  # of a target and its one negative
    theta = torch.tensor([0.5, 0.0], dtype=torch.float64, device=target.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([theta], lr=1, max_iter=60, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure():
        optimizer.zero_grad()
        options = {"noise": noise, "reduction": "none", "backend": target.backend}
        loss = nce_loss(theta.expand(len(pairs), 2), weight, pairs[:, 0], pairs[:, 1:], **options)
        total = (loss * law).sum()
        total.backward()
        return total

    optimizer.step(closure)
    torch.testing.assert_close(theta.detach(), torch.stack((torch.ones_like(log_z), log_z)), rtol=1e-5, atol=1e-5)


@fast_targets
@each_kind
def test_shared_negatives_are_those_of_each_sample(target, kind):
    t = given(7, 19, 11, 6, target, shared=True)
    own = t | {"negatives": t["negatives"].expand(7, 6)}
    for a, b in zip(*(gradients(s, {"kind": kind}, target) for s in (t, own)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@fast_targets
@each_kind
@pytest.mark.parametrize("shared", (False, True))
def test_classes_that_come_often_get_all_their_gradients(target, kind, shared):
    """One class in half of the places, more of it than a block of entries; no class that did not come gets any."""
    t = given(150, 5, 300, 4, target, shared=shared, dtype=torch.float32)
    t["negatives"].view(-1)[::2], t["target"][:100] = 7, 7
    _, _, grad_w, grad_b = gradients(t, {"kind": kind}, target)
    _, _, exact_w, exact_b = gradients(doubled(t), {"kind": kind, "backend": "reference"}, target)
    torch.testing.assert_close(grad_w, exact_w.float(), rtol=2e-6, atol=1e-5)
    torch.testing.assert_close(grad_b, exact_b.float(), rtol=2e-6, atol=1e-5)
    came = torch.cat((t["target"], t["negatives"].flatten())).unique()
    absent = torch.ones(300, dtype=torch.bool, device=target.device).index_fill_(0, came, False)
    assert not grad_w[absent].any() and not grad_b[absent].any() and absent.any()


@fast_targets
@each_kind
@pytest.mark.parametrize("shared", (False, True))
def test_sparse_gradients_are_the_dense_ones(target, kind, shared):
    t = given(9, 6, 50, 3, target, shared=shared)
    _, *dense = gradients(t, {"kind": kind}, target)
    _, grad_x, grad_w, grad_b = gradients(t, {"kind": kind, "sparse": True}, target)
    assert grad_w.is_sparse and grad_w.is_coalesced() and grad_w._nnz() < 50
    for a, b in zip((grad_x, grad_w.to_dense(), grad_b), dense, strict=True):
        assert_same(a, b)
    with torch.no_grad():
        assert (grad_w._indices().diff() > 0).all()  # sorted, each class once


@fast_targets
def test_sparse_gradients_train_by_sparse_adam(target):
    module = pnn.NegativeSamplingLoss(30, 4, num_negatives=3, sparse=True, backend=target.backend).to(target.device)
    optimizer = torch.optim.SparseAdam([module.weight], lr=0.1)
    x = torch.randn(8, 4, device=target.device)
    classes = torch.arange(8, device=target.device)
    before = module.weight.detach().clone()
    module.bias.requires_grad_(False)
    module(x, classes).backward()
    optimizer.step()
    assert (module.weight[:8] != before[:8]).all()


@fast_targets
def test_sparse_gradients_that_are_differentiated_again_are_dense(target):
    t = given(3, 2, 5, 2, target)
    loss = call(t, {"sparse": True}, target.backend)[0]
    (grad,) = torch.autograd.grad(loss, [t["weight"]], create_graph=True)
    assert grad.layout == torch.strided
    (twice,) = torch.autograd.grad(grad.square().sum(), [t["weight"]])
    assert twice.any()


def test_sparse_gradients_are_refused_where_calls_are_traced():
    t = given(3, 2, 5, 2, TARGETS[0])
    with pytest.raises(NotImplementedError, match=r"^nce_loss: sparse: not under torch.compile"):
        torch.func.grad(lambda w: call(t | {"weight": w}, {"sparse": True}, None)[0])(t["weight"].detach())


@fast_targets
@each_kind
def test_accidental_hits_count_or_do_not(target, kind):
    """Left out a negative that is the target changes nothing, whatever its number; by default only NCE counts it."""
    t = given(2, 3, 6, 2, target)
    t["negatives"] = torch.tensor([[4, 1], [0, 2]], device=target.device)
    t["target"] = torch.tensor([3, 0], device=target.device)
    losses = {}
    for hits in (None, True, False):
        options = {"kind": kind, "reduction": "none"} | ({} if hits is None else {"remove_accidental_hits": hits})
        losses[hits] = call(t, options, target.backend)[0].detach()
    assert losses[True][0] == losses[False][0] and losses[True][1] < losses[False][1]
    assert_same(losses[None], losses[kind != "nce"])
    all_hits = t | {"negatives": t["target"].unsqueeze(1).expand(2, 2)}
    loss, *_, grad_b = gradients(all_hits, {"kind": kind, "remove_accidental_hits": True}, target)
    if kind == "sampled_softmax":
        assert loss == 0 and not grad_b.any()
    else:
        assert grad_b[[0, 3]].ne(0).all() and grad_b.count_nonzero() == 2


@fast_targets
@pytest.mark.parametrize("kind", ("nce", "sampled_softmax"))
def test_noise_may_be_a_table_or_its_logarithms(target, kind):
    t = given(5, 4, 8, 3, target)
    table = noise_table(torch.arange(8.0, device=target.device))  # class 0 never comes
    log_q = table[:, 2].view(torch.float64)
    assert log_q[0] == -math.inf
    t["target"], t["negatives"] = t["target"].clamp(1), t["negatives"].clamp(1)
    for a, b in zip(*(gradients(t | {"noise": n}, {"kind": kind}, target) for n in (table, log_q)), strict=True):
        assert_same(a, b)


@fast_targets
def test_nce_of_a_class_that_noise_never_gives(target):
    """As a target it is data for certain, and costs nothing."""
    t = given(3, 2, 4, 2, target) | {"noise": noise_table(torch.tensor([0.0, 1, 1, 1], device=target.device))}
    t["target"], t["negatives"] = t["target"] * 0, t["negatives"].clamp(1)
    loss, *grads = gradients(t, {}, target)
    assert loss.isfinite() and all(g.isfinite().all() for g in grads)
    assert not grads[1][0].any()


@fast_targets
@each_kind
@pytest.mark.parametrize("scale", (30.0, 3000.0))
def test_large_scores_keep_their_digits(target, kind, scale):
    t = given(6, 3, 7, 4, target, dtype=torch.float32)
    t["input"] = (scale * t["input"].detach()).requires_grad_()
    loss, *grads = gradients(t, {"kind": kind}, target)
    exact, *_ = gradients(doubled(t), {"kind": kind, "backend": "reference"}, target)
    assert all(g.isfinite().all() for g in grads)
    torch.testing.assert_close(loss, exact.float(), rtol=1e-5, atol=1e-6)


@fast_targets
@pytest.mark.parametrize("shared", (False, True))
def test_drawn_negatives_are_those_of_noise_sample(target, shared):
    t = given(5, 4, 50, 1, target)
    table = noise_table(torch.arange(1.0, 51, device=target.device))
    x, w, classes = t["input"], t["weight"], t["target"]
    options = {"noise": table, "backend": target.backend}
    drawn = nce_loss(x, w, classes, num_negatives=7, shared=shared, seed=11, **options)
    negatives = noise_sample(table, 7 if shared else (5, 7), seed=11, backend=target.backend)
    assert_same(drawn, nce_loss(x, w, classes, negatives, **options))
    torch.manual_seed(3)
    one = [nce_loss(x, w, classes, num_negatives=7, shared=shared, **options) for _ in range(2)]
    torch.manual_seed(3)
    assert_same(one[0], nce_loss(x, w, classes, num_negatives=7, shared=shared, **options))
    assert one[0] != one[1]


@fast_targets
def test_a_class_that_is_none_is_refused_or_makes_nan(target):
    for name in ("target", "negatives"):
        for wrong in (-1, 5):
            t = given(4, 3, 5, 2, target)
            t[name].view(-1)[1 if name == "target" else 2] = wrong
            if target.device == "cpu":
                with pytest.raises(ValueError, match=rf"^nce_loss: {name}: expected classes 0 .. 4, got"):
                    call(t, {}, target.backend)
            elif target.backend != "reference":
                nll = call(t, {"reduction": "none"}, target.backend)[0]
                assert nll.isnan().tolist() == [False, True, False, False]


@pytest.mark.parametrize("wrong", ("target", "noise", "num_negatives", "reduction", "backend"))
def test_refusals_come_before_anything_is_drawn(wrong):
    x, w = torch.randn(4, 3), torch.randn(5, 3)
    valid = {"target": torch.zeros(4).long(), "noise": noise_table(torch.ones(5)), "num_negatives": 2}
    given = {"target": torch.full((4,), 5), "noise": noise_table(torch.ones(4)), "num_negatives": 0}
    given |= {"reduction": "mean", "backend": "cuda"}
    before = torch.get_rng_state()
    with pytest.raises((ValueError, RuntimeError), match=f"^nce_loss: {wrong}"):
        nce_loss(x, w, **(valid | {wrong: given[wrong]}))
    assert_same(torch.get_rng_state(), before)


@fast_targets
@pytest.mark.parametrize("shared", (False, True))
def test_gradients_repeat_at_any_thread_count(target, shared):
    """Of sizes that all threads work on, with classes that come in several blocks of entries."""
    t = given(300, 70, 40, 30, target, shared=shared, dtype=torch.float32)
    results = []
    for count in (1, 4):
        with threads(count):
            results.append(gradients(t, {}, target))
    for a, b in zip(*results, strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("make", (pnn.NegativeSamplingLoss, pnn.NCELoss, pnn.SampledSoftmaxLoss))
@pytest.mark.parametrize("shared", (False, True))
def test_modules_learn_which_class_follows(make, shared):
    """A class follows another; 60 steps suffice, and the table survives half() and a checkpoint."""
    torch.manual_seed(1)
    counts = torch.arange(1.0, 21)
    module = make(20, 8, counts, num_negatives=10, shared=shared)
    vectors = torch.nn.Embedding(20, 8)
    optimizer = torch.optim.Adam([*module.parameters(), *vectors.parameters()], 0.1)
    words = torch.arange(20).repeat(4)
    for _ in range(60):
        optimizer.zero_grad()
        module(vectors(words), (words * 7 + 3) % 20).backward()
        optimizer.step()
    scores = F.linear(vectors(words[:20]), module.weight, module.bias)
    assert (scores.argmax(1) == (words[:20] * 7 + 3) % 20).float().mean() > 0.9
    assert_same(module.half().noise, noise_table(counts))
    fresh = make(20, 8, num_negatives=10, shared=shared).half()
    fresh.load_state_dict(module.state_dict())
    assert_same(fresh.noise, module.noise)
    with pytest.raises(ValueError, match=r"num_negatives: expected an int >= 1, got 0"):
        make(20, 8, num_negatives=0)
    with pytest.raises(ValueError, match=r"counts: expected \[20\], of num_classes, got \[5\]"):
        make(20, 8, counts[:5], num_negatives=1)


@pytest.mark.skipif(pygen.backends()["cpu"] is not None, reason="the C++ kernels are not here")
@pytest.mark.parametrize("classes", (1, 2, 2048, 2049, 5_000_000))
def test_order_of_many_classes_is_a_stable_sort(classes):
    """Digits of 11 bits: one, two and three of them."""
    g = torch.Generator().manual_seed(0)
    entries = torch.randint(classes, (3000,), generator=g)
    entries[::7] = classes - 1
    for a, b in zip(native.order(entries, classes), torch.sort(entries, stable=True), strict=True):
        assert_same(a, b)


TRITON = next((t for t in TARGETS if t.backend == "triton"), None)


@pytest.mark.slow
@pytest.mark.skipif(TRITON is None, reason="Triton runs neither here nor under its interpreter")
class TestTritonNoiseContrastive:
    @pytest.mark.parametrize("name", ("odd everything", "softmax", "shared softmax"))
    def test_blocks_that_hold_a_part_are_right(self, name, monkeypatch):
        """Several blocks of classes, of features and of a class's entries."""
        from pygen.kernels import _blocks

        small = {"CLASSES": 4, "FEATURES": 32, "SHARED_CLASSES": 32, "ENTRIES": 2}
        for block, size in small.items():
            monkeypatch.setattr(_blocks, f"CONTRAST_{block}", size)
        sample = OP.sample(name)
        check_against_truth(OP, sample.cast(torch.float32, TRITON.device), sample.options, "triton")

    def test_a_class_that_is_none_makes_nan(self, monkeypatch):
        """Nothing is looked at to see it; its rows are not read, and its gradients not written."""
        monkeypatch.setattr(_noise_contrastive_autograd, "check_level_values", lambda *args: None)
        for name, place, wrong in (("target", 1, 5), ("target", 1, -1), ("negatives", (1, 1), 1 << 40)):
            t = given(4, 3, 5, 2, TRITON)
            good = call(t, {"reduction": "none"}, "triton")[0].detach()
            t[name][place] = wrong
            nll = call(t, {"reduction": "none"}, "triton")[0]
            assert nll.isnan().tolist() == [False, True, False, False]
            others = torch.tensor([0, 2, 3], device=TRITON.device)
            assert_same(nll[others].detach(), good[others])
            (grad,) = torch.autograd.grad(nll[others].sum(), [t["input"]])
            assert grad[others].isfinite().all()
