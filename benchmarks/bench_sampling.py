"""Sampling: whole forwards for every decision (naive, eager and compiled), each activation computed once in plain PyTorch
(the engine "cached", eager; `compiled_cached`, compiled), and the C++ engine.

Before the clock starts the engines must draw equal images in float64, the plain twin the same last pixels, and what is timed
what the noise selects. On a GPU pixel models run in bfloat16 too. A naive image takes seconds, so a few of its pixels are timed
and multiplied: such rows say "from K pixels". `--long` adds the large cases and compiles in every case, but for PixelCNN++ of
CIFAR's size, whose 16 kinds of pixels take a GPU's compiler half an hour: with PYGEN_BENCH_FULL=1.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType

import compiled_cached
import harness
import pytest
import torch
from attempts import attempt, failed
from harness import DEVICE, Measurement, Work
from naive_sampler import conditionals, forward_of, naive, places_of
from sampler_cases import Case, all_cases, multiply_adds
from torch import Tensor, nn

from pygen.models import _engines as engine_table
from pygen.models import _sampling
from pygen.models._program import RecurrentProgram
from pygen.native import _sampling_cluster, _sampling_scales

OP = "sampling"
DIRECTION = "sample"
NAIVE_S = 0.3  # about how long the timed part of a naive image may take


def _matmul_flops() -> float:
    """What the machine's best matrix product reaches."""
    a = torch.randn(1536, 1536, device=DEVICE)
    return 2 * 1536**3 / min(harness.measure({"mm": lambda: a @ a}, budget_s=0.5)["mm"].samples)


def _noise(case: Case, n: int, seed: int) -> Tensor:
    """Uniforms [n, *shape]."""
    u = _sampling.uniforms(n, case.decisions, torch.tensor(seed)).to(DEVICE)
    if case.kind == "MADE":
        return u
    return u.view(n, case.side, case.side, case.channels).permute(0, 3, 1, 2)


def _size(case: Case) -> dict[str, object]:
    return {} if case.kind == "MADE" else {"shape": (case.side, case.side)}


def _has_compiled(model: nn.Module) -> bool:
    """Whether `compiled_cached` knows its stages."""
    return model.program_type is not RecurrentProgram


def _engines(model: nn.Module) -> dict[str, str]:
    """Provider -> engine. Where C++ does not run, "cached" is the best that pygen has."""
    able = [name for name in ("cached", "cpu", "cuda") if engine_table.why_not(model, name) is None]
    if able == ["cached"]:
        return {"pygen cached": "cached"}
    return {"cached eager" if name == "cached" else f"pygen {name}": name for name in able}


def _check(case: Case, compile_too: bool) -> None:
    """In float64, on two images: every engine's are equal, and the plain twin draws the same last values."""
    plain, ours = (m.double() for m in case.models())
    first = None
    for name, engine in _engines(ours).items():
        with attempt(name):
            images = ours.sample(2, **_size(case), seed=0, engine=engine)
            first = images if first is None else first
            assert torch.equal(images, first), "draws other images in float64"
    assert first is not None, failed
    redrawn, u = first.clone(), _noise(case, 2, 0)
    for captured in (None, lambda work: work) if compile_too and _has_compiled(ours) else ():
        size = tuple(_size(case).get("shape", ()))
        with attempt("cached compiled"):
            plain_step = compiled_cached.sampler(ours, 2, size, compile_it=False, captured=captured)
            assert torch.equal(plain_step(u).to(first.dtype), first), "the step that is compiled draws other images"
    last = places_of(first.shape[1:])[-3:]
    for where in last:
        redrawn[where] = 0
    with attempt("naive eager"):
        naive(conditionals(plain), redrawn, u, len(last))
        assert torch.equal(redrawn, first), "the plain twin draws other values"


def _compiled_cached(case: Case, model: nn.Module, u: Tensor, captured: Callable[[Work], Work] | None = None) -> Work:
    sample = compiled_cached.sampler(model, case.batch, tuple(_size(case).get("shape", ())), captured=captured)
    _check_selected(model, sample(u), u, "cached compiled")
    return lambda: sample(u)


def _check_selected(model: nn.Module, levels: Tensor, u: Tensor, name: str) -> None:
    """Whether the noise selects these levels, but for a rounding here and there."""
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        form = conditionals(model)
        selected = _sampling.decide(form.of(form.forward(levels), levels), u, 1.0)
    most = {torch.float32: 1e-3, torch.bfloat16: 3e-2}[next(model.parameters()).dtype]
    assert (selected != levels).double().mean() < most, f"{name} draws what the noise does not select"


def _with(work: Work, switch: str, *launchers: ModuleType) -> Work:
    """With a switch of these launchers off."""

    def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            for launcher in launchers:
                patch.setattr(launcher, switch, False)
            work()

    return run


