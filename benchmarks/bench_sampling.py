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
from dataclasses import dataclass, replace
from types import ModuleType

import compiled_cached
import harness
import pytest
import torch
from attempts import attempt, failed
from harness import DEVICE, Measurement, Work
from naive_sampler import conditionals, forward_of, naive, places_of
from torch import Tensor, nn

from pygen import models
from pygen.models import _engines as engine_table
from pygen.models import _sampling
from pygen.models._program import Conv, Lstm, RecurrentProgram, Up
from pygen.native import _sampling_cluster, _sampling_scales
from pygen.reference import models as plain_models

OP = "sampling"
DIRECTION = "sample"
NAIVE_S = 0.3  # about how long the timed part of a naive image may take


@dataclass(frozen=True)
class Case:
    """A model's class and options, the images' size, the batch."""

    name: str
    kind: str
    options: tuple[tuple[str, object], ...]
    side: int
    batch: int
    compiled: bool = False
    long: bool = False
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        return f"{self.name}{' bf16' if self.dtype is torch.bfloat16 else ''} B={self.batch}"

    def models(self) -> tuple[nn.Module, nn.Module]:
        """The plain twin and pygen's, equal weights."""
        torch.manual_seed(0)
        options = dict(self.options)
        made = []
        for room in (plain_models, models):
            kind = getattr(room, self.kind)
            made.append(
                kind(options["num_inputs"], options["hidden_sizes"]) if self.kind == "MADE" else kind(**options)
            )
        plain, ours = made
        plain.load_state_dict(ours.state_dict())
        return plain.to(DEVICE, self.dtype).eval(), ours.to(DEVICE, self.dtype).eval()

    @property
    def huge(self) -> bool:
        return dict(self.options).get("hidden_channels") == 160

    @property
    def channels(self) -> int:
        return int(dict(self.options).get("in_channels", 1))

    @property
    def decisions(self) -> int:
        return self.side**2 * self.channels


def gated(name: str, side: int, batch: int, compiled: bool = False, long: bool = False, **options: object) -> Case:
    return Case(name, "GatedPixelCNN", tuple(options.items()), side, batch, compiled, long)


def _cases() -> list[Case]:
    cases = []
    batches = (1, 16, 64) if DEVICE.type == "cpu" else (1, 16, 64, 256, 1024)
    for width in (32, 64):
        for batch in batches:
            first = width == 32 and batch in (1, 16)
            cases.append(gated(f"binary 28x28 C={width}", 28, batch, first, batch > 64, hidden_channels=width))
    wide = {"hidden_channels": 128, "num_blocks": 12, "num_levels": 256}
    rgb = {"in_channels": 3, "color_groups": 3, "hidden_channels": 66, "num_levels": 256}
    for batch in batches:
        cases.append(gated("256 levels 32x32 C=128 12 blocks", 32, batch, long=batch > 1, **wide))
        cases.append(gated("RGB 32x32 C=66", 32, batch, long=batch > 1, **rgb))
    for kind in ("diagonal", "row"):
        recurrent = (("hidden_channels", 32), ("kind", kind))
        cases += [Case(f"PixelRNN {kind} binary 28x28 H=32", "PixelRNN", recurrent, 28, b) for b in batches[:3]]
    small = (("in_channels", 3), ("hidden_channels", 64), ("num_resnets", 2), ("num_scales", 3))
    cases += [Case("PixelCNN++ 16x16 C=64 2 layers", "PixelCNNPP", small, 16, b, long=b > 1) for b in (1, 16)]
    if DEVICE.type == "cuda":  # in float32 the largest ones are for --long
        cases = [replace(c, long=c.long or "C=32" not in c.name) for c in cases] + [
            replace(c, dtype=torch.bfloat16) for c in cases
        ]
        # As in the paper, of CIFAR's size.
        options = (("in_channels", 3), ("hidden_channels", 160), ("num_resnets", 5), ("num_scales", 3))
        cases += [
            Case("PixelCNN++ 32x32 C=160", "PixelCNNPP", options, 32, b, long=b > 16, dtype=torch.bfloat16)
            for b in (1, 16, 64, 256)
        ]
    layers = (("num_inputs", 784), ("hidden_sizes", (500, 500)))
    cases += [Case("MADE 784-500-500-784", "MADE", layers, 28, b, b in (1, 64), long=b > 64) for b in batches]
    return cases


def _multiply_adds(case: Case) -> int:
    """Of one image, each live weight once for each place."""
    plain, ours = case.models()
    if case.kind == "MADE":
        return sum(int(mask.sum()) for name, mask in plain.named_buffers() if name.startswith("mask_0_"))
    with torch.no_grad():
        program = ours._program(None)
    total = 0
    for stride, stage in zip(program.strides[1:], program.stages, strict=True):
        places = (-(-case.side // stride)) ** 2
        if isinstance(stage, Conv):
            total += places * int((stage.weight != 0).sum())
        elif isinstance(stage, Lstm) and stage.weight is not None:
            total += places * stage.weight.numel()
        elif isinstance(stage, Up):  # a quarter of the places each
            total += places * sum(weight.numel() for _, weight in stage.phases) // 4
    return total


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


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case = request.param
    long = request.config.getoption("--long") and (not case.huge or bool(os.environ.get("PYGEN_BENCH_FULL")))
    compile_too = case.compiled or long
    _check(case, compile_too)
    works = _works(case, compile_too)
    # All have been called, and some take seconds.
    measured = harness.measure({name: work for name, (work, _) in works.items()}, budget_s=3.0, least=3, warm=1)
    flops, best = 2 * _multiply_adds(case) * case.batch, _matmul_flops()
    naive = next((m.median * works[name][1] for name, m in measured.items() if name.startswith("naive eager")), None)
    for name, m in measured.items():
        m.samples = [works[name][1] * s for s in m.samples]
    for name, m in measured.items():
        m.info = {
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
    for c in _cases()
]


@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_sampling(benchmark, group: dict[str, Measurement]) -> None:
    """Records pygen's engine; the table and the stored rows have all providers."""
    harness.record(benchmark, group[next(n for n in group if n.startswith("pygen "))])
