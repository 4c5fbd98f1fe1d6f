"""rbm_gibbs on every backend: what noise selects, the chain's law, dtypes and layouts, seeds, refusals."""

import math

import pytest
import torch
import torch.nn.functional as F
from rows.rbm import PARAMETERS, given, states, tensors
from support import SEED, assert_same, dtype_name, fast_targets, isas, poisoned_memory, threads

from pygen._noise import DOMAINS
from pygen.functional import rbm_free_energy, rbm_gibbs
from pygen.reference import rbm as reference

pytestmark = pytest.mark.usefixtures("poisoned")


def test_domain_of_the_noise():
    assert DOMAINS["rbm"] == reference.NOISE_DOMAIN


GIBBS_SIZES = ((1, 1, 1), (5, 7, 3), (40, 67, 300))  # of C++, more units than uniforms are made at once


@pytest.mark.parametrize("size", GIBBS_SIZES, ids=str)
def test_every_backend_draws_what_the_noise_selects(target, size):
    """In float64 the same units; below, nowhere but where the chance lies next to the uniform."""
    if target.slow and size == GIBBS_SIZES[2]:
        size = (33, 35, 66)
    t = given(*size, target, torch.float64, scale=0.5)
    options = {"temperature": 1.5, "seed": SEED, "return_hidden": True}
    for steps in (1, 4) if not target.slow else (2,):
        got = rbm_gibbs(**t, steps=steps, **options, backend=target.backend)
        exact = rbm_gibbs(**t, steps=steps, **options, backend="reference")
        for a, b in zip(got, exact, strict=True):
            assert_same(a, b)
    for dtype in (torch.float32, torch.bfloat16) if not target.slow else (torch.float32,):
        low = {k: x.to(dtype) if k in PARAMETERS else x for k, x in t.items()}
        v, h = rbm_gibbs(**low, **options, backend=target.backend)
        w, b, c = (low[k].double() for k in PARAMETERS)
        for half, (drawn, a) in enumerate(((h, F.linear(t["v"].double(), w, c)), (v, F.linear(h.double(), w.t(), b)))):
            p = (a / 1.5).sigmoid()
            u = reference.uniforms(*p.shape, half, torch.tensor(SEED)).to(p.device)
            wrong = (drawn == 1) != (u <= p)
            assert (u - p)[wrong].abs().sum() < 1e-5, (dtype, half)


@pytest.mark.parametrize("dtype", (torch.bool, torch.uint8, torch.int64, torch.float32), ids=dtype_name)
def test_chains_of_any_dtype_are_the_same(target, dtype):
    t = given(6, 10, 7, target)
    results = [
        rbm_gibbs(**t | {"v": v}, steps=2, seed=3, return_hidden=True, backend=target.backend)
        for v in (t["v"], t["v"].to(dtype))
    ]
    for a, b in zip(*results, strict=True):
        assert b.dtype == dtype
        assert_same(a, b.to(a.dtype))


def test_chances_begin_a_chain_as_they_are(target):
    t = given(40, 6, 5, target, torch.float64)
    v = torch.linspace(0, 1, 240, dtype=torch.float64, device=target.device).view(40, 6)
    _, h = rbm_gibbs(**t | {"v": v}, seed=5, return_hidden=True, backend=target.backend)
    p = torch.sigmoid(F.linear(v, t["weight"], t["hidden_bias"]))
    assert_same(h, (reference.uniforms(40, 5, 0, torch.tensor(5)).to(p.device) <= p).double())


def transition(t, temperature=1.0):
    """p(v' | v) of one step, [2^D, 2^D], from chances."""
    w, b, c = (t[k].double().cpu() for k in PARAMETERS)
    v, h = states(w.shape[1]).double(), states(w.shape[0]).double()

    def chances(a, outcomes):
        p = (a / temperature).sigmoid()[:, None]
        return torch.where(outcomes == 1, p, 1 - p).prod(2)

    return chances(F.linear(v, w, c), h) @ chances(F.linear(h, w.t(), b), v)


def test_the_machine_is_invariant_under_its_chain_in_detailed_balance():
    t = tensors(1, 3, 2)
    p = (-reference.forward(states(3), *(2 * t[k] for k in PARAMETERS))[0]).softmax(0)
    step = transition({k: 2 * t[k] for k in PARAMETERS})
    torch.testing.assert_close(step.sum(1), torch.ones(8, dtype=torch.float64))
    torch.testing.assert_close(p @ step, p, rtol=1e-13, atol=0)
    flow = p[:, None] * step
    torch.testing.assert_close(flow, flow.t(), rtol=1e-12, atol=0)


