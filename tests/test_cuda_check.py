"""Every CUDA and Triton kernel compiles for a GPU that is not there, in a process of its own: no interpreter there."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tools"))
import cuda_check  # noqa: E402


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
    assert "gated_masked_conv2d_fwd_kernel" in table
    assert re.search(r"[1-9]\d* Triton kernels compared with the baseline|no comparison: the baseline is Triton", table)


def test_cuda_check_sees_a_kernel_that_takes_more_than_the_baseline():
    triton = pytest.importorskip("triton")
    row = cuda_check.Row("sm_90", "some_kernel [float32] BLOCK=4", 40, 0, 1024)
    key = f"{row.arch} {row.kernel}"
    for known, count in (([40, 0, 1024], 0), ([32, 0, 1024], 0), ([31, 0, 1024], 1), ([60, 0, 1000], 1), (None, 0)):
        rows = {} if known is None else {key: known}
        assert len(cuda_check.worse([row], {"triton": triton.__version__, "rows": rows})) == count
    assert (
        len(cuda_check.worse([row._replace(spills=8)], {"triton": triton.__version__, "rows": {key: [40, 0, 1024]}}))
        == 1
    )
    assert not cuda_check.worse([row], {"triton": "0.0", "rows": {key: [1, 0, 0]}})


def test_cuda_check_sees_a_kernel_that_waits_for_registers():
    row = cuda_check.Row("sm_90a", "masked_conv2d_wgmma_kernel<WgmmaTraits<float, Tf32, 1, 64>>", 168, 0, 0)
    assert not cuda_check.hangs(row) and cuda_check.hangs(row._replace(registers=160))
    assert not cuda_check.hangs(row._replace(registers=8, arch="sm_100"))
    assert not cuda_check.hangs(row._replace(registers=28, kernel="masked_conv2d_pack_tiles_kernel<unsigned, 64>"))


def test_cuda_check_sees_a_kernel_that_declares_memory_beside_its_launches():
    row = cuda_check.Row("sm_90a", "nade_nll_draw_kernel<NadeDrawTraits<float> >", 28, 0, 0)
    assert not cuda_check.squeezed(row) and cuda_check.squeezed(row._replace(shared=32))
    assert cuda_check.squeezed(row._replace(kernel="masked_conv2d_bwd_weight_kernel<WeightTraits<float>>", shared=8))
    assert not cuda_check.squeezed(row._replace(kernel="masked_conv2d_bwd_bias_kernel<float>", shared=1024))


def test_the_committed_baseline_is_of_every_architecture():
    baseline = json.loads(cuda_check.BASELINE.read_text())
    assert {key.split()[0] for key in baseline["rows"]} == {f"sm_{arch}" for arch in cuda_check.TRITON_ARCHS}


def test_every_triton_op_has_cases():
    ops = [path.stem for path in (ROOT / "kernels").glob("[a-z]*.py")]
    assert sorted(ops) == sorted(path.stem for path in (ROOT / "tools" / "triton_cases").glob("[a-z]*.py"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on PATH")
@pytest.mark.parametrize("arch", ("sm_80", "sm_90", "sm_100"))
def test_the_latency_benchmark_compiles_without_warnings(arch, tmp_path):
    command = ["nvcc", "-std=c++17", f"-arch={arch}", f"-I{ROOT / 'csrc'}", "-Werror=all-warnings"]
    command += ["-o", str(tmp_path / "latencies")]
    done = subprocess.run([*command, ROOT / "benchmarks" / "gpu_latencies.cu"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on PATH")
def test_cuda_check_nvcc_compiles_without_warnings():
    table = check("--only", "nvcc", "--archs", "90a", "--device-only")  # test_cuda_host.py compiles the host's part
    assert "reparameterize_kl_fwd_kernel<Traits<float>, false, true>" in table
    assert "masked_conv2d_fwd_kernel<ConvTraits<__nv_bfloat16, __nv_bfloat16, 128, false>>" in table.replace(
        "> >", ">>"
    )
