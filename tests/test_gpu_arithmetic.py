"""tools/gpu_arithmetic.py: how far it moves results, and that what showed it passes under it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tools import gpu_arithmetic

ROOT = Path(__file__).resolve().parent.parent


def steps(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """How far float32 lies from float64, in its ulp."""
    assert got.dtype == np.float32
    return np.abs(got.astype(np.float64) - exact) / np.spacing(np.abs(exact.astype(np.float32)))


def test_results_move_as_far_as_a_gpus_may() -> None:
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(10_000).astype(np.float32) for _ in range(2))
    off = steps(gpu_arithmetic.quotient(a, b), a.astype(np.float64) / b)
    assert 1 < off.max() < 2.6  # 2 ulp of a number whose ulp may be half of its neighbours'
    off = steps(gpu_arithmetic.exp(a), np.exp(a.astype(np.float64)))
    assert 1 < off.max() < 4
    off = steps(gpu_arithmetic.near(np.sqrt)(np.abs(a)), np.sqrt(np.abs(a).astype(np.float64)))
    assert 1 < off.max() < 1.6


def test_what_a_gpu_computes_exactly_stays() -> None:
    a = np.array([3, -0.7, np.inf, np.nan, 0], np.float32)
    np.testing.assert_array_equal(gpu_arithmetic.quotient(a, np.full_like(a, 4)), a / 4)
    np.testing.assert_array_equal(
        gpu_arithmetic.power_of_two(np.arange(-3, 4, dtype=np.float32)), 2.0 ** np.arange(-3, 4)
    )
    special = np.array([0, np.inf, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(gpu_arithmetic.moved(special), special)
    for function in (gpu_arithmetic.exp, gpu_arithmetic.near(np.log), lambda x: gpu_arithmetic.quotient(x, x + 1)):
        x = np.linspace(0.1, 3, 100)
        assert function(x).dtype == np.float64
    np.testing.assert_array_equal(gpu_arithmetic.exp(x), np.exp(x))


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton compiles where there is a GPU")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton")
def test_small_splines_pass_under_it() -> None:
    """Whose quotients, as Triton divides by itself, put log-derivatives out of their bounds."""
    tests = "tests/test_conformance.py::test_values_and_gradients_are_accurate"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tools.gpu_arithmetic", "-p", "no:cacheprovider", tests]
    command += ["-k", "triton and spline and (tiny or inverse)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "8 passed" in done.stdout, done.stdout + done.stderr
