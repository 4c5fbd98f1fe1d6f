"""The linear-chain CRF on every backend: enumeration, impossible paths, lengths, decoding, marginals, what is kept."""

import itertools
import math

import pytest
import torch
from registry import leaves
from rows.crf import ROWS, log_z, score, tensors
from support import assert_same, dtype_name, fast_targets, instruction_set, isas, threads
from test_conformance import check_against_truth

import pygen
from pygen.functional import crf_decode, crf_log_partition, crf_marginals, crf_nll
from pygen.reference import crf as reference

pytestmark = pytest.mark.usefixtures("poisoned")
NLL = ROWS[1]
FLOATING = ("emissions", "transitions", "start", "end")


def on(target, t, dtype=torch.float64):
    return {k: v.to(target.device, dtype if v.is_floating_point() else None) for k, v in t.items()}


def without_tags(t):
    return {k: v for k, v in t.items() if k != "tags"}


def paths(t, n):
    """The scores of all taggings of sequence n, and these, in lexical order."""
    length, k = int(t["lengths"][n]), t["emissions"].shape[2]
    taggings = list(itertools.product(range(k), repeat=length))
    one = {name: v[n : n + 1] if name in ("emissions", "lengths") else v for name, v in t.items()}
    tags = torch.zeros(len(taggings), t["emissions"].shape[1], dtype=torch.int64)
    tags[:, :length] = torch.tensor(taggings, dtype=torch.int64).view(len(taggings), length)
    one = {
        name: v.expand(len(tags), *v.shape[1:]) if name in ("emissions", "lengths") else v for name, v in one.items()
    }
    return score({**one, "tags": tags}), tags[:, :length]


def small(steps=4, k=3, wide=1.0):
    """Lengths 4, 1, 3, 0, 2 of 5 sequences."""
    return tensors(5, steps, k, wide=wide)


# Against all K^L taggings


@pytest.mark.parametrize("wide", (1.0, 300.0), ids=("scaled", "logarithms"))
@pytest.mark.parametrize(("steps", "k"), [(4, 3), (6, 2), (3, 4)], ids=str)
def test_enumeration(target, steps, k, wide):
    if target.slow and steps != 4:
        pytest.skip("one size is enough for Triton's interpreter")
    t = tensors(4, steps, k, wide=wide)
    given = on(target, without_tags(t))
    z = crf_log_partition(**given, backend=target.backend)
    chances = crf_marginals(**given, backend=target.backend).cpu()
    tags, best = crf_decode(**given, backend=target.backend)
    for n, length in enumerate(t["lengths"].tolist()):
        scores, taggings = paths(t, n)
        total = scores.logsumexp(0) if length else torch.zeros((), dtype=torch.float64)
        assert z[n].item() == pytest.approx(total.item(), rel=1e-13, abs=1e-13)
        assert not chances[n, length:].any() and (tags[n, length:] == -1).all()
        if not length:
            assert best[n] == 0
            continue
        p = (scores - total).exp()
        for step, j in itertools.product(range(length), range(k)):
            assert chances[n, step, j].item() == pytest.approx(p[taggings[:, step] == j].sum().item(), abs=2e-12)
        assert tags[n, :length].tolist() == taggings[scores.argmax()].tolist()
        assert best[n].item() == pytest.approx(scores.max().item(), rel=1e-13)


@fast_targets
def test_chances_of_all_taggings_sum_to_one(target):
    t = small()
    scores, taggings = paths(t, 0)
    given = {k: v[:1].expand(len(scores), *v.shape[1:]) if k in ("emissions", "lengths") else v for k, v in t.items()}
    nll = crf_nll(**on(target, {**given, "tags": taggings}, torch.float32), reduction="none", backend=target.backend)
    assert nll.double().neg().exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_marginals_are_the_gradient_of_log_z_and_differentiable(target):
    t = on(target, without_tags(small()))
    marked, inputs = leaves(ROWS[0], t)
    z = crf_log_partition(**marked, backend=target.backend)
    (expected,) = torch.autograd.grad(z.sum(), marked["emissions"])
    chances = crf_marginals(**marked, backend=target.backend)
    assert_same(chances.detach(), expected)
    assert_same(crf_marginals(**t, backend=target.backend), expected)
    weight = torch.linspace(-1, 2, chances.numel(), dtype=torch.float64, device=target.device).view(chances.shape)
    got = torch.autograd.grad((chances * weight).sum(), inputs)
    truth, leaf = leaves(ROWS[0], {k: v.cpu() for k, v in t.items()})
    (first,) = torch.autograd.grad(log_z(truth).sum(), truth["emissions"], create_graph=True)
    for a, b in zip(got, torch.autograd.grad((first * weight.cpu()).sum(), leaf), strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-11, atol=1e-12)


