"""nade_nll on every backend: normalisation, closed forms, data between the levels, what must not leak or drift, sizes."""

import itertools
import math

import pytest
import test_conformance as conformance
import test_conformance_autograd as autograd
import torch
import torch.nn.functional as F
from registry import leaves
from rows.nade_nll import PARAMETERS, ROWS, SOFT, levels, tensors
from support import (
    DTYPES,
    Target,
    assert_accurate,
    assert_same,
    dtype_name,
    fast_targets,
    instruction_set,
    isas,
    threads,
)

from pygen import _dispatch
from pygen.functional import nade_nll
from pygen.nn import NADENLL
from pygen.reference import nade_nll as reference

pytestmark = pytest.mark.usefixtures("poisoned")
op = ROWS[0]


def given(n, inputs, hidden, target, dtype=torch.float32, x=None):
    t = tensors(n, inputs, hidden, x)
    return {k: v.to(target.device, dtype if v.is_floating_point() else None) for k, v in t.items()}


def nll_and_grads(t, target, reduction="none", weights=None):
    marked, inputs = leaves(op, t)
    nll = nade_nll(**marked, reduction=reduction, backend=target.backend)
    weights = torch.ones_like(nll) if weights is None else weights
    return nll.detach(), dict(zip(PARAMETERS, torch.autograd.grad(nll, inputs, weights), strict=True))


def all_binary(inputs):
    return torch.tensor(list(itertools.product((0, 1), repeat=inputs)), dtype=torch.uint8)


@fast_targets
@pytest.mark.parametrize("inputs", (9, 12))
def test_chances_of_all_data_sum_to_one(target, inputs):
    x = all_binary(inputs)
    for dtype, close in ((torch.float64, 1e-12), (torch.float32, 3e-6)):
        t = {k: 4 * v if k in PARAMETERS else v for k, v in given(len(x), inputs, 20, target, dtype, x).items()}
        nll = nade_nll(**t, reduction="none", backend=target.backend)
        assert nll.double().neg().exp().sum().item() == pytest.approx(1, abs=close)


def test_one_input_and_two_by_hand(target):
    t = {k: v.to(target.device) for k, v in tensors(2, 2, 1, torch.tensor([[0, 1], [1, 1]])).items()}
    numbers = {
        "weight": [[0.75], [9.0]],
        "hidden_bias": [-0.5],
        "output_weight": [[2.0], [-3.0]],
        "output_bias": [0.25, 1.0],
    }
    t |= {k: torch.tensor(v, dtype=torch.float64, device=target.device) for k, v in numbers.items()}
    nll = nade_nll(**t, reduction="none", backend=target.backend)

    def sigmoid(y):
        return 1 / (1 + math.exp(-y))

    first = sigmoid(0.25 + 2 * sigmoid(-0.5))
    expected = [(1 - first) * sigmoid(1 - 3 * sigmoid(-0.5)), first * sigmoid(1 - 3 * sigmoid(0.25))]
    assert nll.neg().exp().tolist() == pytest.approx(expected, rel=1e-14)


def test_the_form_by_cumulated_sums_is_the_same(target):
    """As people write it to avoid the loop, [N, D, H] in memory."""
    t = given(5, 9, 6, target, torch.float64)
    w, c, v, b = (t[k] for k in PARAMETERS)
    x = t["input"].double()
    a = c + F.pad(torch.cumsum(x.unsqueeze(2) * w, 1), (0, 0, 1, 0))[:, :-1]
    logits = (a.sigmoid() * v).sum(2) + b
    expected = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    torch.testing.assert_close(nade_nll(**t, reduction="none", backend=target.backend), expected, rtol=1e-12, atol=0)


# Data between the levels


@pytest.mark.parametrize("sample", SOFT.samples(), ids=lambda s: s.name)
def test_soft_data_and_its_gradient(sample, target):
    for dtype in DTYPES if not target.slow else (torch.float32,):
        if sample.small and (not target.slow or sample.name == "odd everything"):
            conformance.check_against_truth(SOFT, sample.cast(dtype, target.device), sample.options, target.backend)


@fast_targets
def test_soft_data_under_autograd(target):
    autograd.test_every_subset_of_requires_grad(SOFT, target)
    autograd.test_gradcheck(SOFT, target)
    autograd.test_gradgradcheck(SOFT, target)
    autograd.test_third_order_equals_the_composite(SOFT, target)


@fast_targets
@pytest.mark.parametrize("dtype", (torch.bool, torch.uint8, torch.int64, torch.float32), ids=dtype_name)
def test_levels_of_any_dtype_are_the_same(target, dtype):
    t = given(6, 10, 7, target)
    expected = nll_and_grads(t, target)
    got = nll_and_grads(t | {"input": t["input"].to(dtype)}, target)
    assert_same(got[0], expected[0])
    for name in PARAMETERS:
        assert_same(got[1][name], expected[1][name], what=name)


# What must not leak, stall or drift


@pytest.mark.parametrize("bad", (math.nan, math.inf))
@pytest.mark.parametrize("dtype", (torch.uint8, torch.float32), ids=dtype_name)
def test_weights_of_inputs_that_are_0_may_be_anything(target, bad, dtype):
    t = given(6, 9, 5, target)
    x = t["input"].clone()
    x[:, 4] = 0
    t["input"] = x.to(dtype)
    expected = nll_and_grads(t, target)
    sick = t | {"weight": t["weight"].clone()}
    sick["weight"][4] = bad
    sick["weight"][8] = bad  # the last row feeds nothing
    nll, grads = nll_and_grads(sick, target)
    assert_same(nll, expected[0])
    for name in PARAMETERS:
        assert_same(grads[name], expected[1][name], what=name)
    assert not grads["weight"][[4, 8]].any()


