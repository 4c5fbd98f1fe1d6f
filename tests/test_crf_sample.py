"""crf_sample on every backend: each tag inverts its own distribution function, taggings come as often as their chances."""

import math

import layouts
import pytest
import torch
from registry import SAMPLERS
from sampler_checks import assert_frequencies
from support import DTYPES, assert_same, dtype_name, fast_targets, instruction_set, isas, threads
from test_crf import paths, tensors, without_tags
from torch import Tensor

import pygen
from pygen.functional import crf_decode, crf_marginals, crf_sample

pytestmark = pytest.mark.usefixtures("poisoned")
SEED = -0x123456789ABCDEF
judge = next(op.judge for op in SAMPLERS if op.name == "crf_sample")
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
# (sequences, steps, tags, samples): why. Lengths vary, one is 0.
SHAPES = {
    "one tag": (1, 1, 1, 1),
    "odd everything": (5, 4, 3, 3),
    "a block plus one": (17, 3, 7, 2),
    "a lane's last block and group": (18, 5, 4, 9),
    "one sequence, many samples": (1, 7, 5, 37),
    "more steps than numbers at once": (3, 131, 5, 1),
    "many tags": (2, 4, 61, 2),
}
FEW = ("one tag", "odd everything", "one sequence, many samples")  # for Triton's interpreter


def given(n: int, steps: int, k: int, *, dtype: torch.dtype = torch.float64, **options) -> dict[str, Tensor]:
    t = without_tags(tensors(n, steps, k, **options))
    if n == 1:
        t.pop("lengths", None)
    return {name: v.to(dtype) if v.is_floating_point() else v for name, v in t.items()}


def on(target, t: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: v.to(target.device) for name, v in t.items()}


def lengths_of(t: dict[str, Tensor]) -> Tensor:
    n, steps, _ = t["emissions"].shape
    return t.get("lengths", torch.full((n,), steps))


def check(t: dict[str, Tensor], tags: Tensor, temperature: float = 1.0) -> None:
    judge(t, {"seed": SEED, "num_samples": len(tags), "temperature": temperature}, tags)


def draw(target, t: dict[str, Tensor], samples: int | None, seed: int = SEED, **options) -> Tensor:
    return crf_sample(**on(target, t), num_samples=samples, seed=seed, backend=target.backend, **options)


@pytest.mark.parametrize("name", SHAPES)
@each_dtype
def test_every_tag_inverts_its_distribution_function(name, dtype, target):
    if target.slow and (name not in FEW or dtype == torch.float16):
        pytest.skip("too large for Triton's interpreter")
    n, steps, k, samples = SHAPES[name]
    for wide in (1.0, 15.0):  # scaled sums; of logarithms
        for ends in (True, False) if not target.slow else (wide > 1,):
            t = given(n, steps, k, dtype=dtype, wide=wide, ends=ends)
            check(t, draw(target, t, samples))


@fast_targets
def test_backends_draw_alike(target):
    """In float64, where no number lies within rounding of a boundary; by logarithms too, range 600."""
    for n, steps, k, samples in SHAPES.values():
        for wide in (1.0, 200.0):
            t = given(n, steps, k, wide=wide)
            expected = crf_sample(**t, num_samples=samples, seed=SEED, backend="reference")
            assert_same(draw(target, t, samples).cpu(), expected)