# What cannot come


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64, torch.bfloat16), ids=dtype_name)
def test_impossible_transitions_emissions_and_ends(target, dtype):
    """As if they were 200 below, where those are exact zeros too; gradients there are exactly 0."""
    if target.slow and dtype != torch.float32:
        pytest.skip("one dtype is enough for Triton's interpreter")
    t = tensors(5, 4, 4, lengths=False)
    none = {
        "transitions": [(0, 1), (2, 2), (3, 0)],
        "start": [(2,)],
        "end": [(1,)],
        "emissions": [(0, 1, 3), (4, 0, 0)],
    }
    results = []
    for value in (-math.inf, -1e4):
        given = on(target, without_tags(t), dtype)
        for name, places in none.items():
            for place in places:
                given[name][place] = value
        marked, inputs = leaves(ROWS[0], given)
        z = crf_log_partition(**marked, backend=target.backend)
        grads = torch.autograd.grad(z.sum(), inputs)
        results.append([z.detach(), *grads])
        for name, grad in zip(FLOATING, grads, strict=True):
            assert all(grad[place] == 0 for place in none[name]) and grad.isfinite().all()
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6)


@pytest.mark.parametrize("where", ("emissions", "transitions", "start", "end"))
def test_where_nothing_can_come_log_z_is_minus_infinity_without_gradient(target, where):
    t = small()
    given = on(target, t, torch.float32)
    if where == "emissions":
        given[where][0, 2] = -math.inf
    else:
        given[where].fill_(-math.inf)
    dead = {"emissions": [0], "transitions": [0, 2, 4]}.get(where, [0, 1, 2, 4])
    live = [n for n in range(5) if n not in dead]
    marked, inputs = leaves(ROWS[0], without_tags(given))
    z = crf_log_partition(**marked, backend=target.backend)
    assert (z[dead] == -math.inf).all() and z[live].isfinite().all()
    grads = torch.autograd.grad(z[dead].sum(), inputs)
    assert not any(g.any() for g in grads)
    nll = crf_nll(**given, reduction="none", backend=target.backend)
    assert (nll[dead] == math.inf).all() and nll[live].isfinite().all()
    tags, best = crf_decode(**without_tags(given), backend=target.backend)
    assert (best[dead] == -math.inf).all() and ((tags >= 0).sum(1) == given["lengths"]).all()


@fast_targets
def test_tags_that_cannot_come_cost_infinity(target):
    given = on(target, small(), torch.float32)
    a, b = given["tags"][0, 1:3].tolist()
    given["transitions"][a, b] = -math.inf
    nll = crf_nll(**given, reduction="none", backend=target.backend)
    assert nll[0] == math.inf and nll[3].isfinite()


# Where sums turn from scaled to logarithms


@fast_targets
@pytest.mark.parametrize("where", ("transitions", "end"))
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=dtype_name)
def test_both_sides_of_the_scaled_range(target, where, dtype):
    """A path that is worth nothing until its last step decides Z."""
    border = 40.0 if dtype == torch.float32 else 400.0
    for span in (0.0, border - 0.5, border, border + 1e-4, 10 * border):
        e = torch.zeros(1, 3, 2, dtype=torch.float64)
        e[0, :, 1] = -span  # as many nats worse at each step as one move can bring back
        given = {"emissions": e, "transitions": e.new_zeros(2, 2), "end": e.new_zeros(2)}
        given[where][..., 0] -= span
        if dtype == torch.float32:
            check_against_truth(ROWS[0], on(target, given, dtype), {}, target.backend)
            continue
        marked, inputs = leaves(ROWS[0], on(target, given))
        z = crf_log_partition(**marked, backend=target.backend)
        truth, leaf = leaves(ROWS[0], given)
        expected = torch.autograd.grad(log_z(truth).sum(), leaf)
        for a, b in zip(torch.autograd.grad(z.sum(), inputs), expected, strict=True):
            torch.testing.assert_close(a.cpu(), b, rtol=1e-12, atol=0)


