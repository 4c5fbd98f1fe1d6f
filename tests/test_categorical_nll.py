"""categorical_nll on every backend: closed forms, normalisation, impossible and wrong levels, layouts, one pass and two."""

import math

import layouts
import pytest
import torch
import torch.nn.functional as F
from registry import leaves
from rows.categorical_nll import ROWS, tensors
from support import DTYPES, assert_accurate, assert_same, dtype_name, fast_targets, instruction_set, isas, threads

from pygen import _dispatch
from pygen.functional import categorical_nll
from pygen.reference import categorical_nll as reference

pytestmark = pytest.mark.usefixtures("poisoned")
op = ROWS[0]


def on(target, *given, dtype=torch.float32):
    return [t.to(target.device, dtype if t.is_floating_point() else None) for t in given]


def nll_and_grad(logits, x, target, reduction="none", weight=None):
    leaf = logits.clone().requires_grad_()
    nll = categorical_nll(leaf, x, reduction=reduction, backend=target.backend)
    (grad,) = torch.autograd.grad(nll, leaf, torch.ones_like(nll) if weight is None else weight)
    return nll.detach(), grad


def test_closed_forms(target):
    x, logits = on(target, torch.arange(3).unsqueeze(1), torch.tensor([[0.0, math.log(2), math.log(5)]]).expand(3, 3))
    nll, grad = nll_and_grad(logits, x, target)
    assert nll.tolist() == pytest.approx([math.log(8), math.log(4), math.log(8 / 5)], rel=3e-7)
    p = torch.tensor([1 / 8, 2 / 8, 5 / 8])
    torch.testing.assert_close(grad.cpu(), p.expand(3, 3) - torch.eye(3), rtol=1e-6, atol=1e-7)


@fast_targets
@pytest.mark.parametrize("levels", (2, 31, 32, 256, 300, 3000))
def test_chances_of_all_levels_sum_to_one(target, levels):
    for dtype, close in ((torch.float64, 1e-13), (torch.float32, 3e-6)):
        g = torch.Generator().manual_seed(1)
        logits, x = on(target, 3 * torch.randn(1, levels, generator=g), torch.arange(levels).unsqueeze(1), dtype=dtype)
        nll = categorical_nll(logits.expand(levels, -1), x, reduction="none", backend=target.backend)
        assert nll.double().neg().exp().sum().item() == pytest.approx(1, abs=close)


@fast_targets
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=dtype_name)
def test_two_levels_are_a_logistic_with_all_its_digits(target, dtype):
    """Also where the drawn level is all but certain, and log(1 + e^-40) would be 0; so are slopes."""
    d = torch.tensor([-700.0, -40.0, -3.0, -1e-3, 0.0, 1e-3, 0.5, 3.0, 20.0, 40.0, 80.0], dtype=dtype)
    logits = torch.stack((torch.zeros_like(d), d), 1)
    for level in (0, 1):
        x = torch.full((len(d), 1), level)
        given = on(target, logits, x, dtype=dtype)
        nll, grad = nll_and_grad(*given, target)
        sign = 1.0 if level else -1.0
        truth = F.softplus(-sign * d.double(), threshold=1e9)
        slope = torch.sigmoid(-sign * d.double())
        if target.backend != "reference":
            close = {"rtol": 6e-7 if dtype == torch.float32 else 1e-14, "atol": 1e-37}
            torch.testing.assert_close(nll.double().cpu(), truth, **close)
            torch.testing.assert_close(grad.double().cpu()[:, level], -slope, **close)
        torch.testing.assert_close(grad.double().cpu()[:, 1 - level], slope, rtol=2e-6, atol=1e-37)


# Values that softmaxes get wrong


