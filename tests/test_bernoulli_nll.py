"""bernoulli_nll on every backend: closed forms, normalisation, infinities and tails, targets of every dtype, wrong levels."""

import math

import layouts
import pytest
import torch
import torch.nn.functional as F
from registry import leaves
from rows.bernoulli_nll import ROWS, levels, logits_of, soft, tensors
from support import (
    DTYPES,
    assert_accurate,
    assert_same,
    compute_dtype,
    dtype_name,
    fast_targets,
    instruction_set,
    isas,
    threads,
)

from pygen import _dispatch
from pygen.functional import bernoulli_nll
from pygen.reference import bernoulli_nll as reference

pytestmark = pytest.mark.usefixtures("poisoned")
op = ROWS[0]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
TARGETS_DTYPES = (torch.bool, torch.uint8, torch.int64, None)  # None: logits' own


def loss_and_gradient(logits, x, target, reduction="none", upstream=None):
    leaf = logits.detach().to(target.device).requires_grad_()
    nll = bernoulli_nll(leaf, x.to(target.device), reduction=reduction, backend=target.backend)
    (grad,) = torch.autograd.grad(nll, leaf, torch.ones_like(nll) if upstream is None else upstream)
    return nll.detach().cpu(), grad.cpu()


@each_dtype
def test_bernoulli_closed_forms(target, dtype):
    """log 2 at 0; log 3 and log 3/2 at log 2, of probability 2/3."""
    logits = torch.tensor([0.0, 0.0, math.log(2), math.log(2)], dtype=torch.float64).to(dtype)
    nll, grad = loss_and_gradient(logits, torch.tensor([0, 1, 0, 1]), target)
    expected = torch.tensor([math.log(2), math.log(2), math.log(3), math.log(1.5)], dtype=torch.float64)
    torch.testing.assert_close(nll.double(), expected, rtol=0, atol=4 * torch.finfo(dtype).eps)
    slopes = torch.tensor([0.5, -0.5, 2 / 3, -1 / 3], dtype=torch.float64).to(dtype)
    torch.testing.assert_close(grad, slopes, rtol=0, atol=2 * torch.finfo(dtype).eps)


@each_dtype
def test_bernoulli_of_0_and_of_1_sum_to_one(target, dtype):
    logits = logits_of((97,)).to(dtype)
    both = [loss_and_gradient(logits, torch.full((97,), x, dtype=torch.uint8), target)[0].double() for x in (0, 1)]
    total = torch.exp(-both[0]) + torch.exp(-both[1])
    assert (total - 1).abs().max() < 8 * torch.finfo(compute_dtype(dtype)).eps


@each_dtype
@pytest.mark.parametrize("kind", TARGETS_DTYPES, ids=dtype_name)
def test_infinite_logits_are_exact(target, dtype, kind):
    """On the right side nothing, and no inf * 0; on the wrong side infinity and a slope of 1."""
    logits = torch.tensor([math.inf, -math.inf, math.inf, -math.inf, 1.0]).to(dtype)
    x = torch.tensor([1, 0, 0, 1, 1]).to(kind or dtype)
    nll, grad = loss_and_gradient(logits, x, target)
    assert nll[:4].tolist() == [0, 0, math.inf, math.inf] and nll[4].isfinite()
    assert grad[:4].tolist() == [0, 0, 1, -1]
    right = slice(0, 2)
    for reduction in ("sum", "batchmean"):
        nll, grad = loss_and_gradient(logits[right], x[right], target, reduction)
        assert nll == 0 and not grad.any()


@each_dtype
def test_tails_keep_their_digits(target, dtype):
    """The loss of a sure and right answer is e^-|l|, its slope too; of a wrong one |l| and 1."""
    logits = torch.tensor([100.0, -100.0, 100.0, -100.0, 20.0, -20.0]).to(dtype)
    nll, grad = loss_and_gradient(logits, torch.tensor([1, 0, 0, 1, 1, 0], dtype=torch.uint8), target)
    tail, near = math.exp(-100), math.exp(-20) / (1 + math.exp(-20))
    # In float32 e^-100 has five bits, and torch's sigmoid none.
    close = 1e-12 if dtype == torch.float64 else 0.02
    if target.backend != "reference" or dtype == torch.float64:
        assert nll[:2].tolist() == pytest.approx([tail, tail], rel=close)
    assert nll[2:4].tolist() == [100, 100] and grad[2:4].tolist() == [1, -1]
    precise = 1e-12 if dtype == torch.float64 else 1e-6
    assert nll[4:].tolist() == pytest.approx([math.log1p(math.exp(-20))] * 2, rel=precise)
    if dtype != torch.float16:  # whose least number is larger than both
        if target.backend != "reference":
            assert grad[:2].tolist() == pytest.approx([-tail, tail], rel=close)
        assert grad[4:].tolist() == pytest.approx([-near, near], rel=max(precise, torch.finfo(dtype).eps))


