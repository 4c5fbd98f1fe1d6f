"""What this GPU can do at best: the ceilings that the other figures are read against. Not yet run on a GPU.

PYGEN_BENCH_DEVICE=cuda python benchmarks/gpu_ceilings.py        -> benchmarks/results/<device>/ceilings.json
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import harness
import torch

import pygen
from pygen.functional import gaussian_kl, reparameterize_kl

GIB = 1 << 30


def median_s(work: Callable[[], object], rounds: int = 30) -> float:
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    samples = []
    for _ in range(rounds):
        harness.flush_cache()
        samples.append(harness.seconds(work))
    return statistics.median(samples)


def copy_tb_per_s() -> float:
    """Read and write both counted."""
    source = torch.empty(GIB // 4, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    return 2 * GIB / median_s(lambda: target.copy_(source)) / 1e12


def chain(nodes: int) -> torch.cuda.CUDAGraph:
    """`nodes` dependent tiny kernels in one graph."""
    x = torch.zeros(32, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        x.add_(1)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(nodes):
            x.add_(1)
    return graph


def graph_node_us() -> float:
    """The latency of one dependent node: the difference of a long and a short chain."""
    long, short = chain(1100), chain(100)
    return (median_s(long.replay) - median_s(short.replay)) / 1000 * 1e6


def launch_us() -> float:
    """The cost of one eager launch where the host is the bottleneck."""
    x = torch.zeros(32, device="cuda")

    def launches() -> None:
        for _ in range(1000):
            x.add_(1)

    return median_s(launches, rounds=7) / 1000 * 1e6


def host_us(call: Callable[[], object]) -> float:
    """Host time of one call that launches and returns."""
    for _ in range(20):
        call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(200):
        call()
    took = time.perf_counter() - start
    torch.cuda.synchronize()
    return took / 200 * 1e6


def normals_g_per_s(backend: str) -> float:
    """Philox and Box-Muller by themselves: the time that drawing adds to the KL alone, in bf16, where memory is cheap."""
    mu = torch.zeros(8192, 8192, dtype=torch.bfloat16, device="cuda")
    with_noise = median_s(lambda: reparameterize_kl(mu, mu, seed=1, num_samples=9, backend=backend))
    one = median_s(lambda: reparameterize_kl(mu, mu, seed=1, num_samples=1, backend=backend))
    return 8 * mu.numel() / (with_noise - one) / 1e9


def latencies() -> dict[str, float]:
    """Of a dependent step inside a block, a cluster and the grid, and what one SM reads of L2: gpu_latencies.cu."""
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    arch = "sm_{}{}".format(*torch.cuda.get_device_capability())
    with tempfile.TemporaryDirectory() as folder:
        program, source = Path(folder) / "latencies", Path(__file__).resolve().with_name("gpu_latencies.cu")
        try:
            flags = ["-O3", "-std=c++17", f"-arch={arch}", f"-I{source.parents[1] / 'csrc'}"]
            subprocess.run([nvcc, *flags, "-o", program, source], check=True)
            return json.loads(subprocess.run([program], check=True, capture_output=True, text=True, timeout=60).stdout)
        except (OSError, subprocess.SubprocessError) as error:  # a timeout too: blocks that wait for ever
            print(f"gpu_latencies.cu did not run: {error} {getattr(error, 'stderr', '')}")
            return {}


def main() -> int:
    if harness.DEVICE.type != "cuda":
        print("gpu_ceilings: set PYGEN_BENCH_DEVICE=cuda on a machine with an NVIDIA GPU")
        return 2
    small = torch.zeros(2, 8, device="cuda")
    figures: dict[str, object] = {
        "copy_tb_per_s": copy_tb_per_s(),
        "launch_us": launch_us(),
        "graph_node_us": graph_node_us(),
        "host_us_eager_add": host_us(lambda: small + small),
    }
    store(figures)
    figures |= latencies()
    store(figures)
    for name in ("triton", "cuda"):
        if pygen.backends()[name] is None:
            figures[f"normals_g_per_s_{name}"] = normals_g_per_s(name)
            figures[f"host_us_gaussian_kl_{name}"] = host_us(lambda name=name: gaussian_kl(small, small, backend=name))
            figures[f"host_us_reparameterize_kl_{name}"] = host_us(
                lambda name=name: reparameterize_kl(small, small, backend=name)
            )
            with torch.device("cuda"):  # a torch function mode: the call goes through the dispatcher
                figures[f"host_us_gaussian_kl_{name}_dispatched"] = host_us(
                    lambda name=name: gaussian_kl(small, small, backend=name)
                )
            store(figures)
    print(store(figures).read_text())
    return 0


def store(figures: dict[str, object]) -> Path:
    """After each part: what is stopped later keeps what it has measured."""
    path = harness.RESULTS / harness.slug(harness.device_name()) / "ceilings.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**harness.environment(), "figures": figures}, indent=1) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
