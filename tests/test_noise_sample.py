"""noise_table and noise_sample: the law of a table, and draws that every backend makes bit for bit."""

import math

import pytest
import torch
from philox_numpy import words as philox_words
from support import SEED, TARGETS, assert_same, fast_targets, threads

from pygen.functional import noise_sample, noise_table
from pygen.reference import noise_sample as reference

each_target = pytest.mark.parametrize("target", TARGETS, ids=str)


def law(table):
    """What a table draws, summed over its columns in float64."""
    keep, alias = table[:, 0].double() * 2.0**-63, table[:, 1]
    chances = torch.zeros(len(table), dtype=torch.float64).index_add(0, alias, 1 - keep)
    return (chances + keep) / len(table)


@pytest.mark.parametrize(
    "counts",
    (
        torch.tensor([5.0]),
        torch.tensor([0.0, 3.0, 0.0, 1.0]),
        torch.ones(7),
        1e6 / torch.arange(1, 1001).float(),  # fp32 whose sum is not 1, in any order
        torch.tensor([1e-30, 1e30, 0.0, 1e29]),
        torch.arange(64) % 3,
        torch.cat((torch.zeros(500), torch.rand(501, generator=torch.Generator().manual_seed(2)))),
    ),
    ids=("one", "zeros", "equal", "zipf", "wide", "integers", "random"),
)
def test_noise_table_has_the_law_of_the_counts(counts):
    for power in (0, 0.75, 1.0):
        weights = torch.where(counts > 0, counts.double() ** power, 0)
        q = weights / weights.sum()
        table = noise_table(counts, power)
        assert table.dtype == torch.int64 and table.shape == (len(counts), 3)
        torch.testing.assert_close(law(table), q, rtol=1e-9, atol=1e-15)
        torch.testing.assert_close(table[:, 2].view(torch.float64).exp(), q, rtol=1e-12, atol=0)
        never = counts == 0
        assert (table[never, 0] == 0).all() and not torch.isin(table[:, 1], never.nonzero()).any()


def test_noise_table_of_chances_whose_sum_is_not_1():
    """What is left over then goes to the likeliest class, never to one of chance 0."""
    q = torch.tensor([0.0, 0.0, 0.5, 0.2, 0.0, 0.3], dtype=torch.float64)
    for scale in (0.3, 1 - 1e-7, 1 + 1e-7, 1.1):
        chances = law(reference.table(q * scale))
        assert not chances[q == 0].any()
        torch.testing.assert_close(chances.sum(), torch.tensor(1.0, dtype=torch.float64))
        torch.testing.assert_close(chances, q, rtol=0, atol=2 * abs(scale - 1))