@fast_targets
@pytest.mark.parametrize("range_", (39.0, 60.0))
def test_long_sequences_drift_nowhere(target, range_):
    """3000 steps, emissions of hundreds, transitions near the border: within a few ulp of float64's, and chances sum to 1."""
    if target.backend == "reference":
        pytest.skip("seconds of small operations, as the truth")
    g = torch.Generator().manual_seed(5)
    e = 300 * torch.rand(2, 3000, 5, generator=g) - 150
    a = range_ * torch.rand(5, 5, generator=g)
    a[0, 0], a[1, 1] = 0, range_
    z = crf_log_partition(e.to(target.device), a.to(target.device), backend=target.backend)
    truth = log_z({"emissions": e.double(), "transitions": a.double()})
    torch.testing.assert_close(z.cpu().double(), truth, rtol=3e-7, atol=0)
    total = crf_marginals(e.to(target.device), a.to(target.device), backend=target.backend).sum(2)
    assert (total - 1).abs().max() < 2e-6


# Lengths


def test_what_lies_past_the_length_is_not_read(target):
    given = on(target, small(), torch.float32)
    past = torch.arange(4, device=target.device) >= given["lengths"].unsqueeze(1)
    spoilt = {**given, "emissions": given["emissions"].masked_fill(past.unsqueeze(2), math.nan)}
    spoilt["tags"] = given["tags"].masked_fill(past, -100)
    results = []
    for t in (given, spoilt):
        marked, inputs = leaves(NLL, t)
        nll = crf_nll(**marked, reduction="none", backend=target.backend)
        results.append(
            [
                nll.detach(),
                *torch.autograd.grad(nll.sum(), inputs),
                *crf_decode(**without_tags(t), backend=target.backend),
            ]
        )
        slopes = torch.autograd.grad(crf_nll(**marked, backend=target.backend), inputs, create_graph=True)
        results[-1] += torch.autograd.grad(sum(g.square().sum() for g in slopes), inputs)
    for a, b in zip(*results, strict=True):
        assert_same(a, b)
    assert not results[0][1][past].any()
    for n, length in enumerate(given["lengths"].tolist()):
        if length:
            cut = {
                k: v[n : n + 1, :length] if k in ("emissions", "tags") else v
                for k, v in given.items()
                if k != "lengths"
            }
            nll = crf_nll(**cut, reduction="none", backend=target.backend)
            torch.testing.assert_close(nll[0], results[0][0][n], rtol=1e-6, atol=1e-6)


def test_wrong_lengths_and_tags_raise_on_a_cpu():
    t = {k: v.float() if v.is_floating_point() else v for k, v in small().items()}
    for name, place, value, expected in (
        ("lengths", 1, 5, r"lengths: expected 0 .. 4, got 0 .. 5"),
        ("lengths", 1, -1, r"lengths: expected 0 .. 4, got -1 .. 4"),
        ("tags", (0, 3), 3, r"tags: expected tags 0 .. 2, got 0 .. 3"),
        ("tags", (0, 0), -1, r"tags: expected tags 0 .. 2, got -1 .. 2"),
    ):
        bad = {**t, name: t[name].clone()}
        bad[name][place] = value
        with pytest.raises(ValueError, match=f"crf_nll: {expected}"):
            crf_nll(**bad)
        if name == "lengths":
            for function in (crf_log_partition, crf_marginals, crf_decode):
                with pytest.raises(ValueError, match=f"{function.__name__}: {expected}"):
                    function(**without_tags(bad))
    with pytest.raises(ValueError, match=r"tags: expected tags 0 .. 2"):
        crf_nll(t["emissions"], t["tags"] + 1, t["transitions"])


