"""categorical_sample on every backend: each draw inverts its distribution function, whatever holds the logits."""

import math

import layouts
import pytest
import torch
from registry import SAMPLERS
from sampler_checks import assert_frequencies, check_calls, check_compiled
from support import DTYPES, assert_same, dtype_name, fast_targets, instruction_set, isas, threads
from torch import Tensor

from pygen._noise import DOMAINS
from pygen.functional import categorical_nll, categorical_sample
from pygen.reference import categorical_sample as reference

judge = next(op.judge for op in SAMPLERS if op.name == "categorical_sample")
pytestmark = pytest.mark.usefixtures("poisoned")
SEED = -0x123456789ABCDEF
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
# (logits' shape, channels): why.
SHAPES = {
    "one draw": ((1, 2), 1),
    "odd everything": ((3, 15, 5, 3), 3),
    "rows of few levels": ((331, 3), 1),
    "rows of levels": ((5, 47), 1),
    "a block plus one": ((1, 2, 1025), 1),
    "many channels": ((2, 2 * 1030), 1030),
    "blocks of positions": ((1, 3 * 5, 700), 3),
    "blocks that begin inside a quad": ((1, 2 * 33, 40), 33),
    "256 levels": ((2, 256, 9, 7), 1),
    "as many levels as a tile has rows, and one": ((2, 1025, 3), 1),
    "levels of several tiles": ((2, 2500, 5), 1),
    "empty batch": ((0, 6, 2), 2),
    "no positions": ((2, 6, 0), 2),
}
SLOW = {"many channels", "levels of several tiles", "as many levels as a tile has rows, and one"}


def logits_of(name: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, int]:
    shape, channels = SHAPES[name]
    g = torch.Generator().manual_seed(5)
    return (2 * torch.randn(shape, generator=g, dtype=torch.float64)).to(dtype), channels


def check(logits: Tensor, channels: int, temperature: float, levels: Tensor, seed: int = SEED) -> None:
    judge({"logits": logits}, {"channels": channels, "temperature": temperature, "seed": seed}, levels)


@pytest.mark.parametrize("name", SHAPES)
@each_dtype
def test_every_draw_inverts_the_distribution_function(name, dtype, target):
    if target.slow and (name in SLOW or dtype == torch.float16):
        pytest.skip("too large for Triton's interpreter")
    logits, channels = logits_of(name, dtype)
    for temperature in (1.0, 0.4) if not target.slow else (0.4,):
        levels = categorical_sample(
            logits.to(target.device), channels=channels, temperature=temperature, seed=SEED, backend=target.backend
        )
        check(logits, channels, temperature, levels)


@fast_targets
@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
def test_layouts_and_backends_draw_alike(maker, target):
    """In float64, where no number lies within rounding of a boundary."""
    for name in ("odd everything", "rows of levels", "256 levels", "blocks of positions"):
        logits, channels = logits_of(name, torch.float64)
        laid = maker(logits.to(target.device))
        got = categorical_sample(laid, channels=channels, seed=SEED, backend=target.backend)
        plain = categorical_sample(laid.contiguous().cpu(), channels=channels, seed=SEED, backend="reference")
        assert_same(got.cpu(), plain)
        last = maker in (layouts.channels_last,) and laid.dim() == 4 and not laid.is_contiguous()
        assert got.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def test_levels_side_by_side_in_several_tiles():
    """More than one tile of 16384 of one draw, and its last levels."""
    g = torch.Generator().manual_seed(2)
    for dtype in (torch.float32, torch.float64):
        logits = torch.randn(6, 40_001, generator=g, dtype=dtype)
        logits[3:, :-3] -= 40
        logits[5, 30_000] = math.inf
        levels = categorical_sample(logits, seed=SEED, backend="cpu")
        check(logits[:5], 1, 1.0, levels[:5])
        assert levels[5] == 0 and (levels[3:5] >= 39_998).all()


@pytest.mark.parametrize("isa", isas())
def test_each_instruction_set(isa):
    with instruction_set(isa):
        for name in ("odd everything", "rows of levels", "blocks of positions", "levels of several tiles"):
            for dtype in DTYPES:
                logits, channels = logits_of(name, dtype)
                check(logits, channels, 0.7, categorical_sample(
                    logits, channels=channels, temperature=0.7, seed=SEED, backend="cpu"
                ))  # fmt: skip


@fast_targets
def test_draws_do_not_depend_on_threads_and_batch(target):
    for name in ("rows of few levels", "blocks of positions", "256 levels"):
        logits, channels = logits_of(name)
        logits = logits.to(target.device)

        def draw(some: Tensor, channels: int = channels) -> Tensor:
            return categorical_sample(some, channels=channels, seed=SEED, backend=target.backend)

        whole = draw(logits)
        for count in (1, 3):
            with threads(count):
                assert_same(draw(logits), whole)
        for first in (1, 2):
            assert_same(draw(logits[:first].contiguous()), whole[:first])