@fast_targets
def test_draws_follow_the_transition(target):
    """Chi-square of 20,000 chains from each of the 8 states: 7 degrees of freedom each; and two steps are the step twice."""
    n = 20_000
    starts = states(3).repeat_interleave(n, 0)
    t = given(8 * n, 3, 2, target, v=starts.to(target.device), scale=2.0)
    for steps, temperature in ((1, 0.7), (2, 1.0)):
        ends = rbm_gibbs(**t, steps=steps, temperature=temperature, seed=11, backend=target.backend).cpu().long()
        index = (ends * torch.tensor([4, 2, 1])).sum(1) + 8 * torch.arange(8).repeat_interleave(n)
        counts = torch.bincount(index, minlength=64).view(8, 8)
        expected = n * torch.linalg.matrix_power(transition(t, temperature), steps)
        chi = ((counts - expected).square() / expected).sum(1)
        assert (chi < 26).all(), chi  # 5e-4 each


def test_known_units_stay_and_guide(target):
    t = given(9, 10, 4, target)
    mask = torch.rand(9, 10, generator=torch.Generator().manual_seed(0)).to(target.device) < 0.5
    for v in (t["v"], t["v"].float()):
        got = rbm_gibbs(**t | {"v": v}, steps=2, known_mask=mask, seed=1, backend=target.backend)
        assert_same(got[mask], v[mask])
        assert_same(got, rbm_gibbs(**t | {"v": v}, steps=2, known_mask=mask, seed=1, backend="reference"))
    chances = torch.full((9, 10), 0.25, device=target.device)
    got = rbm_gibbs(**t | {"v": chances}, known_mask=mask, seed=1, backend=target.backend)
    assert (got[mask] == 0.25).all() and ((got[~mask] == 0) | (got[~mask] == 1)).all()


def test_certain_units_and_nan(target):
    """Infinite biases are certain whatever the uniform; where the sum is NaN the unit is 0."""
    v = torch.ones(300, 1, device=target.device)
    w = torch.zeros(5, 1, device=target.device)
    c = torch.tensor([torch.inf, -torch.inf, torch.nan, 200.0, -200.0], device=target.device)
    _, h = rbm_gibbs(v, w, v[0], c, seed=0, return_hidden=True, backend=target.backend)
    assert_same(h, torch.tensor([1.0, 0, 0, 1, 0], device=target.device).expand(300, 5).contiguous())


@fast_targets
def test_a_chain_depends_on_neither_batch_nor_layout_nor_threads(target):
    t = given(50, 37, 70, target, torch.float32)
    whole = rbm_gibbs(**t, steps=3, seed=7, backend=target.backend)
    for n in (0, 1, 13):
        assert_same(rbm_gibbs(**t | {"v": t["v"][:n]}, steps=3, seed=7, backend=target.backend), whole[:n])
    turned = {k: x.t().contiguous().t() if x.dim() == 2 else torch.stack((x, x), 1)[:, 0] for k, x in t.items()}
    assert_same(rbm_gibbs(**turned, steps=3, seed=7, backend=target.backend), whole)
    if target.backend == "cpu":
        for count in (1, 2, 5):
            with threads(count), poisoned_memory():
                assert_same(rbm_gibbs(**t, steps=3, seed=7, backend="cpu"), whole)


@pytest.mark.skipif(not isas(), reason="the C++ module did not load")
def test_the_last_bit_of_sums_depends_on_neither_batch_nor_threads():
    """Large numbers that nearly cancel make the last bits of sums decide."""
    t = {k: x.float() if k in PARAMETERS else x for k, x in tensors(70, 90, 40).items()}
    t["weight"] *= 1e6
    t["hidden_bias"] = -(t["weight"].double() @ t["v"].double().mean(0)).float()
    whole = rbm_gibbs(**t, steps=2, seed=3, backend="cpu")
    energies = rbm_free_energy(**t, reduction="none", backend="cpu")
    for n in (1, 5, 12, 49):
        assert_same(rbm_gibbs(**t | {"v": t["v"][:n]}, steps=2, seed=3, backend="cpu"), whole[:n])
        assert_same(rbm_free_energy(**t | {"v": t["v"][:n]}, reduction="none", backend="cpu"), energies[:n])
    for count in (2, 3, 8):
        with threads(count):
            assert_same(rbm_gibbs(**t, steps=2, seed=3, backend="cpu"), whole)