def taggings_of(t: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """All taggings [K^T, T] of the first sequence, their chances."""
    scores, tags = paths({**t, "lengths": lengths_of(t)}, 0)
    return tags, scores.softmax(0)


@pytest.mark.parametrize("wide", (1.0, 15.0), ids=("scaled", "logarithms"))
@pytest.mark.parametrize(("steps", "k"), [(1, 4), (6, 2), (4, 3), (3, 4)], ids=str)
def test_taggings_come_as_often_as_their_chances(target, steps, k, wide):
    """All K^T of them, the rare ones together: chi-square. And each tag as often as its marginal."""
    if target.slow and steps != 4:
        pytest.skip("one size is enough for Triton's interpreter")
    draws = 500 if target.slow else 20_000
    t = given(1, steps, k, wide=wide)
    t["transitions"][0, 1] = -math.inf if wide > 1 else -3.0
    tags, chances = taggings_of(t)
    single = {name: v.float() for name, v in t.items()}
    drawn = draw(target, single, draws, seed=11)[:, 0].cpu()
    number = (drawn * k ** torch.arange(steps - 1, -1, -1)).sum(1)
    assert torch.equal(tags[number], drawn) and (chances[number] > 0).all()
    rare = (chances * draws < 5) & (chances > 0)
    pooled = torch.cat([chances.masked_fill(rare, 0), chances[rare].sum().view(1)])
    assert_frequencies(torch.where(rare[number], len(chances), number), pooled)
    marginals = crf_marginals(**t)[0]
    for step in range(steps):
        assert_frequencies(drawn[:, step], marginals[step])


def test_sequences_of_a_batch_and_their_samples_are_independent(target):
    """The same chain in each row: pairs of rows, of samples, and of seeds come as the product of chances has it."""
    draws = 160 if target.slow else 8_000
    t = given(1, 2, 2)
    t["emissions"] = t["emissions"].expand(3, 2, 2)
    _, chances = taggings_of(t)
    both = (chances.unsqueeze(1) * chances).flatten()
    one, other = (draw(target, t, draws, seed=seed).cpu() for seed in (1, 1 + 2**40))
    number, others = 2 * one[..., 0] + one[..., 1], 2 * other[..., 0] + other[..., 1]
    for a, b in ((number[:, 0], number[:, 1]), (number[::2, 2], number[1::2, 2]), (number[:, 1], others[:, 1])):
        assert_frequencies(4 * a + b, both)


# What draws do not depend on


@fast_targets
def test_draws_do_not_depend_on_batch_samples_padding_and_threads(target):
    for n, k, wide in ((19, 4, 1.0), (5, 20, 200.0)):
        t = given(n, 70, k, wide=wide, lengths=False)
        t["lengths"] = torch.randint(71, (n,), generator=torch.Generator().manual_seed(4))
        whole = draw(target, t, 3)
        assert_same(draw(target, t, None), whole[0])
        assert_same(draw(target, t, 2), whole[:2])
        some = {name: v[:4] if name in ("emissions", "lengths") else v for name, v in t.items()}
        assert_same(draw(target, some, 3), whole[:, :4].contiguous())
        longer = torch.cat([t["emissions"], torch.full((n, 9, k), math.nan, dtype=torch.float64)], 1)
        assert_same(draw(target, {**t, "emissions": longer}, 3)[..., :70].contiguous(), whole)
        for count in (1, 3):
            with threads(count):
                assert_same(draw(target, t, 3), whole)


@fast_targets
def test_emissions_in_any_layout(target):
    t = given(5, 4, 3)
    for maker in layouts.MAKERS:  # some repeat numbers
        laid = {**t, "emissions": maker(t["emissions"])}
        assert_same(draw(target, laid, 2), draw(target, {**t, "emissions": laid["emissions"].contiguous()}, 2))


@pytest.mark.slow
@pytest.mark.parametrize("isa", isas())
def test_each_instruction_set(isa):
    with instruction_set(isa):
        for n, steps, k, samples in SHAPES.values():
            for dtype, wide in ((torch.float32, 1.0), (torch.float64, 1.0), (torch.float32, 15.0)):
                t = given(n, steps, k, dtype=dtype, wide=wide)
                check(t, crf_sample(**t, num_samples=samples, seed=SEED, backend="cpu"))


# What cannot come, and what is no number


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=dtype_name)
def test_what_cannot_come_is_never_drawn(target, dtype):
    t = given(5, 4, 4, dtype=dtype, lengths=False)
    samples = 8 if target.slow else 300
    for constrained in (False, True):  # emissions and start alone leave sums scaled
        t["start"][2] = t["emissions"][:, 1, 3] = -math.inf
        if constrained:
            t["transitions"][0, 1] = t["transitions"][3, :3] = t["end"][1] = -math.inf
        tags = draw(target, t, samples).cpu()
        assert (tags[..., 0] != 2).all() and (tags[..., 1] != 3).all()
        if constrained:
            moves = set(zip(tags[..., :-1].flatten().tolist(), tags[..., 1:].flatten().tolist(), strict=True))
            assert not moves & {(0, 1), (3, 0), (3, 1), (3, 2)} and (tags[..., -1] != 1).all()
        check(t, tags)