@fast_targets
@pytest.mark.parametrize("levels", (3, 40, 300))
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("last", (False, True), ids=("contiguous", "channels_last"))
def test_impossible_levels(target, levels, dtype, last):
    """-inf beside the drawn level: as if it were not there, and its gradient is exactly 0. Drawn: +inf. All: NaN."""
    t = tensors(4, 2, levels, (3, 6), torch.int64)
    logits, x = on(target, t["logits"], t["x"], dtype=dtype)
    x[:] = 1
    logits[0, 0::levels] = -torch.inf  # level 0 of both channels
    logits[1, levels + 1, 2, 2] = -torch.inf  # the drawn one of one channel and position
    logits[2, :levels, 0, 0] = -torch.inf
    if last:
        logits = logits.contiguous(memory_format=torch.channels_last)
    nll, grad = nll_and_grad(logits, x, target)
    assert nll[1] == torch.inf and nll[2].isnan() and nll[[0, 3]].isfinite().all()
    assert (grad[0, 0::levels] == 0).all() and grad[[0, 1, 3]].isfinite().all()
    assert grad[1, levels + 1, 2, 2].item() == pytest.approx(-1, rel=3e-7)
    assert grad[2, :levels, 0, 0].isnan().all() and grad.isnan().sum() == levels
    kept = torch.cat((logits[:1, 1:levels], logits[:1, levels + 1 :]), 1)
    if levels > 2:
        alone = categorical_nll(kept, x[:1] - 1, reduction="none", backend=target.backend)
        torch.testing.assert_close(nll[:1], alone, rtol=1e-6, atol=0)


@fast_targets
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=dtype_name)
@pytest.mark.parametrize("levels", (2, 33, 400))
def test_huge_logits(target, levels, dtype):
    logits, x = on(target, torch.full((2, levels, 3), -1e30), torch.zeros(2, 1, 3, dtype=torch.int64), dtype=dtype)
    logits[0, 0], logits[1, 1] = 1e30, 1e30
    nll, grad = nll_and_grad(logits, x, target)
    assert nll.tolist() == pytest.approx([0, 6e30]) and nll[0] == 0
    assert not grad[0].any() and (grad[1, 0] == -1).all() and (grad[1, 1] == 1).all() and not grad[1, 2:].any()


@fast_targets
@pytest.mark.parametrize("bad", (math.nan, math.inf))
def test_one_nan_or_infinity_stays_in_its_unit_and_its_row(target, bad):
    for levels, spatial in ((5, (7, 5)), (40, (3, 3)), (300, (5, 1))):
        for last in (False, True):
            t = tensors(3, 2, levels, spatial, torch.int64)
            logits, x = on(target, t["logits"], t["x"])
            logits[1, levels + 2, 2, 0] = bad
            if last:
                logits = logits.contiguous(memory_format=torch.channels_last)
            nll, grad = nll_and_grad(logits, x, target)
            assert nll[1].isnan() and nll[[0, 2]].isfinite().all()
            assert grad[1, levels:, 2, 0].isnan().all() and grad.isnan().sum() == levels


def test_a_shift_of_all_logits_changes_nothing(target):
    t = tensors(3, 2, 6, (4,))
    logits, x = on(target, (t["logits"] * 8).round() / 8, t["x"])  # so that the shift is exact
    assert_same(*(categorical_nll(v, x, backend=target.backend) for v in (logits, logits + 1024.0)))


@fast_targets
def test_gradients_sum_to_zero_over_the_levels(target):
    for levels in (2, 50, 700):
        t = tensors(3, 2, levels, (5, 3), torch.int64)
        logits, x = on(target, t["logits"], t["x"])
        _, grad = nll_and_grad(logits, x, target)
        assert grad.unflatten(1, (2, levels)).double().sum(2).abs().max() < 2e-6


@fast_targets
def test_cross_entropy_of_the_same_logits_is_the_same(target):
    for channels in (1, 3):
        t = tensors(4, channels, 7, (5, 2), torch.int64)
        logits, x = on(target, t["logits"], t["x"], dtype=torch.float64)
        blocks = logits.unflatten(1, (channels, 7)).flatten(0, 1)
        theirs = F.cross_entropy(blocks, x.flatten(0, 1), reduction="sum") / 4
        torch.testing.assert_close(categorical_nll(logits, x, backend=target.backend), theirs, rtol=1e-13, atol=0)


# Levels


@fast_targets
@pytest.mark.parametrize("dtype", (torch.uint8, torch.int64), ids=dtype_name)
def test_levels_in_any_layout_give_the_same(target, dtype):
    t = tensors(3, 3, 9, (6, 5), dtype)
    logits, x = on(target, t["logits"], t["x"])
    expected = categorical_nll(logits, x, reduction="none", backend=target.backend)
    for maker in layouts.WRITABLE:
        got = categorical_nll(logits, maker(x), reduction="none", backend=target.backend)
        assert_same(got, expected, what=maker.__name__)
    one = x[:, :, :1, :1].expand(x.shape)
    assert_same(*(categorical_nll(logits, v, backend=target.backend) for v in (one, one.contiguous())))


