"""rbm_free_energy on every backend: enumeration, closed forms, real numbers, energies that are not finite."""

import pytest
import test_conformance as conformance
import test_conformance_autograd as autograd
import torch
import torch.nn.functional as F
from registry import leaves
from rows.rbm import PARAMETERS, ROWS, SOFT, given, levels, states, tensors
from support import DTYPES, SEED, assert_same, dtype_name, fast_targets, instruction_set, isas

from pygen import nn
from pygen.functional import rbm_free_energy, rbm_gibbs
from pygen.reference import rbm as reference

pytestmark = pytest.mark.usefixtures("poisoned")
op = ROWS[0]


@fast_targets
@pytest.mark.parametrize(("visible", "hidden"), [(3, 2), (9, 4), (4, 10)])
def test_sums_over_visible_and_over_hidden_states_agree(target, visible, hidden):
    """log Z three ways: over v by free energies, over h by those of the machine turned round, over all pairs."""
    t = given(2**visible, visible, hidden, target, torch.float64, states(visible), scale=2.0)
    w, b, c = (t[k] for k in PARAMETERS)
    energy = rbm_free_energy(**t, reduction="none", backend=target.backend)
    h = states(hidden).to(target.device)
    other = rbm_free_energy(h, w.t(), c, b, reduction="none", backend=target.backend)
    v, h = t["v"].double(), h.double()
    pairs = (v @ b)[:, None] + h @ c + v @ w.t() @ h.t()
    log_z = pairs.flatten().logsumexp(0)
    torch.testing.assert_close((-energy).logsumexp(0), log_z, rtol=1e-13, atol=0)
    torch.testing.assert_close((-other).logsumexp(0), log_z, rtol=1e-13, atol=0)
    torch.testing.assert_close(-energy, pairs.logsumexp(1), rtol=1e-12, atol=1e-12)
    assert (-energy - log_z).exp().sum().item() == pytest.approx(1, abs=1e-12)


