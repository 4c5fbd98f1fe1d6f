"""How every benchmark runs: check first, then time all providers in turn, then hand the samples to pytest-benchmark.

In turn, because a machine that slows down between two providers would otherwise decide the ratio. Medians, with spread.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from attempts import Group, attempt

import pygen
from pygen import _backends

RESULTS = Path(__file__).resolve().parent / "results"
DEVICE = torch.device(os.environ.get("PYGEN_BENCH_DEVICE", "cpu"))  # set by `make bench` and `make gpu`

COMPILE_MODE = os.environ.get("PYGEN_BENCH_COMPILE", "max-autotune-no-cudagraphs")  # on a GPU; "default" is far quicker
if DEVICE.type == "cuda":
    torch.backends.cudnn.benchmark = True  # its algorithms by trial, for all alike
GRAPHED = " graphed"  # providers that are one CUDA graph end with this: their time is the device's alone

Work = Callable[[], object]


@dataclass
class Measurement:
    """One provider on one case: its samples in seconds and what else the report shows."""

    samples: list[float]
    info: dict[str, object] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


def device_name() -> str:
    if DEVICE.type == "cuda":
        return torch.cuda.get_device_name(DEVICE)
    model = ""
    if os.path.exists("/proc/cpuinfo"):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        model = found[1] if found else ""
    # What a virtual machine calls its processor may be no more than the brand.
    wide = " with AVX-512" if _backends.compiled("_cpu").isa() == "avx512" else ""
    threads = torch.get_num_threads()
    return f"{model or platform.machine()}{wide}, {threads} thread{'s' if threads > 1 else ''}"


@cache
def driver() -> str:
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip() if shutil.which(asked[0]) else ""


def environment() -> dict[str, object]:
    """What a figure is worthless without."""
    facts: dict[str, object] = {
        "device": device_name(),
        "date": date.today().isoformat(),
        "pygen": pygen.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "allocator_tamed": "MALLOC_TRIM_THRESHOLD_" in os.environ,
    }
    if DEVICE.type == "cuda":
        facts |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "driver": driver()}
    else:
        facts["instruction_set"] = _backends.compiled("_cpu").isa()
    return facts


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize(DEVICE)


def seconds(work: Work, with_host: bool = True) -> float:
    """One call; on a GPU the longer of the device's time, between two events, and the host's: what calls in a row would take.

    The events alone would hide the host's time behind what the device still has to do, such as flushing its cache.
    """
    if DEVICE.type != "cuda":
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    begun = time.perf_counter()
    work()
    host_s = time.perf_counter() - begun
    end.record()
    end.synchronize()
    device_s = start.elapsed_time(end) * 1e-3
    return max(host_s, device_s) if with_host else device_s


_flush: list[torch.Tensor] = []


def flush_cache() -> None:
    """Writes more than a GPU's L2 holds: without it small workloads would run from cache and beat the floor."""
    if DEVICE.type != "cuda":
        return
    if not _flush:
        _flush.append(torch.empty(256 << 20, dtype=torch.int8, device=DEVICE))
    _flush[0].zero_()


def compiled(op: Callable[..., Any]) -> Callable[..., Any]:
    """For these shapes; on a GPU with all that Inductor tries, but for CUDA graphs, which `graphed` makes of every provider."""
    how = {"mode": COMPILE_MODE} if DEVICE.type == "cuda" else {}
    return torch.compile(op, dynamic=False, **how)


