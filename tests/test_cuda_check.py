"""Every CUDA and Triton kernel compiles for a GPU that is not there, in a process of its own: no interpreter there."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def check(*arguments: str) -> str:
    command = [sys.executable, "tools/cuda_check.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_cuda_check_triton_compiles_ahead_of_time():
    pytest.importorskip("triton")
    table = check("--only", "triton", "--archs", "90")
    for kernel in ("fwd", "bwd", "finish"):
        assert f"reparameterize_kl_{kernel}_kernel" in table
    for kernel in ("pack", "fwd", "bwd_weight", "bwd_bias", "finish"):
        assert f"masked_conv2d_{kernel}_kernel" in table
    assert "gated_activation_fwd_kernel" in table and "gated_activation_bwd_kernel" in table


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on PATH")
def test_cuda_check_nvcc_compiles_without_warnings():
    table = check("--only", "nvcc", "--archs", "90a")
    assert "reparameterize_kl_fwd_kernel<Traits<float>, false, true>" in table
    assert "masked_conv2d_fwd_kernel<ConvTraits<__nv_bfloat16, __nv_bfloat16, 128>>" in table.replace("> >", ">>")