@fast_targets
def test_noise_sample_draws_the_law(target):
    counts = torch.tensor([0.0, 5, 1, 10, 0, 3, 1e-3], device=target.device)
    table = noise_table(counts, power=1.0)
    n = 40_000
    found = noise_sample(table, (200, n // 200), seed=3, backend=target.backend).cpu().flatten().bincount(minlength=7)
    q = (counts / counts.sum()).cpu().double()
    assert (found[q == 0] == 0).all()
    live = q > 1e-3
    chi = ((found[live] - n * q[live]) ** 2 / (n * q[live])).sum()
    assert chi < 25  # of 3 degrees of freedom: 2e-5


def test_noise_sample_by_hand():
    """The words of Philox, with Python's integers."""
    counts = torch.arange(1, 38).float()
    table = noise_table(counts)
    drawn = noise_sample(table, (3, 5), seed=SEED, backend="reference")
    for n in range(3):
        for k in range(5):
            words = [int(w) for w in philox_words(SEED, k, 1, sample=n, domain=7)[0]]
            column = ((words[0] << 32) + words[1]) * 37 >> 64
            kept = (words[2] << 31) + (words[3] >> 1)
            assert drawn[n, k] == (column if kept < table[column, 0] else table[column, 1])


@each_target
@pytest.mark.parametrize("size", ((1, 1), (3, 257), (0, 4), (5, 0), 300), ids=str)
def test_noise_sample_is_the_same_on_every_backend(target, size):
    for classes in (1, 3, 1000):
        table = noise_table(1 / torch.arange(1.0, classes + 1, device=target.device))
        for seed in (0, SEED):
            expected = noise_sample(table, size, seed=seed, backend="reference")
            assert_same(noise_sample(table, size, seed=seed, backend=target.backend), expected)
            if isinstance(size, tuple) and size[0] > 1:  # rows and draws do not depend on how many there are
                part = noise_sample(table, (2, size[1] // 2), seed=seed, backend=target.backend)
                assert_same(part, expected[:2, : size[1] // 2])


@fast_targets
def test_noise_sample_of_many_threads_strides_and_half(target):
    table = noise_table(torch.arange(1.0, 500, device=target.device))
    turned = table.t().contiguous().t()
    results = []
    for count in (1, 4):
        with threads(count):
            results.append(noise_sample(table if count == 1 else turned, (40, 300), seed=9, backend=target.backend))
    assert_same(*results)


@each_target
def test_noise_sample_of_many_classes_on_every_backend(target):
    """Columns are told by 64 bits; with 32 some draws would be others."""
    classes = 999_983
    every = torch.arange(classes, device=target.device)
    table = torch.stack((torch.full_like(every, 2**63 - 1), every, every), 1)
    drawn = noise_sample(table, 40_000, seed=5, backend=target.backend)
    pairs = philox_words(5, 0, 40_000, domain=7)[:, :2].tolist()
    assert drawn.tolist() == [((a << 32) + b) * classes >> 64 for a, b in pairs]
    assert any(a * classes >> 32 != ((a << 32) + b) * classes >> 64 for a, b in pairs)


def test_noise_sample_compiles_and_draws_from_torchs_generator():
    table = noise_table(torch.ones(9))
    torch.manual_seed(0)
    a, b = noise_sample(table, (4, 6)), noise_sample(table, (4, 6))
    torch.manual_seed(0)
    assert_same(noise_sample(table, (4, 6)), a)
    assert not a.equal(b)
    g = torch.Generator().manual_seed(4)
    assert noise_sample(table, 5, generator=g).shape == (5,)
    run = torch.compile(lambda t: noise_sample(t, (4, 6), seed=3), fullgraph=True, backend="aot_eager")
    assert_same(run(table), noise_sample(table, (4, 6), seed=3))
    torch.library.opcheck(torch.ops.pygen.noise_sample.default, (table, torch.tensor(3), 4, 6, "auto"))


BAD = {
    "counts list": (lambda: noise_table([1.0]), TypeError, r"noise_table: counts: expected a torch.Tensor, got list"),
    "counts bool": (lambda: noise_table(torch.ones(3, dtype=torch.bool)), TypeError, r"counts: expected a floating or"),
    "counts dims": (lambda: noise_table(torch.ones(3, 1)), ValueError, r"counts: expected \[C\], .* got \[3, 1\]"),
    "counts none": (lambda: noise_table(torch.ones(0)), ValueError, r"counts: expected \[C\], 1 .. "),
    "counts negative": (lambda: noise_table(torch.tensor([1.0, -1])), ValueError, r"counts: expected finite numbers >= 0"),
    "counts NaN": (lambda: noise_table(torch.tensor([1, math.nan])), ValueError, r"counts: expected finite numbers >= 0"),
    "counts zeros": (lambda: noise_table(torch.zeros(3)), ValueError, r"counts: expected .* not all 0"),
    "power": (lambda: noise_table(torch.ones(3), -1.0), ValueError, r"power: expected 0 .. 16, got -1.0"),
    "power bool": (lambda: noise_table(torch.ones(3), True), TypeError, r"power: expected a number, got bool"),
    "table": (lambda: noise_sample(torch.ones(3, 3), 2), TypeError, r"noise_sample: noise: expected an int64 table"),
    "table dims": (lambda: noise_sample(torch.ones(3, 2).long(), 2), ValueError, r"noise: expected a table \[C, 3\]"),
    "size": (lambda: noise_sample(noise_table(torch.ones(3)), 2.0), TypeError, r"size: expected an int or two in a tuple"),
    "size three": (lambda: noise_sample(noise_table(torch.ones(3)), (1, 2, 3)), TypeError, r"size: expected an int or two"),
    "size negative": (lambda: noise_sample(noise_table(torch.ones(3)), -1), ValueError, r"size: expected 0 .. 2\^31 - 1 draws"),
    "size large": (lambda: noise_sample(noise_table(torch.ones(3)), (1 << 16, 1 << 15)), ValueError, r"size: expected 0 .. "),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_noise_bad_arguments_are_refused_by_name(name):
    make, kind, match = BAD[name]
    state = torch.get_rng_state()
    with pytest.raises(kind, match=match):
        make()
    assert_same(torch.get_rng_state(), state)