def graphed(work: Work) -> Work:
    """The same work as one CUDA graph replay."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())  # which makes the inputs
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            work()
    except BaseException:  # which leaves its stream the current one, and the generator within a capture
        torch.cuda.set_stream(before)
        fresh = torch.Generator(DEVICE)
        torch.cuda.default_generators[torch.cuda.current_device()].graphsafe_set_state(fresh)
        raise
    return graph.replay


def with_graphs(works: dict[str, Work], names: Iterable[str] | None = None) -> dict[str, Work]:
    """The works and, on a GPU, those of `names` (None: all) as one CUDA graph each, but for captures that fail."""
    if DEVICE.type != "cuda":
        return works
    made = dict(works)
    for name in works if names is None else names:
        with attempt(f"{name}{GRAPHED}"):
            made[f"{name}{GRAPHED}"] = graphed(works[name])
    return made


def errors_of(ops: dict[str, Any], check: Callable[[str, Any], Any]) -> dict[str, Any]:
    """check(name, op) of each provider; takes those that fail out of `ops`."""
    errors = {}
    for name in list(ops):
        with attempt(name):
            errors[name] = check(name, ops[name])
        if name not in errors:
            del ops[name]
    return errors


def measure(works: dict[str, Work], budget_s: float = 2.0, least: int = 7, warm: int = 3) -> dict[str, Measurement]:
    """Samples of each work, one call of each in turn, every second round backwards, until the budget is spent.

    Args:
        least: rounds, whatever the budget.
        warm: calls of each work before.
    """
    names = []
    for name, work in works.items():
        with attempt(name):
            for _ in range(warm):
                work()
            synchronize()
            names.append(name)
    taken: dict[str, list[float]] = {name: [] for name in names}
    end = time.perf_counter() + budget_s
    rounds = 0
    while rounds < least or (time.perf_counter() < end and rounds < 2000):
        for name in names if rounds % 2 == 0 else reversed(names):
            flush_cache()
            taken[name].append(seconds(works[name], with_host=not name.endswith(GRAPHED)))
        rounds += 1
    return Group({name: Measurement(samples) for name, samples in taken.items()})


def peak_bytes(work: Work) -> int:
    """The most memory that one call holds beyond what was there before."""
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats(DEVICE)
        before = torch.cuda.memory_allocated(DEVICE)
        work()
        return torch.cuda.max_memory_allocated(DEVICE) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    events = profile.profiler.kineto_results.events()
    held = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def peak_bytes_of(name: str, works: dict[str, Work]) -> int | None:
    """None of a graph, which holds its memory from its capture on."""
    return None if name.endswith(GRAPHED) else peak_bytes(works[name])


def describe(measured: dict[str, Measurement], works: dict[str, Work], moved: int, errors: dict[str, float]) -> None:
    """Gives each measurement what its row in the stored figures says beside the time.

    Args:
        moved: bytes that a kernel cannot do without reading or writing.
        errors: against float64, of each provider's name without what says how it was called.
    """
    for name, m in measured.items():
        called = name.removesuffix(GRAPHED)
        m.info = {
            "bytes": moved,
            "gb_per_s": round(moved / m.median / 1e9, 3),
            "error_vs_float64": errors[called if called in errors else called.removesuffix(" channels_last")],
            "peak_bytes": peak_bytes_of(name, works),
        }


def compare(
    works: dict[str, Work], moved: int, errors: dict[str, float], budget_s: float = 2.0, waiting: Iterable[str] = ()
) -> dict[str, Measurement]:
    """All works in turn, on a GPU each as one graph too, and what the stored figures say of them.

    Args:
        waiting: works that wait for the device: a capture would fail, and the process could draw no more numbers.
    """
    works = with_graphs(works, [name for name in works if name not in waiting])
    measured = measure(works, budget_s)
    describe(measured, works, moved, errors)
    return measured


def groups(cases: Iterable[Any], directions: Iterable[str], case_id: Callable[[Any], str]) -> list[Any]:
    """A pytest-benchmark group for each case and direction, for pytest.mark.parametrize("group", ..., indirect=True)."""
    named = [((c, d), f"{case_id(c)} {d}") for c in cases for d in directions]
    return [pytest.param(group, id=name, marks=pytest.mark.benchmark(group=name)) for group, name in named]


def record(benchmark, measurement: Measurement) -> None:
    """Gives samples taken in turn to pytest-benchmark, which would otherwise time one provider after the other."""
    stats = benchmark._make_stats(iterations=1)
    for sample in measurement.samples:
        stats.update(sample)
    benchmark._mode = "samples taken in turn"
    benchmark.extra_info.update(environment() | measurement.info)


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def save(op: str, rows: list[dict[str, object]], failed: list[dict[str, str]]) -> Path:
    """Writes benchmarks/results/<device>/<op>.json; what lies there of this day and these versions stays beside the new rows.

    Args:
        failed: case, direction, provider and what happened.
    """
    path, facts = RESULTS / slug(device_name()) / f"{op}.json", {"op": op, **environment()}
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = json.loads(path.read_text()) if path.exists() else {}
    if {key: stored.get(key) for key in facts} == facts:  # an op's cases may be measured in parts
        fresh = {(row["case"], row["direction"]) for row in [*rows, *failed]}
        keep = lambda key: [row for row in stored.get(key, ()) if (row["case"], row["direction"]) not in fresh]  # noqa: E731
        rows, failed = keep("rows") + rows, keep("failed") + failed
    told = {"failed": failed} if failed else {}
    whole = path.with_suffix(".part")  # a run that is killed as it writes leaves what was there
    whole.write_text(json.dumps({**facts, **told, "rows": rows}, indent=1) + "\n")
    whole.replace(path)
    return path