def test_a_path_that_is_worth_nothing_until_its_last_step(target):
    """Both sides of the scaled range: what is to come weighs as much as the states lie apart."""
    for where in ("transitions", "end"):
        for span in (39.5, 40.0, 41.0, 300.0)[1 if target.slow else 0 :]:
            e = torch.zeros(1, 3, 2, dtype=torch.float64)
            e[0, :, 1] = -span / (3 if where == "end" else 1)
            t = {"emissions": e, "transitions": e.new_zeros(2, 2), "end": e.new_zeros(2)}
            t[where][..., 0] -= span
            t = {name: v.float() for name, v in t.items()}
            check(t, draw(target, t, 4 if target.slow else 40))


@pytest.mark.parametrize("where", ("emissions", "transitions", "start", "end"))
def test_where_nothing_can_come_or_is_no_number_tags_are_tags(target, where):
    if target.slow and where in ("start", "end"):
        pytest.skip("two places are enough for Triton's interpreter")
    for value in (-math.inf, math.nan, math.inf)[: 2 if target.slow else 3]:
        t = given(5, 4, 3, dtype=torch.float32)
        if where == "emissions":
            t[where][0, 2] = value
        else:
            t[where].fill_(value)
        tags = draw(target, t, 3).cpu()
        live = torch.arange(4) < t["lengths"].unsqueeze(1)
        assert (((tags >= 0) & (tags < 3)) == live).all() and (tags[:, ~live] == -1).all()
        if where == "emissions":  # other sequences go their way
            clean = given(5, 4, 3, dtype=torch.float32)
            assert_same(tags[:, 1:].contiguous(), draw(target, clean, 3)[:, 1:].contiguous().cpu())


def test_below_the_check_a_wrong_length_is_no_tags(target):
    """As on a GPU, where to look would be to wait; on a CPU it raises."""
    launcher = pygen._backends.load_launcher("crf", target.backend)
    t = on(target, given(5, 4, 3, dtype=torch.float32))
    expected = launcher.sample(*t.values(), torch.tensor(SEED, device=target.device), 2)
    t["lengths"][0], t["lengths"][2] = 5, -1
    got = launcher.sample(*t.values(), torch.tensor(SEED, device=target.device), 2)
    assert (got[:, [0, 2]] == -1).all()
    assert_same(got[:, [1, 3, 4]], expected[:, [1, 3, 4]])
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"crf_sample: lengths: expected 0 .. 4, got -1 .. 5"):
        crf_sample(**{name: v.cpu() for name, v in t.items()})
    assert torch.equal(torch.get_rng_state(), state), "a seed was drawn"


def test_nothing_to_draw(target):
    for n, steps, samples in ((0, 3, 2), (3, 0, 2), (3, 2, 0)):
        t = given(n, steps, 2, dtype=torch.float32, lengths=False)
        assert draw(target, t, samples).shape == (samples, n, steps)
    t = given(3, 2, 2, dtype=torch.float32)
    t["lengths"].zero_()
    assert (draw(target, t, None) == -1).all() and draw(target, t, None).shape == (3, 2)


# Temperature


def test_temperature_divides_the_scores(target):
    for temperature in (0.5, 3.0):
        t = given(5, 4, 3, dtype=torch.float32)
        tags = draw(target, t, 5, temperature=temperature)
        check(t, tags, temperature)


def test_temperatures_at_both_ends(target):
    t = given(4, 6, 3, dtype=torch.float32, wide=3.0)
    t["start"][1] = -math.inf
    best, _ = crf_decode(**t)
    for temperature in (1e-30, 1e-5):
        assert_same(draw(target, t, None, temperature=temperature).cpu(), best)
    for temperature in (1e30, 1.7e308)[: 1 if target.slow else 2]:
        hot = draw(target, t, 40, temperature=temperature).cpu()
        assert set(hot[:, 0, 1:].flatten().tolist()) == {0, 1, 2} and set(hot[:, 0, 0].tolist()) == {0, 2}
