"""How samplers are tested: each draw against its own uniform number, frequencies against chances, seeds, layouts and calls."""

import math
import random

import pytest
import torch
from support import assert_same, check_form, threads
from torch import Tensor

from pygen.reference import _sampler

ROUNDING = {torch.float64: 1e-12}  # of a cumulated probability
ROUNDING |= dict.fromkeys((torch.float32, torch.bfloat16, torch.float16), 4e-6)


def uniforms(n: int, positions: int, channels: int, seed: int, domain: int) -> Tensor:
    """float64 [N, C, positions]"""
    return _sampler.position_uniforms(n, positions, channels, torch.tensor(seed), domain).double()


def assert_inverts(levels: Tensor, chances: Tensor, u: Tensor, rounding: float) -> None:
    """Each level [...] is where the cumulated chances [..., L], float64, reach its number u [...], but for their rounding."""
    up_to = chances.cumsum(-1)
    index = levels.long().unsqueeze(-1)
    to, own = up_to.gather(-1, index).squeeze(-1), chances.gather(-1, index).squeeze(-1)
    wrong = (u > to + rounding) | (u <= to - own - rounding) | (own == 0)
    assert not wrong.any(), f"{wrong.sum()} of {wrong.numel()} draws, first {wrong.nonzero()[0].tolist()}"


def chances_of(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits [..., L] / temperature), float64; where that is NaN, all of the first."""
    chances = ((logits - logits.amax(-1, keepdim=True)) / temperature).softmax(-1)
    first = torch.zeros(chances.shape[-1], dtype=chances.dtype)
    first[:1] = 1
    return torch.where(chances.isnan().any(-1, keepdim=True), first, chances)


def fuzz_options(rng: random.Random) -> dict[str, float | int]:
    seed = rng.choice((0, -1, 2**63 - 1, -(2**63), rng.randrange(2**31), rng.randrange(2**62)))
    return {"temperature": rng.choice((1.0, 1.0, 0.7, 2.5, 1e-3, 100.0, 3)), "seed": seed}


def assert_frequencies(levels: Tensor, chances: Tensor) -> None:
    """Chi-square of draws [S] under chances [L]: five standard deviations."""
    expected = chances * levels.numel()
    counts = torch.bincount(levels.long().flatten(), minlength=len(chances)).double()
    assert (counts[expected == 0] == 0).all()
    alive = expected > 0
    chi = ((counts - expected)[alive] ** 2 / expected[alive]).sum().item()
    freedom = int(alive.sum()) - 1
    assert abs(chi - freedom) <= 5 * math.sqrt(2 * max(freedom, 1)) + 5, (chi, freedom)


def check_calls(sample, params: Tensor) -> None:
    """sample(params, **options): seeds, generators, compiled regions, fakes, transforms, grad; on the CPU's default."""
    first = sample(params, seed=7)
    assert not first.requires_grad and not sample(params.clone().requires_grad_(), seed=7).requires_grad
    assert_same(sample(params, seed=torch.tensor(7)), first)
    assert not torch.equal(sample(params, seed=7 + 2**32), first)
    torch.manual_seed(3)
    drawn = [sample(params), sample(params)]
    assert not torch.equal(*drawn)
    torch.manual_seed(3)
    assert_same(sample(params), drawn[0])
    generator = torch.Generator().manual_seed(3)
    assert_same(sample(params, generator=generator), drawn[0])
    with threads(1):
        assert_same(sample(params, seed=7), first)
    for options, kind, match in (
        ({"seed": 1.0}, TypeError, "seed: expected an int"),
        ({"seed": 1, "generator": generator}, ValueError, "generator: expected at most one"),
        ({"temperature": 0}, ValueError, "temperature: expected a finite number > 0, got 0"),
        ({"temperature": math.inf}, ValueError, "temperature: expected a finite number > 0, got inf"),
        ({"temperature": math.nan}, ValueError, "temperature: expected a finite number > 0, got nan"),
        ({"temperature": 10**400}, ValueError, "temperature: expected a finite number > 0"),
        ({"temperature": True}, TypeError, "temperature: expected a number, got bool"),
        ({"backend": "gpu"}, ValueError, "backend: expected one of"),
        ({"backend": "cuda"}, RuntimeError, "backend 'cuda' cannot run"),
    ):
        state = torch.get_rng_state()
        with pytest.raises(kind, match=match):
            sample(params, **options)
        assert torch.equal(torch.get_rng_state(), state), "a seed was drawn"
    with torch.autograd.forward_ad.dual_level():  # nothing of it is differentiated
        dual = torch.autograd.forward_ad.make_dual(params, params) if params.is_floating_point() else params
        assert_same(sample(dual, seed=7), first)
        with pytest.raises(RuntimeError, match="backend 'cuda' cannot run"):
            sample(dual, backend="cuda")
        assert torch.equal(torch.get_rng_state(), state), "a seed was drawn"
    stacked = torch.stack((params, params))
    for drawn in torch.func.vmap(lambda p: sample(p, seed=7))(stacked):
        assert_same(drawn.contiguous(), first.contiguous())
    each = torch.func.vmap(sample, randomness="different")(stacked)
    assert not torch.equal(*each), "two entries drew equal noise"
    meta = sample(params.to("meta"), seed=7)
    check_form(meta, first, first.dtype, strides=first.stride(), what="meta")


def check_compiled(sample, params: Tensor) -> None:
    """Whole graphs, with a seed tensor and without: the draws of eager calls."""
    compiled = torch.compile(lambda p, s: (sample(p, seed=s), sample(p)), backend="aot_eager", fullgraph=True)
    seed = torch.tensor(7)
    torch.manual_seed(3)
    got = compiled(params, seed)
    torch.manual_seed(3)
    for a, b in zip(got, (sample(params, seed=seed), sample(params)), strict=True):
        assert_same(a, b)