def test_frequencies_are_those_of_the_likelihood(target):
    g = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 2 * 6, 1, generator=g, dtype=torch.float64)
    logits[0, 7] = -math.inf
    draws = 300 if target.slow else 40_000
    many = logits.to(target.device).expand(-1, -1, draws).float()
    levels = categorical_sample(many, channels=2, seed=11, backend=target.backend).cpu()
    every = torch.arange(6).view(1, 1, 6).expand(1, 2, 6)
    for c in range(2):
        block = logits[:, 6 * c : 6 * c + 6].expand(-1, -1, 6)
        chances = torch.exp(
            -categorical_nll(block.transpose(0, 2).contiguous(), every[:, :1].transpose(0, 2), reduction="none")
        )
        assert_frequencies(levels[0, c], chances)


def special() -> tuple[Tensor, list[set[int]]]:
    """Logits [1, 40, positions], levels side by side or not, and what may come at each position."""
    inf, nan = math.inf, math.nan
    logits = torch.zeros(1, 40, 8)
    allowed = [set(range(40))] * 8
    for at, (where, value, levels) in enumerate([
        (slice(5, None), -inf, set(range(5))), (slice(0, 39), -inf, {39}), (slice(None), -inf, {0}), (7, inf, {0}),
        (slice(None), inf, {0}), (0, nan, {0}), (39, nan, {0}),
    ]):  # fmt: skip
        logits[0, where, at] = value
        allowed[at] = levels
    return logits, allowed


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=dtype_name)
def test_infinite_logits_and_nan(target, dtype):
    logits, allowed = special()
    for maker in (
        torch.clone,
        lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
        lambda t: t.mT.contiguous().mT,
    ):
        given = maker(logits.to(target.device, dtype))
        for seed in range(3 if target.slow else 20):
            levels = categorical_sample(given, seed=seed, backend=target.backend)[0, 0].tolist()
            assert all(level in some for level, some in zip(levels, allowed, strict=True)), levels


def test_temperatures_at_both_ends(target):
    logits = torch.tensor([[0.0, 3.0, 2.5, -math.inf]], device=target.device).expand(60, 4)
    for temperature in (1e-310, 1e-45, 1e-3):
        assert (categorical_sample(logits, temperature=temperature, seed=1, backend=target.backend) == 1).all()
    for temperature in (1e30, 1.7e308):
        hot = categorical_sample(logits, temperature=temperature, seed=1, backend=target.backend)
        assert set(hot.flatten().tolist()) == {0, 1, 2}


def test_calls():
    logits, _ = logits_of("odd everything")
    check_calls(lambda p, **options: categorical_sample(p, channels=3, **options), logits)
    check_calls(categorical_sample, logits.contiguous(memory_format=torch.channels_last))


@pytest.mark.slow
def test_compiled_and_registered():
    logits, _ = logits_of("odd everything")
    check_compiled(categorical_sample, logits)
    for dtype in (torch.float32, torch.bfloat16):
        args = (logits.to(dtype).requires_grad_(), torch.tensor(3), 3, 0.5, "auto")
        torch.library.opcheck(torch.ops.pygen.categorical_sample.default, args)


@pytest.mark.parametrize(
    ("given", "options", "kind", "match"),
    [
        (None, {}, TypeError, "logits: expected a torch.Tensor, got NoneType"),
        (torch.zeros(2, 4, dtype=torch.int64), {}, TypeError, "logits: expected float64, .* got torch.int64"),
        (torch.zeros(4), {}, ValueError, r"logits: expected at least two dims \[N, C \* L, ...\], got \[4\]"),
        (
            torch.zeros(2, 1),
            {},
            ValueError,
            r"logits: expected 2 .. 16777216 logits for each of 1 channel\(s\) .* got 1 in",
        ),
        (
            torch.zeros(2, 7),
            {"channels": 2},
            ValueError,
            r"logits: expected .* for each of 2 channel\(s\) along dim 1, got 7 in",
        ),
        (torch.zeros(2, 4), {"channels": 0}, ValueError, "channels: expected at least 1, got 0"),
        (torch.zeros(2, 4), {"channels": 2.0}, TypeError, "channels: expected an int, got float"),
    ],
)
def test_refusals(given, options, kind, match):
    with pytest.raises(kind, match=f"categorical_sample: {match}"):
        categorical_sample(given, **options)


def test_the_noise_has_a_domain_of_its_own():
    assert DOMAINS["categorical_sample"] == reference.DOMAIN