@fast_targets
def test_a_wrong_answer_keeps_the_exponential_too(target):
    """25 + log(1 + e^-25), where F.softplus says 25."""
    logits = torch.tensor([25.0, -25.0], dtype=torch.float64)
    nll, _ = loss_and_gradient(logits, torch.tensor([0, 1]), target)
    assert nll.tolist() == pytest.approx([25 + math.log1p(math.exp(-25))] * 2, rel=4e-16)


@fast_targets
def test_huge_logits_neither_overflow_nor_vanish(target):
    for dtype in DTYPES:
        most = torch.finfo(dtype).max
        logits = torch.tensor([most, -most, most, -most], dtype=dtype)
        nll, grad = loss_and_gradient(logits, torch.tensor([1, 0, 0, 1], dtype=torch.uint8), target)
        assert nll.tolist() == [0, 0, most, most] and grad.tolist() == [0, 0, 1, -1]


@fast_targets
@each_dtype
def test_every_dtype_of_targets_gives_equal_bits(target, dtype):
    logits = torch.cat((logits_of((3, 2500)), torch.tensor([[math.inf], [-math.inf], [0.0]])), 1).to(dtype)
    x = levels((3, 2501))
    for reduction in ("none", "batchmean"):
        results = [loss_and_gradient(logits, x.to(kind or dtype), target, reduction) for kind in TARGETS_DTYPES]
        for result in results[1:]:
            for a, b in zip(result, results[0], strict=True):
                assert_same(a, b)


