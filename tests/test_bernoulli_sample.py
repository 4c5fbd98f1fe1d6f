"""bernoulli_sample on every backend: each bit against its own uniform number, whatever holds the logits."""

import math

import layouts
import pytest
import torch
from registry import SAMPLERS
from sampler_checks import assert_frequencies, check_calls, check_compiled
from support import DTYPES, assert_same, dtype_name, fast_targets, instruction_set, isas, threads
from torch import Tensor

from pygen._noise import DOMAINS
from pygen.functional import bernoulli_nll, bernoulli_sample
from pygen.reference import bernoulli_sample as reference

judge = next(op.judge for op in SAMPLERS if op.name == "bernoulli_sample")
pytestmark = pytest.mark.usefixtures("poisoned")
SEED = -0x123456789ABCDEF
SHAPES = {
    "one draw": (1,),
    "odd everything": (7, 3, 5, 3),
    "one row": (331,),
    "flat": (5, 1030),
    "narrow rows": (331, 3),
    "several dims": (2, 3, 2, 5, 3),
    "blocks of positions": (2, 3, 700),
    "empty batch": (0, 5),
    "empty inner dim": (3, 0, 2),
}


def logits_of(name: str, dtype: torch.dtype = torch.float32) -> Tensor:
    g = torch.Generator().manual_seed(5)
    return (3 * torch.randn(SHAPES[name], generator=g, dtype=torch.float64)).to(dtype)


def check(logits: Tensor, temperature: float, x: Tensor) -> None:
    judge({"logits": logits}, {"temperature": temperature, "seed": SEED}, x)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_every_bit_is_that_of_its_number(name, dtype, target):
    logits = logits_of(name, dtype)
    x = bernoulli_sample(logits.to(target.device), temperature=0.7, seed=SEED, backend=target.backend)
    check(logits, 0.7, x)


@fast_targets
@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
def test_layouts_and_backends_draw_alike(maker, target):
    for name in ("odd everything", "flat", "blocks of positions", "several dims"):
        laid = maker(logits_of(name, torch.float64).to(target.device))
        got = bernoulli_sample(laid, seed=SEED, backend=target.backend)
        assert_same(got.cpu(), bernoulli_sample(laid.contiguous().cpu(), seed=SEED, backend="reference"))
        last = maker is layouts.channels_last and laid.dim() == 4
        assert got.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@pytest.mark.parametrize("isa", isas())
def test_each_instruction_set(isa):
    with instruction_set(isa):
        for dtype in DTYPES:
            for name in ("odd everything", "flat"):
                logits = logits_of(name, dtype)
                check(logits, 1.0, bernoulli_sample(logits, seed=SEED, backend="cpu"))


@fast_targets
def test_draws_do_not_depend_on_threads_and_batch(target):
    for name in ("odd everything", "narrow rows", "flat"):
        logits = logits_of(name).to(target.device)
        whole = bernoulli_sample(logits, seed=SEED, backend=target.backend)
        for count in (1, 3):
            with threads(count):
                assert_same(bernoulli_sample(logits, seed=SEED, backend=target.backend), whole)
        assert_same(bernoulli_sample(logits[:2].contiguous(), seed=SEED, backend=target.backend), whole[:2])


def test_frequencies_are_those_of_the_likelihood(target):
    for logit in (-2.5, 0.4, 3.0):
        one = torch.full((1, 1), logit, dtype=torch.float64)
        chances = torch.stack(
            [torch.exp(-bernoulli_nll(one, torch.full((1, 1), bit), reduction="sum")) for bit in (0, 1)]
        )
        many = one.float().to(target.device).expand(1, 40_000)
        assert_frequencies(bernoulli_sample(many, seed=2, backend=target.backend).cpu(), chances)


def test_small_chances_keep_their_digits(target):
    """Those of e^-10 come as often as in float64, those of e^-40 never."""
    y = torch.tensor([-10.0, 10.0, -40.0, 40.0]).to(target.device).repeat(1, 1 << (12 if target.slow else 18))
    x = bernoulli_sample(y, seed=4, backend=target.backend).cpu().view(-1, 4)
    ref = bernoulli_sample(y.double().cpu(), seed=4, backend="reference").view(-1, 4)
    assert_same(x[:, 2:], torch.tensor([0, 1], dtype=torch.uint8).expand(len(x), 2).contiguous())
    for column, rare in ((0, 1), (1, 0)):
        counts = [(t[:, column] == rare).sum().item() for t in (x, ref)]
        assert abs(counts[0] - counts[1]) <= 1 and (target.slow or 2 <= counts[0] <= 30), counts


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=dtype_name)
def test_infinite_logits_nan_and_temperatures_at_both_ends(target, dtype):
    inf, nan = math.inf, math.nan
    logits = torch.tensor([inf, -inf, nan, 2.0, -2.0], dtype=dtype, device=target.device).repeat(200, 1)

    def draw(temperature: float) -> Tensor:
        return bernoulli_sample(logits, temperature=temperature, seed=9, backend=target.backend).cpu()

    for temperature in (1e-310, 1e-45, 1e-3, 1.0, 1e30, 1.7e308):
        x = draw(temperature)
        assert (x[:, 0] == 1).all() and (x[:, 1:3] == 0).all()
        if temperature < 0.1:
            assert (x[:, 3] == 1).all() and (x[:, 4] == 0).all()
        elif temperature > 1:
            assert (x[:, 3:].float().mean(0) - 0.5).abs().max() < 0.2


def test_calls():
    check_calls(bernoulli_sample, logits_of("odd everything"))


@pytest.mark.slow
def test_compiled_and_registered():
    logits = logits_of("odd everything")
    check_compiled(bernoulli_sample, logits)
    args = (logits.requires_grad_(), torch.tensor(3), 0.5, "auto")
    torch.library.opcheck(torch.ops.pygen.bernoulli_sample.default, args)


@pytest.mark.parametrize(
    ("given", "kind", "match"),
    [
        (1.0, TypeError, "logits: expected a torch.Tensor, got float"),
        (torch.zeros(2, 4, dtype=torch.int64), TypeError, "logits: expected float64, .* got torch.int64"),
        (torch.zeros(()), ValueError, r"logits: expected at least one dim, \[N, ...\], got a 0-dim tensor"),
    ],
)
def test_refusals(given, kind, match):
    with pytest.raises(kind, match=f"bernoulli_sample: {match}"):
        bernoulli_sample(given)


def test_the_noise_has_a_domain_of_its_own():
    assert DOMAINS["bernoulli_sample"] == reference.DOMAIN
