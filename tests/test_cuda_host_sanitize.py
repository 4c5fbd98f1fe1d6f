"""The calls that the sanitizers watch, without them: calls that stop at an error show no fault of a kernel."""

import os
import subprocess
import sys

import host_cuda
import pytest
from sanitizers import CHILD

pytestmark = [mark for mark in host_cuda.MARKS if mark.name != "usefixtures"]  # a process of its own
SAMPLERS = ("sampling", "sampling_cluster", "sampling_scales", "sampling_dense", "autoregressive_inverse")
PRODUCTS = ("masked_conv2d", "gated_masked_conv2d", "wgmma", "masked_linear")
SUMS = ("gan_loss", "reparameterize_kl", "sample_dot", "noise_contrastive")
OTHERS = ("gated_activation", "bernoulli_sample", "categorical_sample", "logistic_mixture_sample", "noise_sample")


@pytest.mark.parametrize("stems", [SAMPLERS, PRODUCTS, SUMS, OTHERS], ids=lambda stems: stems[0])
def test_cuda_host_sanitize_calls_come_to_their_end(stems):
    command = [sys.executable, str(host_cuda.SHIM / "sanitize.py"), *stems]
    env = {**os.environ, CHILD: str(host_cuda.module().__file__), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{stem}: no fault" for stem in stems]
