"""Every sampling engine draws the same as the naive one, whatever the batch and the threads, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch
from pixel_twins import CASES, twins
from sampling_cases import OF_PROGRAMS, SHAPES, N, each_case, each_fast, first, naive, options
from sampling_cases import _one_thread as _one_thread
from sampling_check import check_samples
from support import poisoned_memory, threads
from torch import Tensor

from pygen.models import _cached, _cached_late, _engines, _sampling

# The same as naive


@each_fast
@each_case
def test_engine_equals_naive_in_float64(name: str, engine: str) -> None:
    _, model = twins(name)
    for shape in SHAPES:
        args = {"cond": CASES[name].conditions(N, *shape), "seed": 3, "engine": engine}
        for option, more in options(name, N, shape).items():
            n = N if option == "known" else 3  # an image does not depend on its batch-mates
            some = model.sample(n, shape, **first(n, {**args, **more}))
            assert torch.equal(some, naive(name, shape, option)[:n]), (shape, option)
        assert torch.equal(model.sample(1, shape, **first(1, args)), naive(name, shape, "plain")[:1])


@pytest.mark.slow
@each_fast
@pytest.mark.parametrize("name", ["plain", "plain-rgb", "gated", "gated-map", "rnn"])
def test_engine_equals_naive_on_large_images(name: str, engine: str) -> None:
    _, model = twins(name)
    args = {"cond": CASES[name].conditions(N, 28, 28), "seed": 3}
    few = first(3, {**args, **options(name, N, (28, 28))["block"]})
    expected = model.sample(3, (28, 28), engine="naive", **few)
    assert torch.equal(model.sample(3, (28, 28), engine=engine, **few), expected)
    single = {k: v[:1] if isinstance(v, Tensor) and len(v) == 3 else v for k, v in few.items()}
    one = model.sample(1, (28, 28), engine=engine, **single)
    assert torch.equal(one, expected[:1])
    many = model.sample(N, (28, 28), engine=engine, **args)
    assert torch.equal(model.sample(N, (28, 28), engine="cached", **args), many)


# Memory, threads, batches


@each_fast
def test_poisoned_memory_never_shows(engine: str) -> None:
    for name in ("plain-rgb", "gated-map"):
        _, model = twins(name)
        args = {"cond": CASES[name].conditions(N, 5, 3), "seed": 3, **options(name, N, (5, 3))["known"]}
        with poisoned_memory():
            assert torch.equal(model.sample(N, (5, 3), engine=engine, **args), naive(name, (5, 3), "known"))


@each_fast
def test_batch_split_and_thread_count_do_not_matter(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, _ = twins("gated-classes")
    base, model = twins("gated-classes", torch.float32)
    args = {"cond": CASES["gated-classes"].conditions(N), "seed": 1, **options("gated-classes", N, (6, 5))["known"]}
    whole = model.sample(N, (6, 5), engine=engine, **args)
    with threads(2):
        again = model.sample(N, (6, 5), engine=engine, **args)
    for constant in ("_PIXELS_AT_ONCE", "_ROWS_AT_ONCE", "_MULTIPLY_ADDS_AT_ONCE", "_LEAST_AT_ONCE"):
        monkeypatch.setattr(_engines, constant, 1)
    split = model.sample(N, (6, 5), engine=engine, **args)
    for images in (whole, again, split):
        assert check_samples(images, truth, base, **args).fine
    assert torch.equal(whole, again)


@each_fast
def test_two_threads_draw_as_one(engine: str) -> None:
    _, model = twins("gated")
    model.train()
    solo = [model.sample(5, (6, 6), seed=seed, engine=engine) for seed in range(4)]
    drawn: list[Tensor | None] = [None] * 4

    def work(seed: int) -> None:
        drawn[seed] = model.sample(5, (6, 6), seed=seed, engine=engine)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.equal(a, b) for a, b in zip(drawn, solo, strict=True))
    assert all(module.training for module in model.modules())


def test_two_samplers_interleave(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = twins("plain")
    _, other = twins("gated")
    solo = model.sample(3, (4, 4), seed=1), other.sample(2, (5, 3), seed=2)
    inner = []
    begin = _cached._Early.make_row

    def interleaved(early: object, y: int) -> None:
        if y == 2 and not inner:
            inner.append(None)
            inner[0] = other.sample(2, (5, 3), seed=2, engine="cached")
        begin(early, y)

    monkeypatch.setattr(_cached._Early, "make_row", interleaved)
    assert torch.equal(model.sample(3, (4, 4), seed=1, engine="cached"), solo[0])
    assert torch.equal(inner[0], solo[1])


def test_cached_memory_is_rows() -> None:
    _, model = twins("gated")
    sizes = []
    for height in (8, 80):
        drawing, _ = _sampling.prepare(
            "GatedPixelCNN",
            2,
            (1, height, 6),
            2,
            torch.device("cpu"),
            known=None,
            known_mask=None,
            temperature=1.0,
            seed=0,
            generator=None,
        )
        with torch.no_grad():
            program = model._program(None)
            early = _cached._Early(program, 2, 6)
            late = _cached_late.Late(program, drawing, early.rings)
        buffers = [ring.data for ring in early.rings.values()]
        buffers += [row.data for rows in (late.rows, late.rectified) for row in rows.values()] + list(
            late.base.values()
        )
        sizes.append(sum(t.numel() for t in buffers))
    assert sizes[0] == sizes[1]


@pytest.mark.slow
@pytest.mark.skipif("cpu" not in OF_PROGRAMS, reason="the C++ module did not load")
def test_cpu_memory_is_rows() -> None:
    """The process's highest memory: all streams of such a tall image would be 300 MB."""
    code = """
        import resource, torch
        from pygen import models
        torch.set_num_threads(THREADS)
        model = models.GatedPixelCNN(hidden_channels=64, num_blocks=2)
        peaks = []
        for height in (40, 20000):
            model.sample(1, (height, 4), seed=0, engine="cpu")
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        assert peaks[1] - peaks[0] < 16384, peaks
    """
    for count in (1, 2):
        source = textwrap.dedent(code).replace("THREADS", str(count))
        subprocess.run([sys.executable, "-c", source], check=True)


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the kernel does not say how much memory a process has"
)
def test_memory_is_flat_over_1000_images() -> None:
    """The process's highest memory: the first of ten calls settles it."""
    code = """
        import resource, torch
        from pygen import models
        torch.set_num_threads(1)
        model, made = models.GatedPixelCNN(hidden_channels=16, num_blocks=2), models.MADE(64, 50)
        for engine in ENGINES:
            peaks = []
            for seed in range(10):
                model.sample(100, (8, 8), seed=seed, engine=engine)
                made.sample(100, seed=seed, engine=engine)
                peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            assert peaks[-1] - peaks[1] < 2048, (engine, peaks)
    """
    source = textwrap.dedent(code).replace("ENGINES", repr(OF_PROGRAMS))
    subprocess.run([sys.executable, "-c", source], check=True)