@pytest.mark.parametrize("levels", (5, 256, 300))
@pytest.mark.parametrize("dtype", (torch.uint8, torch.int64), ids=dtype_name)
def test_wrong_levels_raise_on_a_cpu(levels, dtype):
    t = tensors(2, 3, levels, (3, 2), dtype)
    for wrong in (v for v in (levels, 255, -1, 2**40) if dtype == torch.int64 or levels <= v <= 255):
        if 0 <= wrong < levels:
            continue
        x = t["x"].clone()
        x[1, 2, 0, 1] = wrong
        for logits in (t["logits"], t["logits"].clone().requires_grad_()):
            with pytest.raises(ValueError, match=rf"x: expected levels 0 .. {levels - 1}, got .*{wrong}"):
                categorical_nll(logits, x)
        fast = torch.compile(lambda p, x: categorical_nll(p, x), backend="eager", fullgraph=True)
        with pytest.raises(ValueError, match="x: expected levels"):
            fast(t["logits"], x)


@fast_targets
@pytest.mark.parametrize("levels", (5, 40, 300))
def test_wrong_levels_below_the_check_are_nan(target, levels):
    """As on a GPU, where nobody looks at them first."""
    for last in (False, True):
        t = tensors(4, 3, levels, (5, 1), torch.int64)
        logits, x = on(target, t["logits"], t["x"])
        x[0, 0, 4], x[2, 1, 0], x[3, 2, 3] = -1, levels, 2**62
        logits = logits.contiguous(memory_format=torch.channels_last) if last else logits
        launcher = _dispatch.launcher(op.name, op.name, target.backend, logits)
        nll = launcher.forward(logits, x, "none")
        assert nll.isnan().tolist() == [True, False, True, True]
        grad = launcher.backward(torch.ones_like(nll), logits, x, "none").unflatten(1, (3, levels)).squeeze(-1)
        wrong = grad.isnan().all(2)
        assert wrong.nonzero().tolist() == [[0, 0, 4], [2, 1, 0], [3, 2, 3]]
        assert grad.isnan().sum() == 3 * levels


# Sums, blocks, passes


@fast_targets
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 2), (1, 1, 2, 2)], ids=str)
def test_positions_of_any_number_of_dims_are_one_after_the_other(target, shape):
    t = {k: v.to(target.device) for k, v in tensors(2, 3, 4, shape).items()}
    got = categorical_nll(**t, reduction="none", backend=target.backend)
    flat = {k: v.reshape(2, v.shape[1], -1) for k, v in t.items()}
    each = [
        categorical_nll(*(v[..., i] for v in flat.values()), reduction="none", backend=target.backend)
        for i in range(flat["x"].shape[2])
    ]
    torch.testing.assert_close(sum(each), got, rtol=1e-12, atol=0)


def test_reductions_are_sums_of_the_samples(target):
    t = {k: v.to(target.device) for k, v in tensors(5, 3, 2, (3,)).items()}
    each, total, mean = (
        categorical_nll(**t, reduction=r, backend=target.backend) for r in ("none", "sum", "batchmean")
    )
    torch.testing.assert_close(total, each.sum(), rtol=1e-14, atol=0)
    torch.testing.assert_close(mean, each.sum() / 5, rtol=1e-14, atol=0)
    nothing = {k: v[:0] for k, v in t.items()}
    assert categorical_nll(**nothing, reduction="sum", backend=target.backend) == 0
    assert categorical_nll(**nothing, backend=target.backend).isnan()
    assert categorical_nll(**nothing, reduction="none", backend=target.backend).shape == (0,)


