"""The benchmarks' harness: what fails is left out by name and costs neither its group nor the file, and what was stored stays."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pytest_benchmark")
pytestmark = pytest.mark.slow  # each starts a run of its own
BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"

PROGRAM = """
import os, signal, time
from pathlib import Path
import harness, pytest, torch

harness.RESULTS = Path(__file__).parent / "benchmarks" / "results"
CASES = {cases}

def fails():
    raise RuntimeError("no memory for it")

def lasts():
    time.sleep(60)

def spoils():
    def gone():
        raise RuntimeError("an illegal memory access")
    torch.cuda.synchronize = gone
    fails()

def wrong(name, op):
    assert "wrong" not in name, f"{{name}} is off by 1"
    return 0.0

WORKS = {{"fails": fails, "lasts": lasts, "spoils": spoils}}

@pytest.fixture(scope="module")
def group(request, collect):
    ops = dict.fromkeys(("eager", *CASES[request.param], "pygen one"), int)
    ops |= {{name: work for name in ops for word, work in WORKS.items() if word in name}}
    errors = harness.errors_of(ops, wrong)
    measured = harness.compare(ops, 1, errors, budget_s=0)
    collect("some_op", request.param, "forward", measured)
    if "killed" in CASES[request.param]:
        os.kill(os.getpid(), signal.SIGKILL)
    return measured

GROUPS = [pytest.param(case, id=case, marks=pytest.mark.benchmark(group=case)) for case in CASES]

@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_some_op(benchmark, group):
    for name in group:
        harness.record(benchmark, group[name])
    {asked}
"""


# As if a GPU had been used.
USED = """
torch.cuda.is_initialized, torch.cuda.synchronize, torch.cuda.empty_cache = (lambda: True), (lambda: None), (lambda: None)
"""


def run(folder: Path, cases: dict[str, tuple[str, ...]], asked: str = "", more: str = "") -> tuple[int, str, dict]:
    program = folder / "bench_some_op.py"
    program.write_text(PROGRAM.format(cases=cases, asked=asked) + more)
    paths = os.pathsep.join((str(BENCHMARKS), os.environ.get("PYTHONPATH", "")))
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-c", BENCHMARKS / "pytest.ini", "-p", "conftest", "-q", program]
    done = subprocess.run(
        command,
        env=alone | {"PYTHONPATH": paths, "PYGEN_BENCH_LIMIT_S": "2"},
        cwd=BENCHMARKS.parent,
        capture_output=True,
        text=True,
    )
    (stored,) = folder.glob("benchmarks/results/*/*")
    assert stored.name == "some_op.json", done.stdout
    return done.returncode, done.stdout + done.stderr, json.loads(stored.read_text())


def providers(report: dict, key: str = "rows") -> list[tuple[str, str]]:
    return [(row["case"], row["provider"]) for row in report.get(key, [])]


def test_a_competitor_that_fails_is_left_out_by_name_and_the_run_passes(tmp_path):
    code, said, report = run(tmp_path, {"a": ("fails", "wrong"), "b": ()}, asked='group["fails"]')
    assert code == 0, said
    assert providers(report) == [("a", "eager"), ("a", "pygen one"), ("b", "eager"), ("b", "pygen one")]
    assert sorted(providers(report, "failed")) == [("a", "fails"), ("a", "wrong")]
    assert "left out: fails: RuntimeError: no memory for it" in said and "2 skipped" in said


def test_a_kernel_of_ours_that_fails_is_left_out_and_the_run_fails_at_its_end(tmp_path):
    code, said, report = run(tmp_path, {"a": ("pygen wrong",), "b": ("pygen fails",)})
    assert code == 1, said
    assert providers(report) == [("a", "eager"), ("a", "pygen one"), ("b", "eager"), ("b", "pygen one")]
    wrong, fails = (row["why"] for row in report["failed"])
    assert wrong.startswith("AssertionError: pygen wrong is off by 1") and fails == "RuntimeError: no memory for it"
    assert "left out, which are pygen's own: pygen wrong, pygen fails" in said


def test_a_run_that_is_killed_keeps_the_groups_before(tmp_path):
    code, said, report = run(tmp_path, {"a": (), "b": (), "c": ("killed",), "d": ()})
    assert code == -signal.SIGKILL
    assert [case for case, name in providers(report) if name == "eager"] == ["a", "b", "c"]
    assert "\na: " in said  # how long it took
    again, _, whole = run(tmp_path, {"d": ()})
    assert again == 0 and [case for case, name in providers(whole) if name == "eager"] == ["a", "b", "c", "d"]


def test_what_takes_too_long_on_a_gpu_is_left_out(tmp_path):
    code, said, report = run(tmp_path, {"a": ("lasts",)}, more=USED)
    assert code == 0 and providers(report) == [("a", "eager"), ("a", "pygen one")], said
    assert [row["why"] for row in report["failed"]] == ["TimeoutError: not ready after 2 s"]


def test_a_device_that_answers_no_more_ends_the_run_and_what_was_stored_stays(tmp_path):
    code, said, report = run(tmp_path, {"a": (), "b": ("spoils",), "c": ()}, more=USED)
    assert code == 3 and "spoils left a device that answers no more: RuntimeError: no memory for it" in said
    assert providers(report) == [("a", "eager"), ("a", "pygen one")]