def test_no_steps_and_no_units(target):
    t = given(4, 5, 3, target)
    state = rbm_gibbs(**t, steps=0, seed=1, backend=target.backend)
    assert_same(state, t["v"])
    assert state.data_ptr() != t["v"].data_ptr()
    for n, visible, hidden in ((0, 3, 2), (3, 0, 2), (3, 4, 0)):
        t = given(n, visible, hidden, target)
        v, h = rbm_gibbs(**t, steps=2, seed=1, return_hidden=True, backend=target.backend)
        assert_same(v, rbm_gibbs(**t, steps=2, seed=1, backend="reference"))
        assert v.shape == (n, visible) and h.shape == (n, hidden)


def test_seeds_generators_and_the_default_generator(target):
    t = given(64, 9, 8, target)

    def draw(**options):
        return rbm_gibbs(**t, **options, backend=target.backend)

    assert (draw(seed=1) != draw(seed=2)).any()
    assert_same(draw(seed=torch.tensor(-5, device=target.device)), draw(seed=-5))
    generators = [torch.Generator(target.device).manual_seed(3) for _ in range(2)]
    first = draw(generator=generators[0])
    assert_same(draw(generator=generators[1]), first)
    assert (draw(generator=generators[0]) != first).any()
    for _ in range(2):
        torch.manual_seed(4)
        drawn = draw()
        torch.manual_seed(4)
        assert_same(draw(), drawn)


@fast_targets
def test_chains_have_no_gradient(target):
    t = given(4, 5, 3, target)
    t["weight"].requires_grad_()
    v = t["v"].to(t["weight"].dtype).requires_grad_()
    for more in ({}, {"v": v}, {"v": v, "known_mask": v > 0}):  # what is known comes out as it went in
        for drawn in rbm_gibbs(**t | more, seed=1, return_hidden=True, backend=target.backend):
            assert not drawn.requires_grad
    assert not rbm_gibbs(**t | {"v": v}, seed=1, steps=0, backend=target.backend).requires_grad


@pytest.mark.slow
def test_contrastive_divergence_compiles():
    v, *parameters = (tensors(4, 5, 3)[k].float() for k in ("v", *PARAMETERS))

    def loss(v, *parameters):
        end = rbm_gibbs(v, *parameters, steps=2, seed=1)
        return rbm_free_energy(v, *parameters) - rbm_free_energy(end, *parameters)

    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        leaves = [p.detach().requires_grad_() for p in parameters]
        value = function(v, *leaves)
        results.append((value, *torch.autograd.grad(value, leaves)))
    torch.testing.assert_close(*results)


REFUSALS = {
    "levels": (ValueError, r"v: expected levels 0 \.\. 1, got 0 \.\. 2", {"v": torch.arange(20).view(4, 5) % 3}),
    "steps": (ValueError, r"steps: expected 0 \.\. 2\^30, got -1", {"steps": -1}),
    "steps float": (TypeError, r"steps: expected an int, got float", {"steps": 1.0}),
    "temperature": (ValueError, r"temperature: expected a finite number > 0, got 0", {"temperature": 0}),
    "temperature inf": (ValueError, r"temperature: expected a finite number > 0, got inf", {"temperature": math.inf}),
    "temperature huge": (ValueError, r"temperature: expected a finite number > 0", {"temperature": 10**400}),
    "temperature str": (TypeError, r"temperature: expected a number, got str", {"temperature": "1"}),
    "hidden of no steps": (ValueError, r"return_hidden: expected False of no steps", {"steps": 0, "return_hidden": True}),
    "return_hidden": (TypeError, r"return_hidden: expected a bool, got int", {"return_hidden": 1}),
    "mask dtype": (TypeError, r"known_mask: expected torch.bool, true where known", {"known_mask": torch.ones(4, 5)}),
    "mask shape": (ValueError, r"known_mask: expected the shape \[4, 5\], of v", {"known_mask": torch.ones(5).bool()}),
    "mask device": (ValueError, r"known_mask: expected a tensor on cpu", {"known_mask": torch.ones(4, 5, device="meta").bool()}),
    "seeds": (ValueError, r"generator: expected at most one", {"seed": 1, "generator": torch.Generator()}),
    "backend": (ValueError, r"backend: expected one of", {"backend": "gpu"}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_leave_the_generator_alone(name):
    error, match, options = REFUSALS[name]
    t = {k: x.float() if k in PARAMETERS else x for k, x in tensors(4, 5, 3).items()}
    before = torch.random.get_rng_state()
    with pytest.raises(error, match=f"rbm_gibbs: {match}"):
        rbm_gibbs(**t | options)
    with pytest.raises(TypeError, match=r"rbm_gibbs: weight: expected a torch\.Tensor"):
        rbm_gibbs(t["v"], None, t["visible_bias"], t["hidden_bias"])
    assert torch.equal(torch.random.get_rng_state(), before)