def test_one_nan_stays_in_its_sample_and_behind_its_input(target):
    t = given(6, 9, 5, target)
    t["input"] = levels(6, 9).to(target.device)
    t["input"][:, 3] = 0
    t["input"][2, 3] = 1
    t["weight"][3, 1] = math.nan
    nll, grads = nll_and_grads(t, target)
    assert nll.isnan().tolist() == [False, False, True, False, False, False]
    assert grads["output_weight"][:4].isfinite().all() and grads["output_weight"][4:].isnan().all()
    assert grads["output_bias"][:4].isfinite().all() and grads["output_bias"][4:].isnan().all()


@fast_targets
@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16), ids=dtype_name)
def test_sums_over_many_inputs_do_not_stall_in_16_bits(target, dtype):
    """In bfloat16 1 + 1/512 is 1, however often it is added."""
    t = given(2, 600, 3, target, dtype, torch.ones(2, 600, dtype=torch.uint8))
    t["weight"][:], t["hidden_bias"][:] = 2**-9, 1
    exact = op.truth(t, {"reduction": "none"})[0]
    got = nade_nll(**t, reduction="none", backend=target.backend)
    torch.testing.assert_close(got.double().cpu(), exact, rtol=1e-5, atol=0)


def test_backward_finds_the_units_of_forward_again(target):
    """Subtracted from what it was added to, a weight of 10^7 would take the bias with it."""
    t = given(3, 5, 2, target, x=torch.tensor([[1, 1, 0, 1, 0]] * 3))
    t["weight"][:] = 0
    t["weight"][0], t["weight"][1] = 1e7, -1e7
    t["hidden_bias"][:] = 0.3
    _, grads = nll_and_grads(t, target)
    slope = torch.sigmoid(t["output_bias"][0] + torch.sigmoid(t["hidden_bias"][0]) * t["output_weight"][0].sum()) - 1
    expected = (3 * slope * torch.sigmoid(t["hidden_bias"])).cpu()
    torch.testing.assert_close(grads["output_weight"][0].cpu(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("bad", (2, -1, 255))
def test_wrong_levels(target, bad):
    t = given(3, 4, 2, target, x=levels(3, 4, torch.int64))
    t["input"][1, 2] = bad
    if target.device == "cpu":
        with pytest.raises(ValueError, match=r"nade_nll: input: expected levels 0 .. 1, got"):
            nade_nll(**t, backend=target.backend)
    logits = _dispatch.launcher("nade_nll", "nade_nll", target.backend, t["weight"]).forward(
        t["input"], *(t[k] for k in PARAMETERS)
    )
    assert logits[[0, 2]].isfinite().all() and logits[1, :3].isfinite().all() and logits[1, 3].isnan()


# Blocks of samples, tiles of units, segments of inputs

SIZES = ((1, 1, 1), (3, 2, 15), (4, 3, 16), (5, 4, 17), (16, 5, 63), (17, 10, 64), (65, 17, 65), (129, 26, 1))


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_blocks_and_vectors_of_each_instruction_set(isa, size):
    t = tensors(*size)
    with instruction_set(isa):
        narrow = {k: v.float() if k in PARAMETERS else v for k, v in t.items()}
        conformance.check_against_truth(op, narrow, {"reduction": "batchmean"}, "cpu")
        nll, grads = nll_and_grads(t, Target("cpu", "cpu"), "sum")
    exact, exact_grads = nll_and_grads(t, Target("reference", "cpu"), "sum")
    torch.testing.assert_close((nll, grads), (exact, exact_grads), rtol=1e-12, atol=1e-13 * len(t["input"]))


@pytest.mark.parametrize("sizes", [(0, 4), (4, -1), ("4", 4), (4, 4.0), (True, 4)], ids=str)
def test_module_refuses_sizes(sizes):
    with pytest.raises(ValueError, match=r"NADENLL: (num_inputs|hidden_size): expected an int >= 1, got"):
        NADENLL(*sizes)


@pytest.mark.skipif(not isas(), reason="the C++ module did not load")
def test_a_sample_depends_on_no_other_and_nothing_on_threads():
    """To the last bit; of gradients, that of a sum over samples, on threads alone."""
    t = {k: v.float() if v.is_floating_point() else v for k, v in tensors(37, 21, 53).items()}
    logits = [t[k] for k in PARAMETERS]
    launcher = _dispatch.launcher("nade_nll", "nade_nll", "cpu", t["weight"])
    results = []
    for count in (1, 2, 3, 8):
        with threads(count):
            whole = launcher.forward(t["input"], *logits)
            for n in (1, 2, 5, 18):
                assert_same(launcher.forward(t["input"][:n], *logits), whole[:n], what=f"{n} of 37")
            grads = launcher.backward(whole, t["input"], *logits[:3], (False, True, True, True, True))
            results.append((whole, *grads[1:]))
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            assert_same(a, b)


@pytest.mark.skipif(not isas(), reason="the C++ module did not load")
def test_long_sums_over_samples_keep_their_digits():
    """Of one sign, added one after the other 10^4 terms would lose two digits."""
    n = 10_000
    t = {k: v.float() if v.is_floating_point() else v for k, v in tensors(n, 2, 3).items()}
    g = torch.full((n, 2), 0.1)
    needs = (False, True, True, True, True)
    args = (t["input"], t["weight"], t["hidden_bias"], t["output_weight"])
    got = _dispatch.launcher("nade_nll", "nade_nll", "cpu", t["weight"]).backward(g, *args, needs)
    exact = reference.backward(g.double(), *(a.double() if a.is_floating_point() else a for a in args), needs)
    for a, b in zip(got[1:4], exact[1:4], strict=True):
        assert_accurate(a, b, b.float())
