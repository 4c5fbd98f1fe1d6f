"""What a job is given, what it hands back, and how that is printed and stored."""

from __future__ import annotations

import csv
import datetime
import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

import pygen
from pygen._dispatch import AUTO, resolve

_CAPTION = (
    "Times are medians of forward and backward, in a training step with the update, both sides taken in turn;"
    " likelihoods are per image; errors are the largest against float64, over the largest value."
)

_FORMS = {"time": "{:.3f} ms", "nats": "{:.2f} nats", "error": "{:.1e}", "fraction": "{:.1%}", "count": "{:.0f}"}


@dataclass(frozen=True)
class Setting:
    """What every job is given."""

    out: Path  # pictures go here
    device: torch.device
    console: Console
    quick: bool = False  # a few steps only, to see that everything runs; quality is not checked
    seed: int = 0


@dataclass(frozen=True)
class Measure:
    """One line of the table: median ms, nats an image, the largest error over the largest value, a part of 1, a number."""

    what: str
    kind: Literal["time", "nats", "error", "fraction", "count"]
    plain: float
    pygen: float

    @property
    def comparison(self) -> str:
        if self.kind == "nats":
            return f"{self.pygen - self.plain:+.2f}"
        if self.kind == "fraction":
            return f"{100 * (self.pygen - self.plain):+.1f}"
        if self.kind == "count":
            return f"{self.pygen - self.plain:+.0f}"
        better, worse = ("faster", "slower") if self.kind == "time" else ("smaller", "larger")
        if self.pygen <= self.plain:
            return f"{self.plain / self.pygen:.2f}x {better}" if self.pygen else "exact"
        return f"{self.pygen / self.plain:.2f}x {worse}" if self.plain else worse


@dataclass(frozen=True)
class Check:
    """A claim the job has tested."""

    claim: str
    passed: bool


@dataclass
class JobResult:
    """What a job hands back."""

    job: str
    title: str
    measures: list[Measure]
    checks: list[Check] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)  # file names in Setting.out
    settings: dict[str, Any] = field(default_factory=dict)  # hyper-parameters and sizes, for the record
    caption: str = _CAPTION


def machine(device: torch.device) -> dict[str, Any]:
    """Where and with what the figures were taken."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "threads": torch.get_num_threads(),
        "python_version": platform.python_version(),
        "torch_version": torch.__version__,
        "pygen_version": pygen.__version__,
        "backend": resolve("demo", AUTO, device.type),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def print_result(console: Console, result: JobResult) -> None:
    table = Table(title=result.title, title_justify="left", caption=result.caption, caption_justify="left")
    table.add_column("measure")
    for column in ("plain PyTorch", "pygen", ""):
        table.add_column(column, justify="right")
    for m in result.measures:
        form = _FORMS[m.kind]
        table.add_row(m.what, form.format(m.plain), form.format(m.pygen), m.comparison)
    console.print(table)
    for check in result.checks:
        console.print("[green]passed[/]" if check.passed else "[red]FAILED[/]", check.claim)


def write_report(out: Path, results: list[JobResult], where: dict[str, Any]) -> None:
    """table.csv, a line per measure, and report.json with everything."""
    with open(out / "table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["job", "measure", "kind", "plain", "pygen", *where])
        for result in results:
            for m in result.measures:
                writer.writerow([result.job, m.what, m.kind, m.plain, m.pygen, *where.values()])
    report = {"machine": where, "jobs": [asdict(result) for result in results]}
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
