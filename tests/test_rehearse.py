"""What keeps a run on a GPU alive: rehearsals refuse graphs of what waits, a program that hangs is left."""

import os
import subprocess
import sys
from pathlib import Path

import host_cuda
import pytest

ROOT = Path(__file__).resolve().parent.parent
# In a process of its own: it pretends a GPU.
CODE = """
import sys
sys.path.insert(0, "tools")
import rehearse, harness, torch

x = torch.arange(4.0)
harness.DEVICE, harness.measure, harness.graphed = rehearse.Device("cpu"), rehearse.measure, rehearse.graphed
harness.describe = lambda *_: None
waits = {
    "number": lambda: int(x[0]), "truth": lambda: bool(x.any()), "item": lambda: x.sum().item(), "list": lambda: x.tolist(),
    "by booleans": lambda: x[x > 1], "nonzero": lambda: x.nonzero(), "unique": lambda: torch.unique(x),
    "from the host": lambda: torch.tensor([1.0]),
}
for name, work in waits.items():
    assert list(harness.compare({name: work}, 0, {}, waiting=[name])) == [name]
    try:
        harness.compare({name: work}, 0, {})
    except RuntimeError as error:
        assert "waits for the device" in str(error), error
    else:
        raise AssertionError(name)
assert list(harness.compare({"add": lambda: x + x[1:2]}, 0, {})) == ["add", "add graphed"]
assert int(x[3]) == 3  # afterwards all is as before
"""
# A program whose blocks wait for each other may do so for ever: what was measured before it is not lost.
HANGS = """
import subprocess, sys
sys.path.insert(0, "benchmarks")
import gpu_ceilings, torch

def hang(command, **options):
    if "timeout" in options:
        raise subprocess.TimeoutExpired(command, options["timeout"])

torch.cuda.get_device_capability, gpu_ceilings.subprocess.run = lambda: (9, 0), hang
assert gpu_ceilings.latencies() == {}
"""


def run(*command: str) -> str:
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, env=alone)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_a_rehearsed_graph_holds_nothing_that_waits():
    run("-c", CODE)


def test_a_measurement_of_latencies_that_hangs_is_left():
    run("-c", HANGS)


@pytest.mark.slow
@pytest.mark.skipif(host_cuda.toolkit_headers() is None, reason="the headers of a CUDA toolkit are not here")
@pytest.mark.parametrize(
    ("op", "cases"), [("noise_contrastive", "sparse and 25"), ("rational_quadratic_spline", "inverse")]
)
def test_the_rehearsal_of_a_benchmark_with_works_that_wait_passes(op, cases):
    """Sparse gradients, whose number of rows the host asks for, and a mask that picks elements: no graphs of those."""
    run("tools/rehearse.py", op, "-k", cases)


@pytest.mark.slow
@pytest.mark.skipif(host_cuda.toolkit_headers() is None, reason="the headers of a CUDA toolkit are not here")
def test_whole_training_steps_are_graphs_too_of_what_is_compiled_as_of_what_is_not():
    said = run("tools/rehearse.py", "pixelcnn_step")
    cells = [line.split("│")[3].strip() for line in said.splitlines() if line.startswith("│")]
    parts = ("eager", "eager .data", "pygen cuda", "pygen default"), ("compiled",), ("pygen compiled",)
    expected = [f"{name}{graphed}" for names in parts for graphed in ("", " graphed") for name in names]
    assert " ".join(filter(None, cells)) == " ".join(expected)  # of cells that may be wrapped


@pytest.mark.slow
@pytest.mark.skipif(host_cuda.toolkit_headers() is None, reason="the headers of a CUDA toolkit are not here")
def test_cases_that_are_the_same_when_small_are_rehearsed_once():
    said = run("tools/rehearse.py", "gated_pixelcnn", "--collect-only")
    kept = [
        "layer C=128 N=64",
        "layer C=128 N=64",
        "12 blocks C=128 N=64",
        "7 blocks C=32 N=64",
    ]  # forward and both, steps
    collected = [line.partition("[")[2] for line in said.splitlines() if "::" in line]
    assert [case for case, line in zip(kept, collected, strict=True) if line.startswith(case)] == kept, said


@pytest.mark.slow
@pytest.mark.skipif(host_cuda.toolkit_headers() is None, reason="the headers of a CUDA toolkit are not here")
@pytest.mark.parametrize(
    ("file", "cases"), [("losses", "bernoulli_nll"), ("noise_contrastive", "in_a_graph and own and float32")]
)
def test_the_rehearsal_of_tests_that_need_a_gpu_passes(file, cases):
    """Graphs, streams, what never waits: these bodies run nowhere else but on a GPU."""
    run("tools/rehearse_gpu_tests.py", f"tests/test_gpu_{file}.py", "-k", cases)