@fast_targets
def test_it_is_the_categorical_of_two_levels(target):
    logits, x = logits_of((5, 7, 11)).requires_grad_(), levels((5, 7, 11), torch.int64)
    both = torch.stack((torch.zeros_like(logits), logits), dim=1)
    truth = F.cross_entropy(both, x, reduction="sum") / 5
    nll, grad = loss_and_gradient(logits, x, target, "batchmean")
    assert nll.item() == pytest.approx(truth.item(), rel=1e-12)
    torch.testing.assert_close(grad, torch.autograd.grad(truth, logits)[0], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("shape", ((), (1,), (6,), (4, 1), (1, 4, 1), (3, 1, 1), (3, 4, 6)), ids=str)
@pytest.mark.parametrize("kind", (torch.uint8, torch.int64, None), ids=dtype_name)
def test_targets_broadcast_to_logits(target, shape, kind):
    logits = logits_of((3, 4, 6)).float()
    x = levels(shape).to(kind or torch.float32)
    for reduction in ("none", "batchmean"):
        got = loss_and_gradient(logits, x, target, reduction)
        whole = loss_and_gradient(logits, x.expand(3, 4, 6).contiguous(), target, reduction)
        for a, b in zip(got, whole, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@each_dtype
@pytest.mark.parametrize("shape", ((), (5, 1), (3, 1, 4), (2, 3, 5, 4)), ids=str)
def test_targets_have_a_gradient(target, dtype, shape):
    """-l, times what comes from above, summed back to x's shape."""
    logits = logits_of((2, 3, 5, 4)).to(dtype).to(target.device)
    x = soft(shape).to(dtype).to(target.device).requires_grad_()
    weights = torch.tensor([0.75, -1.5], dtype=compute_dtype(dtype), device=target.device)
    nll = bernoulli_nll(logits, x, reduction="none", backend=target.backend)  # x alone requires grad
    (grad,) = torch.autograd.grad(nll, x, weights)
    truth = (-logits.double() * weights.double().view(2, 1, 1, 1)).sum_to_size(shape)
    assert grad.dtype == dtype and grad.shape == x.shape
    torch.testing.assert_close(grad.double(), truth, rtol=4 * torch.finfo(dtype).eps, atol=2e-6)


@fast_targets
def test_gradients_of_both_at_once_and_of_their_gradients(target):
    """d/dx of logits' gradient is -1, which gradcheck of each alone does not ask."""
    logits, x = logits_of((3, 4)).to(target.device).requires_grad_(), soft((4,)).to(target.device).requires_grad_()
    nll = bernoulli_nll(logits, x, reduction="sum", backend=target.backend)
    to_logits, to_x = torch.autograd.grad(nll, (logits, x), create_graph=True)
    assert torch.autograd.grad(to_logits.sum(), x, retain_graph=True)[0].tolist() == [-3.0] * 4
    assert torch.equal(torch.autograd.grad(to_x.sum(), logits)[0], torch.full_like(logits, -1))


@fast_targets
def test_soft_targets_are_the_mean_of_the_two_losses(target):
    logits, x = logits_of((4, 300)), soft((4, 300))
    zero, one = (loss_and_gradient(logits, torch.full_like(x, v), target, "none")[0] for v in (0.0, 1.0))
    quarter = loss_and_gradient(logits, torch.full_like(x, 0.25), target, "none")[0]
    torch.testing.assert_close(quarter, 0.75 * zero + 0.25 * one, rtol=1e-12, atol=0)
    for unchecked in (-0.5, 1.5):  # as F.binary_cross_entropy_with_logits has them
        got = loss_and_gradient(logits, torch.full_like(x, unchecked), target, "sum")[0]
        truth = F.binary_cross_entropy_with_logits(logits, torch.full_like(x, unchecked), reduction="sum")
        assert got.item() == pytest.approx(truth.item(), rel=1e-12)


@fast_targets
def test_nan_stays_in_its_sample(target):
    logits, x = logits_of((3, 40)).float(), soft((3, 40)).float()
    for bad in ("logits", "x"):
        given = {"logits": logits.clone(), "x": x.clone()}
        given[bad][1, 33] = math.nan
        nll, grad = loss_and_gradient(given["logits"], given["x"], target)
        assert nll.isnan().tolist() == [False, True, False]
        assert grad.isnan().nonzero().tolist() == [[1, 33]]


@pytest.mark.parametrize("dtype", (torch.uint8, torch.int64), ids=dtype_name)
def test_wrong_levels_raise_on_a_cpu(dtype):
    logits = logits_of((2, 3, 4)).float()
    for wrong in (2, 255, *((-1, 256, 2**40) if dtype == torch.int64 else ())):
        x = levels((2, 3, 4), dtype)
        x[1, 2, 1] = wrong
        for given in (logits, logits.clone().requires_grad_()):
            with pytest.raises(ValueError, match=rf"bernoulli_nll: x: expected levels 0 .. 1, got .*{wrong}"):
                bernoulli_nll(given, x)
        fast = torch.compile(lambda logits, x: bernoulli_nll(logits, x), backend="eager", fullgraph=True)
        with pytest.raises(ValueError, match=r"x: expected levels 0 .. 1"):
            fast(logits, x)


@fast_targets
@pytest.mark.parametrize("compute", (torch.float32, torch.float64), ids=dtype_name)
def test_wrong_levels_below_the_check_are_nan(target, compute):
    """As on a GPU, where nobody looks at them first."""
    logits = logits_of((4, 60)).to(target.device, compute)
    launcher = _dispatch.launcher(op.name, op.name, target.backend, logits)
    for dtype, wrongs in ((torch.int64, (-1, 256, 2**62)), (torch.uint8, (2, 128, 255))):
        x = levels((4, 60), dtype).to(target.device)
        for row, (column, wrong) in enumerate(zip((0, 17, 59), wrongs, strict=True)):
            x[row, column] = wrong
        for given in (x, x.t().contiguous().t()):
            nll = launcher.forward(logits, given, "none")
            assert nll.isnan().tolist() == [True, True, True, False]
            grad = launcher.backward(torch.ones_like(nll), logits, given, "none")
            assert grad.isnan().nonzero().tolist() == [[0, 0], [1, 17], [2, 59]]


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("columns", (1, 15, 16, 17, 511, 512, 513, 2047, 2048, 2049, 5000))
def test_blocks_runs_and_vectors_of_each_instruction_set(isa, columns):
    """One element more and less than a vector, a run and a block; rows of blocks and blocks of rows."""
    for n, dtype in ((1, torch.float32), (5, torch.bfloat16), (3, torch.float64)):
        for x in (levels((n, columns)), levels((columns,), torch.int64), soft((n, columns)).to(dtype)):
            t = {"logits": logits_of((n, columns)).to(dtype), "x": x}
            marked, inputs = leaves(op, t)
            weights = torch.linspace(-1, 1.5, n, dtype=compute_dtype(dtype))
            with instruction_set(isa):
                nll = bernoulli_nll(**marked, reduction="none", backend="cpu")
                (grad,) = torch.autograd.grad(nll, inputs, weights)
            ref, base = (
                loss_and_gradient_of_reference(t["logits"].to(wide), x, weights)
                for wide in (torch.float64, compute_dtype(dtype))
            )
            assert_accurate(nll.detach(), ref[0], base[0])
            assert_accurate(grad, ref[1], base[1].to(dtype), dtype=dtype)


def loss_and_gradient_of_reference(logits, x, weights):
    leaf = logits.clone().requires_grad_()
    nll = reference.forward(leaf, x, "none")
    return nll.detach(), torch.autograd.grad(nll, leaf, weights.to(nll.dtype))[0]


@pytest.mark.parametrize("reduction", ("none", "sum"))
def test_rows_of_several_blocks_and_turns(target, reduction):
    """Longer than what one Triton program takes at once."""
    sample = tensors((2, 20500))
    nll, grad = loss_and_gradient(sample["logits"], sample["x"], target, reduction)
    leaf = sample["logits"].clone().requires_grad_()
    truth = reference.forward(leaf, sample["x"], reduction)
    torch.testing.assert_close(nll, truth.detach(), rtol=1e-13, atol=0)
    torch.testing.assert_close(grad, torch.autograd.grad(truth.sum(), leaf)[0], rtol=1e-13, atol=1e-15)


def test_threads_change_no_bit():
    logits, x = logits_of((40, 3000)).float(), levels((40, 3000))
    for reduction in ("none", "batchmean"):
        results = []
        for count in (1, 2, 3):
            with threads(count):
                leaf = logits.clone().requires_grad_()
                nll = bernoulli_nll(leaf, x, reduction=reduction, backend="cpu")
                results.append((nll.detach(), torch.autograd.grad(nll.sum() * 0.7, leaf)[0]))
        for result in results[1:]:
            for a, b in zip(result, results[0], strict=True):
                assert_same(a, b)


@fast_targets
@each_dtype
def test_recording_gradients_changes_no_bit_and_neither_does_handing_them_out(target, dtype):
    """On a CPU forward makes the gradient for 1 and backward scales it, or of 16 bits makes it anew: as backward alone would."""
    logits = logits_of((3, 5, 707)).to(dtype).to(target.device)
    for x in (levels((3, 5, 707)), soft((3, 5, 707)).to(dtype)):
        x = x.to(target.device)
        for reduction, weight in (
            ("none", (1.0, 1.0, 1.0)),
            ("none", (0.3, -1.0, 0.0)),
            ("batchmean", 1.0),
            ("sum", -0.7),
        ):
            leaf = logits.clone().requires_grad_()
            nll = bernoulli_nll(leaf, x, reduction=reduction, backend=target.backend)
            assert_same(nll.detach(), bernoulli_nll(logits, x, reduction=reduction, backend=target.backend))
            upstream = torch.tensor(weight, dtype=nll.dtype, device=target.device)
            got = [torch.autograd.grad(nll, leaf, upstream, retain_graph=True)[0] for _ in range(2)]
            launcher = _dispatch.launcher(op.name, op.name, target.backend, logits)
            alone = launcher.backward(upstream, logits, x, reduction)
            for grad in got:
                assert_same(grad, alone, what=f"{reduction} {weight}")
            got[0].zero_()  # whoever has it may change it
            assert_same(torch.autograd.grad(nll, leaf, upstream)[0], alone)


@fast_targets
@pytest.mark.parametrize("maker", layouts.MAKERS[:5], ids=lambda m: m.__name__)
def test_each_layout_of_logits_beside_each_of_targets(target, maker):
    """What lies as logits do is read as it lies; of every pair the elements meet."""
    t = tensors((3, 5, 8, 7))
    expected = loss_and_gradient(t["logits"], t["x"], target)
    for logits in (t["logits"], maker(t["logits"])):
        for x in (t["x"], maker(t["x"]), t["x"].double(), maker(t["x"].double())):
            for a, b in zip(loss_and_gradient(logits, x, target), expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)


def test_vmap_runs_over_levels_and_targets():
    logits = logits_of((2, 3, 4))
    for x in (levels((2, 3, 4)), soft((2, 3, 4))):
        got = torch.func.vmap(lambda logits, x: bernoulli_nll(logits, x, reduction="none"))(logits, x)
        for i in range(2):
            each = bernoulli_nll(logits[i], x[i], reduction="none")
            torch.testing.assert_close(got[i], each, rtol=1e-12, atol=1e-12)


def test_torch_func_sees_infinite_logits_as_the_kernels_do():
    logits = torch.tensor([math.inf, -math.inf, math.inf, -math.inf, 0.0])
    for x in (torch.tensor([1, 0, 0, 1, 1]), torch.tensor([1.0, 0, 0, 1, 0.5])):
        grad, nll = torch.func.grad_and_value(lambda logits, x=x: bernoulli_nll(logits, x, reduction="sum"))(logits)
        expected = loss_and_gradient(logits, x, type("Cpu", (), {"backend": "cpu", "device": "cpu"}), "sum")
        assert_same(nll, expected[0])
        assert_same(grad, expected[1])


def test_autocast_promotes_targets_and_logits_to_the_wider():
    logits, x = logits_of((3, 4)).bfloat16(), soft((3, 4)).float()
    with pytest.raises(TypeError, match="the dtype of logits"):
        bernoulli_nll(logits, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(bernoulli_nll(logits, x), bernoulli_nll(logits.float(), x))
        assert_same(bernoulli_nll(logits, x > 0.5), bernoulli_nll(logits, (x > 0.5).to(torch.bfloat16)))