@pytest.mark.parametrize("wide", (1.0, 100.0), ids=("scaled", "logarithms"))
def test_below_the_check_wrong_ones_are_nan(target, wide):
    """As on a GPU, where to look would be to wait."""
    launcher = pygen._backends.load_launcher("crf", target.backend)
    t = on(target, small(wide=wide), torch.float32)
    t["lengths"][0], t["tags"][2, 1] = 5, 3
    given = [t.get(k) for k in (*FLOATING, "tags", "lengths")]
    nll = launcher.forward(*given, "none")
    assert nll[[0, 2]].isnan().all() and nll[[1, 3, 4]].isfinite().all()
    more = () if launcher is reference else (None,)
    grads = launcher.backward(torch.ones_like(nll), *given, "none", (True,) * 4, *more)
    assert grads[0][[1, 3, 4]].isfinite().all() and grads[0][0].isnan().all() and grads[0][2, :3].isnan().all()
    assert all(g.isnan().any() for g in grads[1:])
    tags, scores = launcher.decode(*given[:4], t["lengths"])
    assert scores.isnan().tolist() == [True] + 4 * [False] and ((tags >= 0).sum(1) == t["lengths"].clamp(max=4)).all()


# Decoding


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=dtype_name)
def test_equal_paths_give_the_lowest_tags_on_every_backend(target, dtype):
    g = torch.Generator().manual_seed(2)
    t = {
        "emissions": torch.randint(3, (19, 5, 4), generator=g).double(),
        "transitions": torch.randint(2, (4, 4), generator=g).double(),
        "lengths": torch.arange(19) % 6,
    }
    given = on(target, t, dtype)
    tags, scores = crf_decode(**given, backend=target.backend)
    expected = reference.decode(*(t.get(k) for k in FLOATING), t["lengths"])
    assert_same(tags.cpu(), expected[0])
    assert_same(scores.cpu(), expected[1].to(dtype))
    tied = 0
    for n in range(1, 6):
        scored, taggings = paths(t, n)
        best = [tuple(reversed(y)) for y in taggings[scored == scored.max()].tolist()]
        tied += len(best) > 1
        assert tuple(reversed(tags[n, :n].tolist())) == min(best)
    assert tied > 2


@fast_targets
@pytest.mark.parametrize("k", (1, 5, 31, 70))
def test_decode_is_the_reference_bit_for_bit(target, k):
    for n, steps in ((3, 7), (17, 40)):
        given = on(target, without_tags(tensors(n, steps, k)), torch.float32)
        got = crf_decode(**given, backend=target.backend)
        for a, b in zip(got, crf_decode(**given, backend="reference"), strict=True):
            assert_same(a, b)
        assert not got[1].requires_grad


# The compiled kernels' blocks


@pytest.mark.slow
@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("k", (2, 6, 7, 13, 24, 31, 65))
def test_blocks_of_sequences_and_of_tags_on_each_instruction_set(isa, k):
    with instruction_set(isa):
        for n in (15, 16, 17, 33):
            for dtype, wide in ((torch.float32, 1.0), (torch.float64, 1.0), (torch.float32, 15.0)):
                t = tensors(n, 6, k, wide=wide)
                given = {name: v.to(dtype) if v.is_floating_point() else v for name, v in t.items()}
                check_against_truth(NLL, given, {"reduction": "none"}, "cpu")


@pytest.mark.parametrize("steps", (17, 130))
def test_more_steps_than_a_chunk_takes(target, steps):
    if target.slow and steps > 100:
        pytest.skip("too large for Triton's interpreter")
    for wide in (1.0, 15.0):
        given = on(target, tensors(3, steps, 5, wide=wide), torch.float32)
        check_against_truth(NLL, given, {"reduction": "none"}, target.backend)


def test_many_groups_of_blocks_repeat_at_any_thread_count():
    t = {k: v.float() if v.is_floating_point() else v for k, v in tensors(16 * 70 + 3, 5, 3).items()}
    results = []
    for count in (1, 2, 3):
        with threads(count):
            marked, inputs = leaves(NLL, t)
            results.append(torch.autograd.grad(crf_nll(**marked, backend="cpu"), inputs))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert_same(a, b)
    marked, inputs = leaves(NLL, {k: v.double() if v.is_floating_point() else v for k, v in t.items()})
    truth = torch.autograd.grad(log_z(marked).mean() - score(marked).mean(), inputs)
    for a, b in zip(results[0], truth, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2e-5, atol=1e-7)