@fast_targets
@pytest.mark.parametrize("levels", (2, 40, 300))
def test_a_row_does_not_depend_on_its_batch(target, levels):
    t = tensors(9, 3, levels, (13, 3), torch.int64)
    logits, x = on(target, t["logits"], t["x"])
    whole, part = (
        categorical_nll(logits[some], x[some], reduction="none", backend=target.backend)
        for some in (slice(0, 9), slice(4, 6))
    )
    if target.backend == "reference":  # vectorised PyTorch rounds its tails otherwise
        torch.testing.assert_close(part, whole[4:6])
    else:
        assert_same(part, whole[4:6])


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize(
    ("levels", "positions"),
    [
        (2, 1),
        (2, 129),
        (3, 16),
        (31, 17),
        (32, 15),
        (33, 63),
        (256, 65),
        (257, 128),
        (1023, 5),
        (2047, 3),
        (2048, 17),
        (65536, 2),
    ],
)
def test_blocks_and_vectors_of_each_instruction_set(isa, levels, positions):
    """Whole vectors, one more and one less; tiles of many levels in several turns; both ways through memory."""
    for n, dtype, last in ((1, torch.float32, False), (2, torch.bfloat16, True), (2, torch.float32, True)):
        t = tensors(n, 1, levels, (positions, 1), torch.int64)
        logits, x = t["logits"].to(dtype), t["x"]
        if last:
            logits = logits.contiguous(memory_format=torch.channels_last)
        g = torch.linspace(-1, 1, n) if n > 1 else torch.tensor([0.75])
        marked, inputs = leaves(op, {"logits": logits, "x": x})
        with instruction_set(isa):
            nll = categorical_nll(**marked, reduction="none", backend="cpu")
            (grad,) = torch.autograd.grad(nll, inputs, g)
        truths = []
        for wide in (torch.float64, torch.float32):
            p = logits.to(wide).requires_grad_()
            ref = reference.forward(p, x, "none")
            truths.append((ref.detach(), *torch.autograd.grad(ref, p, g.to(wide))))
        (ref, ref_grad), (base, base_grad) = truths
        assert_accurate(nll.detach(), ref, base)
        assert_accurate(grad, ref_grad, base_grad.to(dtype), dtype=dtype)


@fast_targets
@pytest.mark.parametrize("levels", (2, 40, 300, 1100))
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_recording_gradients_changes_no_bit_and_neither_does_handing_them_out(target, dtype, levels):
    """On a CPU forward makes the gradient for 1 and backward scales it, or of 16 bits makes it anew: as backward alone would."""
    t = tensors(3, 2, levels, (5, 3), torch.int64)
    contiguous, x = on(target, t["logits"], t["x"], dtype=dtype)
    for logits in (contiguous, contiguous.contiguous(memory_format=torch.channels_last)):
        for reduction, weight in (
            ("none", (1.0, 1.0, 1.0)),
            ("none", (0.3, -1.0, 0.0)),
            ("batchmean", 1.0),
            ("sum", -0.7),
        ):
            leaf = logits.clone().requires_grad_()
            nll = categorical_nll(leaf, x, reduction=reduction, backend=target.backend)
            assert_same(nll.detach(), categorical_nll(logits, x, reduction=reduction, backend=target.backend))
            upstream = torch.tensor(weight, dtype=nll.dtype, device=target.device)
            got = [torch.autograd.grad(nll, leaf, upstream, retain_graph=True)[0] for _ in range(2)]
            launcher = _dispatch.launcher(op.name, op.name, target.backend, logits)
            alone = launcher.backward(upstream, logits, x, reduction)
            for grad in got:
                assert_same(grad, alone, what=f"{reduction} {weight}")


@fast_targets
def test_misaligned_logits_and_any_thread_count_give_the_same_bits(target):
    for levels in (2, 5, 40, 300):
        t = tensors(5, 2, levels, (11, 13), torch.int64)
        logits, x = on(target, t["logits"], t["x"])
        for given in (logits, logits.contiguous(memory_format=torch.channels_last)):
            expected = nll_and_grad(given, x, target)
            for count in (1, 2, 3) if target.backend != "reference" else ():
                with threads(count):
                    for a, b in zip(nll_and_grad(given, x, target), expected, strict=True):
                        assert_same(a, b, what=f"{count} threads")
        if target.backend == "cpu":
            for a, b in zip(
                nll_and_grad(layouts.misaligned(logits), x, target), nll_and_grad(logits, x, target), strict=True
            ):
                assert_same(a, b, what="misaligned")


def test_vmap_runs_over_levels_too():
    t = tensors(3, 3, 4, (2, 2))
    stacked = [torch.stack((v, v.flip(0))) for v in t.values()]
    got = torch.func.vmap(lambda p, x: categorical_nll(p, x, reduction="none"))(*stacked)
    for i in range(2):
        each = categorical_nll(*(v[i] for v in stacked), reduction="none")
        torch.testing.assert_close(got[i], each, rtol=1e-12, atol=1e-12)
