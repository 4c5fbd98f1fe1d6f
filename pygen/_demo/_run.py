"""Runs the jobs, prints their tables, writes the report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from . import JOBS
from ._report import Setting, machine, print_result, write_report


def run_jobs(names: Sequence[str] | None, *, out: Path, device: str = "cpu", seed: int = 0, quick: bool = False) -> int:
    """Runs the named jobs (None: all); 0 if every check passed, 1 if one failed, 2 if a name or device is wrong."""
    console = Console()
    unknown = [name for name in names or () if name not in JOBS]
    if unknown:
        console.print(f"--job: expected any of {', '.join(JOBS)}, got {', '.join(unknown)}", highlight=False)
        return 2
    where_to = torch.device(device)
    if where_to.type == "cuda" and not torch.cuda.is_available():
        console.print(f"--device: {device} is not available here", highlight=False)
        return 2
    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    setting = Setting(out=out, device=where_to, console=console, quick=quick, seed=seed)
    where = machine(where_to)
    console.print(", ".join(f"{key} {value}" for key, value in where.items()), highlight=False)
    results = []
    for name in names or JOBS:
        results.append(JOBS[name](setting))
        print_result(console, results[-1])
    write_report(out, results, where)
    console.print(
        f"{time.perf_counter() - start:.0f} s; pictures, table.csv and report.json are in {out}", highlight=False
    )
    return 0 if all(check.passed for result in results for check in result.checks) else 1