def _works(case: Case, compile_too: bool) -> dict[str, tuple[Work, float]]:
    """Provider -> (what is timed, by how much its seconds are multiplied)."""
    plain, ours = case.models()
    works: dict[str, tuple[Work, float]] = {}
    u = _noise(case, case.batch, 0)
    drawn = []
    with attempt("pygen's default engine"):
        drawn.append(ours.sample(case.batch, **_size(case), seed=0))
    levels = drawn[0] if drawn else ours.sample(case.batch, **_size(case), seed=0, engine="cached")
    forms = {"naive eager": conditionals(plain)}
    if compile_too:
        torch._dynamo.reset()
        forms["naive compiled"] = conditionals(plain, torch.compile(forward_of(plain), dynamic=False))
    for name, form in forms.items():
        if name in failed:
            continue
        with attempt(name):
            naive(form, levels, u, form.turns)
            once = harness.seconds(lambda form=form: naive(form, levels, u, form.turns))
            steps = form.turns * max(1, min(8, int(NAIVE_S / once)))
            works[f"{name}, from {steps} of {case.decisions} values"] = (
                lambda form=form, steps=steps: naive(form, levels, u, steps),
                case.decisions / steps,
            )
    for name, engine in _engines(ours).items():
        if name in failed:
            continue
        with attempt(name):
            work = lambda engine=engine: ours.sample(case.batch, **_size(case), seed=0, engine=engine)  # noqa: E731
            _check_selected(ours, work(), u, name)
            works[name] = (work, 1.0)
    if "pygen cuda" in works and case.dtype is torch.bfloat16:
        one_launch = works["pygen cuda"][0]
        works["pygen cuda, at barriers"] = (_with(one_launch, "MESSAGES", _sampling_cluster, _sampling_scales), 1.0)
        if case.kind == "PixelCNNPP":
            works["pygen cuda, early tiles as elsewhere"] = (_with(one_launch, "STAGED", _sampling_scales), 1.0)
    if compile_too and _has_compiled(ours) and "cached compiled" not in failed:
        with attempt("cached compiled"):
            works["cached compiled"] = (_compiled_cached(case, ours, u), 1.0)
        if "cached compiled" in works and DEVICE.type == "cuda":
            with attempt("cached compiled in graphs"):
                works["cached compiled in graphs"] = (_compiled_cached(case, ours, u, harness.graphed), 1.0)
    return works


def _measured(timed: dict[str, Work]) -> dict[str, Measurement]:
    """All have been called before, and some take seconds: the one call more that warms up says what memory a GPU holds in it.

    On a CPU that takes a profiler, which would keep an event of each of a sampler's hundred thousand allocations.
    """
    of_graph = lambda name: "in graphs" in name  # which hold their memory from their capture on  # noqa: E731
    peak = lambda name, work: None if of_graph(name) else harness.peak_bytes(work)  # noqa: E731
    peaks = harness.errors_of(timed, peak) if DEVICE.type == "cuda" else {}
    measured = harness.measure(timed, budget_s=3.0, least=3, warm=0 if peaks else 1)
    for name, m in measured.items():
        m.info = {"peak_bytes": peaks[name]} if peaks else {}
    return measured


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case = request.param
    long = request.config.getoption("--long") and (not case.huge or bool(os.environ.get("PYGEN_BENCH_FULL")))
    compile_too = case.compiled or long
    _check(case, compile_too)
    works = _works(case, compile_too)
    measured = _measured({name: work for name, (work, _) in works.items()})
    flops, best = 2 * multiply_adds(case) * case.batch, _matmul_flops()
    naive = next((m.median * works[name][1] for name, m in measured.items() if name.startswith("naive eager")), None)
    for name, m in measured.items():
        m.samples = [works[name][1] * s for s in m.samples]
    for name, m in measured.items():
        m.info |= {
            "us_per_image": round(1e6 * m.median / case.batch, 1),
            "live_gflop_per_s": round(flops / m.median / 1e9, 2),
            "share_of_matmul": round(flops / m.median / best, 3),
            "over_naive_eager": round(naive / m.median, 1) if naive else None,
            "extrapolated": works[name][1] != 1,
        }
        print(
            f"{case!s:40} {name:40} {1e3 * m.median:10.2f} ms a batch {m.info['us_per_image'] / 1e3:9.3f} ms an image "
            f"{m.info['live_gflop_per_s']:8.2f} GFLOP/s, {100 * m.info['share_of_matmul']:5.1f} % of a matrix product's, "
            f"{m.info['over_naive_eager']}x naive"
        )
    collect(OP, str(case), DIRECTION, measured)
    return measured


GROUPS = [
    pytest.param(
        c, id=harness.slug(str(c)), marks=[pytest.mark.benchmark(group=str(c)), *([pytest.mark.long] if c.long else [])]
    )
    for c in all_cases()
]


@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_sampling(benchmark, group: dict[str, Measurement]) -> None:
    """Records pygen's engine; the table and the stored rows have all providers."""
    harness.record(benchmark, group[next(n for n in group if n.startswith("pygen "))])