@fast_targets
def test_gradient_of_the_exact_log_likelihood_is_data_less_model(target):
    t = given(6, 4, 3, target, torch.float64)
    marked, inputs = leaves(op, t)
    every = states(4).to(target.device)
    parameters = {k: marked[k] for k in PARAMETERS}
    log_z = (-rbm_free_energy(every, **parameters, reduction="none", backend=target.backend)).logsumexp(0)
    loss = rbm_free_energy(**marked, backend=target.backend) + log_z
    got = torch.autograd.grad(loss, inputs)
    w, b, c = (t[k] for k in PARAMETERS)
    weights = torch.full((6,), 1 / 6, dtype=torch.float64, device=target.device)
    chances = (-reference.forward(every, w, b, c)[0]).softmax(0)

    def statistics(v, p):
        units = p[:, None] * torch.sigmoid(F.linear(v.double(), w, c))
        return units.t() @ v.double(), p @ v.double(), units.sum(0)

    pairs = zip(statistics(every, chances), statistics(t["v"], weights), strict=True)
    torch.testing.assert_close(got, tuple(model - data for model, data in pairs), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("sample", SOFT.samples(), ids=lambda s: s.name)
def test_real_numbers_and_their_gradient(sample, target):
    for dtype in DTYPES if not target.slow else (torch.float32,):
        if not target.slow or sample.name == "odd everything":
            conformance.check_against_truth(SOFT, sample.cast(dtype, target.device), sample.options, target.backend)


@fast_targets
def test_real_numbers_under_autograd(target):
    autograd.test_every_subset_of_requires_grad(SOFT, target)
    autograd.test_gradcheck(SOFT, target)
    autograd.test_gradgradcheck(SOFT, target)
    autograd.test_third_order_equals_the_composite(SOFT, target)


@fast_targets
@pytest.mark.parametrize("dtype", (torch.bool, torch.uint8, torch.int64, torch.float32), ids=dtype_name)
def test_levels_of_any_dtype_are_the_same(target, dtype):
    t = given(6, 10, 7, target)
    results = []
    for v in (t["v"], t["v"].to(dtype)):
        marked, inputs = leaves(op, t | {"v": v})
        energy = rbm_free_energy(**marked, reduction="none", backend=target.backend)
        results.append((energy.detach(), *torch.autograd.grad(energy.sum(), inputs)))
    for a, b in zip(*results, strict=True):
        assert_same(a, b)


@pytest.mark.filterwarnings("ignore:invalid value")  # of the interpreter
def test_huge_sums_and_what_is_not_finite(target):
    """softplus(a) = a where a is large, 0 where it is very negative; sigmoid exactly 1 and 0; NaN stays in its image."""
    w = torch.tensor([[1e4], [-1e4], [float("inf")]], device=target.device).requires_grad_()
    zero = torch.zeros(1, device=target.device)
    c = torch.zeros(3, device=target.device)
    v = torch.ones(2, 1, device=target.device)
    energy = rbm_free_energy(v, w[:2], zero, c[:2], reduction="none", backend=target.backend)
    assert energy.tolist() == [-1e4, -1e4]
    assert torch.autograd.grad(energy.sum(), w)[0].tolist() == [[-2.0], [0.0], [0.0]]
    v[1] = float("nan")
    energy = rbm_free_energy(v, w, zero, c, reduction="none", backend=target.backend)
    assert energy[0] == -torch.inf and energy[1].isnan()
    v[1] = 0  # times infinity
    for some, expected in ((v, [False, True]), (v[1:], [True])):  # beside one that has it, and alone
        energy = rbm_free_energy(some, w, zero, c, reduction="none", backend=target.backend)
        assert energy.isnan().tolist() == expected


def test_wrong_levels(target):
    t = given(3, 4, 2, target, v=levels(3, 4, torch.int64))
    t["v"][1, 2] = 2
    if target.device == "cpu":
        for function in (rbm_free_energy, rbm_gibbs):
            with pytest.raises(ValueError, match=rf"{function.__name__}: v: expected levels 0 .. 1, got 0 .. 2"):
                function(**t, backend=target.backend)


@fast_targets
def test_energies_kept_for_no_one_give_the_same_gradients(target):
    """The registered op, called without keep: backward makes the chances again."""
    t = given(5, 4, 3, target)
    marked, inputs = leaves(op, t)
    results = []
    for keep in (True, False):
        ordered = (marked["v"], *(marked[k] for k in PARAMETERS))
        energy, units = torch.ops.pygen.rbm_free_energy(*ordered, "sum", keep, target.backend)
        assert units.shape == ((5, 3) if keep else (0,)) and not units.requires_grad
        results.append(torch.autograd.grad(energy, inputs))
    for a, b in zip(*results, strict=True):
        assert_same(a, b)


SIZES = ((1, 1, 1), (5, 15, 31), (6, 16, 32), (7, 17, 33), (12, 3, 64), (13, 65, 16), (80, 5, 3))


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tiles_and_panels_of_each_instruction_set(isa, size):
    t = tensors(*size)
    with instruction_set(isa):
        narrow = {k: v.float() if k in PARAMETERS else v for k, v in t.items()}
        conformance.check_against_truth(op, narrow, {"reduction": "none"}, "cpu")
        ordered = (t["v"], *(t[k] for k in PARAMETERS))
        options = (3, 0.8, None, torch.tensor(SEED))
        got = torch.ops.pygen.rbm_gibbs(*ordered, *options, "cpu")
    for a, b in zip(got, reference.gibbs(*ordered, *options), strict=True):
        assert_same(a, b)


@pytest.mark.parametrize(
    ("sizes", "match"),
    [((0, 3), r"num_visible: expected an int >= 1, got 0"), ((3, 2.0), r"num_hidden: expected an int >= 1, got 2\.0")],
)
def test_sizes_of_a_layer_are_checked(sizes, match):
    with pytest.raises(ValueError, match=f"RBMFreeEnergy: {match}"):
        nn.RBMFreeEnergy(*sizes)


def test_rbm_free_energy_curves_nowhere_where_units_are_off():
    """Second derivatives under torch.func, of the plain composition: e^1000 is infinite there, and infinity over infinity NaN."""
    zeros = torch.zeros(3, dtype=torch.float64)
    energy = lambda bias: rbm_free_energy(zeros.unsqueeze(0), zeros.expand(2, 3), zeros, bias)  # noqa: E731
    curvature = torch.func.hessian(energy)(torch.tensor([-1000.0, 0.0], dtype=torch.float64))
    assert torch.equal(curvature.abs().squeeze(), torch.tensor([[0.0, 0.0], [0.0, 0.25]], dtype=torch.float64))


@pytest.mark.skipif(not isas(), reason="needs the compiled module")
@pytest.mark.parametrize("reduction", ("none", "sum", "batchmean"))
@pytest.mark.parametrize("n", (5, 700))  # v below and beyond what torch sums in one thread
def test_plain_machines_and_others_are_the_same(n, reduction):
    """The short way of plain tensors against the long way, which a v that wants a gradient and negated tensors take."""
    t = {k: v.float() for k, v in tensors(n, 70, 33).items()}
    parameters = {k: t[k].requires_grad_() for k in PARAMETERS}

    def run(v, used=parameters):
        loss = rbm_free_energy(v, **used, reduction=reduction, backend="cpu")
        return loss, *torch.autograd.grad(loss, [parameters[k] for k in PARAMETERS], torch.full_like(loss, 0.75))

    plain, long = run(t["v"]), run(t["v"].clone().requires_grad_())
    for name in parameters:
        negated = run(t["v"], parameters | {name: torch._neg_view(-parameters[name])})
        for a, b in zip(negated, long, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert_same(plain[0].detach(), long[0].detach())
    with torch.no_grad():
        assert_same(plain[0].detach(), rbm_free_energy(**t, reduction=reduction, backend="cpu"))
    for a, b in zip(plain[1:], long[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5 * b.abs().max().item())


def test_plain_machines_whose_tensors_were_replaced_are_refused():
    t = {k: v.float() for k, v in tensors(4, 6, 3).items()}
    weight = t["weight"].requires_grad_()
    loss = rbm_free_energy(**t)
    weight.data = torch.randn(2, 5)
    with pytest.raises(RuntimeError, match="was replaced after the forward pass"):
        loss.backward()


def test_plain_machines_are_differentiated_twice():
    t = {k: v.double() for k, v in tensors(3, 4, 2).items()}
    leaves_ = [t[k].requires_grad_() for k in PARAMETERS]
    assert torch.autograd.gradgradcheck(lambda *p: rbm_free_energy(t["v"], *p), leaves_)
