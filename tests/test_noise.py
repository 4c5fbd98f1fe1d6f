"""Noise: Philox4x32-10 word for word, normals within 6 ulp on every backend and instruction set, a function of index alone."""

import ctypes
import hashlib
import itertools
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import philox_numpy
import pytest
import torch
from support import SEED, instruction_set, isas, threads, ulps

from pygen import _noise
from pygen.functional import reparameterize_kl
from pygen.reference import noise

MOST_ULP = 6.0
ROOT = Path(__file__).resolve().parent.parent
SEEDS = (0, 1, -1, SEED, 2**63 - 1, -(2**63), 1 << 32, -(1 << 32))
# As setup.py compiles csrc/cpu: floats in a vector, flags.
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
BUILDS = {"baseline": (4, []), "avx2": (8, AVX2), "avx2x2": (16, AVX2)}
BUILDS["avx512"] = (16, ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c"])
compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
each_isa = pytest.mark.parametrize("isa", isas())


def draw(shape, dtype=torch.float32, backend=None, device="cpu", **options):
    """The noise itself: z of mu = 0, logvar = 0."""
    zero = torch.zeros(shape, dtype=dtype, device=device)
    return reparameterize_kl(zero, zero, backend=backend, **options)[0].cpu()


@pytest.mark.parametrize("name", philox_numpy.KNOWN_ANSWERS)
def test_numpy_and_reference_give_the_known_answers(name):
    counter, key, expected = philox_numpy.KNOWN_ANSWERS[name]
    assert " ".join(f"{w:08x}" for w in philox_numpy.philox(counter, key)) == expected
    tensors = noise.philox4x32_10(tuple(map(torch.tensor, counter)), tuple(map(torch.tensor, key)))
    assert " ".join(f"{w:08x}" for w in tensors) == expected


@pytest.mark.parametrize("seed", SEEDS, ids=hex)
def test_reference_words_equal_numpy(seed):
    words = noise.words(4 * 1000 + 3, torch.tensor(seed), 3, 5)
    assert words.shape == (3, 1001, 4)
    for k in range(3):
        assert np.array_equal(words[k].numpy(), philox_numpy.words(seed, 0, 1001, k, 5).astype(np.int64))


def test_reference_normals_equal_numpy_at_edge_words():
    pairs = np.array(list(itertools.product(philox_numpy.edge_words(), repeat=2)))
    expected = philox_numpy.box_muller(pairs[:, 0], pairs[:, 1])
    uniforms = [noise.uniform(torch.from_numpy(pairs[:, i].astype(np.int64))) for i in range(2)]
    assert all(np.array_equal(u.numpy(), philox_numpy.uniform(pairs[:, i])) for i, u in enumerate(uniforms))
    assert all(u.min() > 0 and u.max() == 1 for u in uniforms)
    for z, ref in zip(noise.box_muller(*uniforms), expected, strict=True):
        np.testing.assert_allclose(z.numpy(), ref, rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
def test_draws_are_within_6_ulp_of_numpy(target, dtype):
    n = 2**12 + 3 if target.slow else 2**17 + 3
    z = draw((n,), dtype, target.backend, target.device, seed=SEED)
    ref = torch.from_numpy(philox_numpy.normals(SEED, 0, (n + 3) // 4)[:n])
    if dtype == torch.float64:
        torch.testing.assert_close(z, ref, rtol=1e-14, atol=0)
    else:
        assert ulps(z, ref).max() <= (0.51 if target.backend == "reference" else MOST_ULP)


@pytest.mark.slow
@each_isa
def test_ten_million_draws_are_within_6_ulp(isa):
    shape, worst = (2, 1_000_000), 0.0
    with instruction_set(isa):
        for seed in range(5):
            z = draw(shape, seed=seed, backend="cpu").reshape(-1)
            ref = torch.from_numpy(philox_numpy.normals(seed, 0, z.numel() // 4))
            assert z.isfinite().all()
            worst = max(worst, ulps(z, ref).max().item())
    assert worst <= MOST_ULP, f"{worst} ulp"


@cache
def harness(isa: str) -> ctypes.CDLL:
    lanes, flags = BUILDS[isa]
    command = ["g++", "-std=c++17", "-O2", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", *flags]
    command += [f"-DPYGEN_ISA={isa}", f"-DPYGEN_LANES={lanes}", f"-I{ROOT / 'csrc'}", ROOT / "tests/noise_harness.cpp"]
    key = hashlib.sha256(repr(command).encode())
    for path in (command[-1], *sorted((ROOT / "csrc").glob("c*/*.h"))):
        key.update(path.read_bytes())
    output = ROOT / "build" / "noise_harness" / f"{isa}-{key.hexdigest()[:16]}.so"
    if not output.exists():
        output.parent.mkdir(parents=True, exist_ok=True)
        part = output.with_suffix(f".{os.getpid()}.part")
        subprocess.run([*command, "-o", part], check=True)
        os.replace(part, output)
    library = ctypes.CDLL(str(output))
    for name in ("normals_float", "normals_double"):
        getattr(library, name).argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64, ctypes.c_int64] + [
            ctypes.c_uint32
        ] * 2
    for name in ("box_muller_float", "box_muller_double"):
        getattr(library, name).argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int64]
    library.words.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_uint32] * 2
    return library


@compiler
@each_isa
@pytest.mark.parametrize("real", (np.float32, np.float64))
def test_cpu_normals_at_edge_words_are_within_6_ulp(isa, real):
    """Every pair of edge words: quadrant bounds, both ends of u, where float32(word) rounds up to 2^32."""
    edges = philox_numpy.edge_words()
    pairs = np.array(list(itertools.product(edges, repeat=2)), dtype=np.uint32)
    pairs = np.concatenate((pairs, pairs[: -len(pairs) % 16]))
    word0, word1 = np.ascontiguousarray(pairs.T)
    z = np.full((2, len(pairs)), np.nan, dtype=real)
    run = harness(isa).box_muller_float if real is np.float32 else harness(isa).box_muller_double
    run(word0.ctypes.data, word1.ctypes.data, z[0].ctypes.data, z[1].ctypes.data, len(pairs))
    for got, ref in zip(z, philox_numpy.box_muller(word0, word1), strict=True):
        assert np.isfinite(got).all()
        if real is np.float32:
            assert ulps(torch.from_numpy(got), torch.from_numpy(ref)).max() <= MOST_ULP
            # Where the angle is a whole quarter turn the cosine or sine is exactly zero.
            assert ((got == 0) == (ref.astype(np.float32) == 0)).all()
        else:
            np.testing.assert_allclose(got, ref, rtol=1e-14, atol=0)


@compiler
@each_isa
@pytest.mark.parametrize("seed", SEEDS, ids=hex)
def test_cpu_noise_at_counters_beyond_32_bits(isa, seed):
    """Quads past 2^32 (tensors past 2^34 elements), every Monte-Carlo sample and domain; no write beyond the padding."""
    library, quads = harness(isa), 53
    padding = 4 * library.lanes()
    for first in (0, 1, 2**32 - 20, 2**32, 2**40 + 7, 2**62 - 1):
        for k, domain in ((0, 0), (2**32 - 1, 1)):
            ref = philox_numpy.normals(seed, first, quads, k, domain)
            for real, run in ((np.float32, library.normals_float), (np.float64, library.normals_double)):
                z = np.full(4 * quads + 2 * padding, -7.0, dtype=real)
                run(z.ctypes.data, seed, first, quads, k, domain)
                assert (z[4 * quads + padding :] == -7).all()
                error = ulps(torch.from_numpy(z[: 4 * quads].astype(np.float32)), torch.from_numpy(ref)).max()
                assert error <= MOST_ULP


@compiler
@each_isa
@pytest.mark.parametrize("name", philox_numpy.KNOWN_ANSWERS)
def test_cpu_scalar_words_are_the_known_answers(isa, name):
    counter, key, expected = philox_numpy.KNOWN_ANSWERS[name]
    out, given = np.zeros(4, np.uint32), np.array(counter, np.uint32)
    harness(isa).words(out.ctypes.data, given.ctypes.data, *key)
    assert " ".join(f"{w:08x}" for w in out) == expected


def test_noise_is_a_function_of_the_logical_index(target):
    """Whatever the shape, the layout or the number of samples."""
    n, size = (24, 4 * 9 * 5)
    flat = draw((n * size,), backend=target.backend, device=target.device, seed=3)
    assert torch.equal(draw((n, size), backend=target.backend, device=target.device, seed=3).reshape(-1), flat)
    images = torch.zeros(n, 4, 9, 5, device=target.device)
    for laid in (
        images,
        images.to(memory_format=torch.channels_last),
        images.transpose(0, 3).contiguous().transpose(0, 3),
    ):
        z = reparameterize_kl(laid, laid, seed=3, backend=target.backend)[0].cpu()
        assert torch.equal(z.reshape(-1), flat)
    shorter = draw((n * size - 5,), backend=target.backend, device=target.device, seed=3)
    assert torch.equal(shorter, flat[:-5])
    samples = draw((n * size,), backend=target.backend, device=target.device, seed=3, num_samples=3)
    assert samples.shape == (3, n * size) and torch.equal(samples[0], flat)
    assert not (samples[1] == flat).any() and not (samples[1] == samples[2]).any()
    zero = torch.zeros(n * size, device=target.device)
    half = draw((n * size,), torch.bfloat16, target.backend, target.device, seed=3)
    assert torch.equal(half, flat.bfloat16())
    one = torch.zeros(1, device=target.device)  # a broadcast logvar draws for mu's shape
    assert torch.equal(reparameterize_kl(zero, one, seed=3, backend=target.backend)[0].cpu(), flat)


@each_isa
def test_noise_does_not_depend_on_threads_or_width(isa):
    shape = (70, 1001)
    ref = torch.from_numpy(philox_numpy.normals(9, 0, 70 * 1001 // 4 + 1)[: 70 * 1001]).reshape(shape)
    with instruction_set(isa):
        first = draw(shape, seed=9, backend="cpu")
        for n in (1, 2, 5):
            with threads(n):
                assert torch.equal(draw(shape, seed=9, backend="cpu"), first)
    assert ulps(first, ref).max() <= MOST_ULP  # so the integers are equal on every instruction set


def test_all_64_bits_of_the_seed_count(target):
    n = 64
    drawn = [
        draw((n,), backend=target.backend, device=target.device, seed=s) for s in (*SEEDS, 1 << 31, 1 << 33, 1 << 62)
    ]
    for a, b in itertools.combinations(drawn, 2):
        assert (a == b).sum() <= 1


@pytest.mark.parametrize("seed", (-5, 2**40 + 1))
def test_seed_as_an_int_and_as_a_tensor_are_equal(target, seed):
    for dtype in (torch.float32, torch.float64):
        a = draw((33,), dtype, target.backend, target.device, seed=seed)
        b = draw((33,), dtype, target.backend, target.device, seed=torch.tensor(seed, device=target.device))
        assert torch.equal(a, b)


def test_manual_seed_reproduces_and_calls_do_not_repeat():
    torch.manual_seed(11)
    first = [draw((1000,)) for _ in range(5)]
    torch.manual_seed(11)
    again = [draw((1000,)) for _ in range(5)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for a, b in itertools.combinations(first, 2):
        assert not np.isin(a.numpy(), b.numpy()).mean() > 0.01, "two calls share numbers"


def test_generator_advances_alone():
    generator = torch.Generator().manual_seed(5)
    before, default = generator.get_state(), torch.get_rng_state()
    first = draw((100,), generator=generator)
    assert torch.equal(torch.get_rng_state(), default), "the default generator moved"
    assert not torch.equal(generator.get_state(), before)
    second = draw((100,), generator=generator)
    assert not torch.equal(first, second)
    generator.manual_seed(5)
    assert torch.equal(draw((100,), generator=generator), first)
    torch.manual_seed(5)
    assert torch.equal(draw((100,)), first), "both kinds of generator draw alike"


def test_seeds_are_drawn_over_the_full_range():
    seeds = torch.stack([_noise.draw_seed(torch.device("cpu")) for _ in range(2000)])
    assert len(seeds.unique()) == 2000
    ones = torch.stack([(seeds >> bit) & 1 for bit in range(64)]).double().mean(1)
    assert ((ones - 0.5).abs() < 5 * 0.5 / 2000**0.5).all(), "a bit of the seed is stuck"


@pytest.mark.parametrize("backend", (pytest.param("reference", marks=pytest.mark.slow), "cpu"))
def test_draws_for_many_seeds_are_standard_normal(backend):
    """Moments, tails and a chi-square test; also across seeds at one index, and between neighbours."""
    stats = pytest.importorskip("scipy.stats")
    count, size = 400, 1000
    z = torch.stack([draw((size,), torch.float64, backend, seed=s * 7919 - 100) for s in range(count)])
    n = z.numel()
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(z.pow(power).mean() - expected) < 5 * (variance / n) ** 0.5, f"moment {power}"
    for t in (2, 3, 4):
        p = 2 * stats.norm.sf(t)
        assert abs((z.abs() > t).sum() - n * p) < 5 * (n * p) ** 0.5, f"tail beyond {t}"
    edges = stats.norm.ppf(np.linspace(0, 1, 101)[1:-1])
    for numbers in (z.flatten(), z[:, 0], z[:, 1], z[:, 2], z[:, 3], z[0]):
        bins = np.bincount(np.searchsorted(edges, numbers.numpy()), minlength=100)
        assert 1e-6 < stats.chisquare(bins).pvalue < 1 - 1e-6
    for a, b in ((z[:, :-1], z[:, 1:]), (z[:, :-2], z[:, 2:]), (z[:, :-4], z[:, 4:]), (z[:-1], z[1:])):
        assert abs((a * b).mean()) < 5 / a.numel() ** 0.5
        assert abs((a.square() * b.square()).mean() - 1) < 5 * (8 / a.numel()) ** 0.5


@pytest.mark.slow
def test_tails_of_a_hundred_million_draws():
    """|z| > 5 about 5.7e-7 of the time, and never beyond what 32-bit uniforms can give."""
    n, far, largest = 4_000_000, 0, 0.0
    zero = torch.zeros(1).expand(n)
    for seed in range(25):
        z = reparameterize_kl(zero, zero, seed=seed, backend="cpu")[0].abs()
        far += int((z > 5).sum())
        largest = max(largest, z.max().item())
    expected = 25 * n * 5.733e-7
    assert abs(far - expected) < 5 * expected**0.5 and 5 < largest < 6.77


def test_the_draw_of_a_seed_is_known_to_be_random():
    """Else the compiler's partitioner may make it again in backward, and another one."""
    assert torch.Tag.nondeterministic_seeded in torch.ops.pygen.draw_seed.default.tags
