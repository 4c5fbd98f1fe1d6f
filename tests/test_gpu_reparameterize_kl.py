"""What only a GPU can show of reparameterize_kl: its own square root, graphs, streams, devices, sizes past 2^31."""

import subprocess
import sys

import pytest
import torch
from support import SEED, assert_same

import pygen
from pygen.functional import reparameterize_kl
from pygen.reference import noise

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
READY = [name for name in ("cuda", "triton") if pygen.backends()[name] is None]
each_backend = pytest.mark.parametrize("backend", READY or ["cuda"])


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype, device="cuda")


def ulp_errors(z: torch.Tensor, ref: torch.Tensor) -> torch.Tensor:
    rounded = ref.float().abs().clamp(min=torch.finfo(torch.float32).tiny)
    ulp = torch.nextafter(rounded, torch.tensor(torch.inf, device=z.device)).double() - rounded.double()
    return (z.double() - ref).abs() / ulp


@each_backend
def test_gpu_normals_within_6_ulp_over_ten_million(backend):
    mu = zeros(1, 10_000_000)
    z, _ = reparameterize_kl(mu, mu, seed=SEED, backend=backend)
    ref = noise.normal(tuple(mu.shape), torch.tensor(SEED, device="cuda"), None, 0, torch.float64)
    assert ulp_errors(z, ref).max().item() <= 6


@each_backend
def test_gpu_graph_replays_with_fresh_noise(backend):
    mu = torch.randn(64, 128, device="cuda", requires_grad=True)
    logvar = torch.randn(64, 128, device="cuda", requires_grad=True)
    seed = torch.tensor(1, device="cuda")

    def step():
        z, kl = reparameterize_kl(mu, logvar, seed=seed, backend=backend)
        return z, torch.autograd.grad(z.square().sum() + kl, (mu, logvar))

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured_z, captured_grads = step()
    seen = []
    for value in (7, 8, 7):
        seed.fill_(value)
        graph.replay()
        expected_z, expected_grads = step()
        assert_same(captured_z, expected_z, what="z")
        for got, expected in zip(captured_grads, expected_grads, strict=True):
            assert_same(got, expected, what="gradient")
        seen.append(captured_z.clone())
    assert not torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])


@each_backend
def test_gpu_graph_draws_its_own_seeds(backend):
    mu = zeros(64, 128)
    reparameterize_kl(mu, mu, backend=backend)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        z, _ = reparameterize_kl(mu, mu, backend=backend)
    graph.replay()
    first = z.clone()
    graph.replay()
    assert not torch.equal(first, z)


@pytest.mark.slow
def test_gpu_first_call_may_be_captured():
    """In a process where nothing was loaded before; Triton compiles at its first call, which cannot be captured."""
    code = """
import torch
from pygen.functional import reparameterize_kl
mu, seed = torch.zeros(8, 16, device="cuda"), torch.tensor(1, device="cuda")
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    z, kl = reparameterize_kl(mu, mu, seed=seed, backend="cuda")
graph.replay()
torch.cuda.synchronize()
assert torch.equal(z, reparameterize_kl(mu, mu, seed=seed, backend="cuda")[0])
"""
    if "cuda" not in READY:
        pytest.skip(pygen.backends()["cuda"])
    subprocess.run([sys.executable, "-c", code], check=True)


@each_backend
def test_gpu_runs_on_the_current_stream(backend):
    """A producer that is late: a kernel on another stream would read what was there before."""
    mu, logvar = zeros(256, 1024), zeros(256, 1024)
    expected, _ = reparameterize_kl(mu + 3, logvar, seed=SEED, backend=backend)
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    for _ in range(5):
        mu.zero_()
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            torch.cuda._sleep(20_000_000)
            mu.add_(3)
            z, _ = reparameterize_kl(mu, logvar, seed=SEED, backend=backend)
        torch.cuda.synchronize()
        assert_same(z, expected, what="z")


@each_backend
def test_gpu_never_waits_for_the_device(backend):
    mu, logvar = (torch.randn(64, 100, device="cuda", requires_grad=True) for _ in range(2))
    seed = torch.tensor(3, device="cuda")
    reparameterize_kl(mu, logvar, seed=seed, backend=backend)[1].backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        z, kl = reparameterize_kl(mu, logvar, seed=seed, reduction="sum", num_samples=2, backend=backend)
        (z.mean() + kl).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@each_backend
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_gpu_follows_the_tensors_device(backend):
    mu = torch.zeros(8, 16, device="cuda:1")
    z, _ = reparameterize_kl(mu, mu, seed=SEED, backend=backend)
    assert z.device == mu.device and torch.cuda.current_device() == 0
    assert_same(z.to("cuda:0"), reparameterize_kl(zeros(8, 16), zeros(8, 16), seed=SEED, backend=backend)[0], what="z")


@each_backend
@pytest.mark.parametrize("shape", [(70_000, 3), (300_000, 1), (1, 1 << 20)], ids=str)
def test_gpu_many_rows_and_blocks(backend, shape):
    """Past 65535 rows and blocks: per-row sums of all rows, each half equal to the whole."""
    mu, logvar = torch.randn(shape, device="cuda"), torch.randn(shape, device="cuda")
    z, kl = reparameterize_kl(mu, logvar, seed=SEED, reduction="none", backend=backend)
    ref_z, ref_kl = reparameterize_kl(mu, logvar, seed=SEED, reduction="none", backend="reference")
    torch.testing.assert_close(z, ref_z, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(kl, ref_kl, rtol=2e-5, atol=1e-5)


@pytest.mark.slow
@each_backend
def test_gpu_indices_past_two_to_the_31(backend):
    """The last elements of a tensor of 2^32 + 8: offsets, counters and the high counter word beyond 32 bits."""
    rows, size = 2, (1 << 31) + 4
    if torch.cuda.mem_get_info()[0] < 6 * rows * size * 2:
        pytest.skip("needs 52 GB of GPU memory")
    mu = torch.zeros((), dtype=torch.bfloat16, device="cuda").expand(rows, size)
    z, _ = reparameterize_kl(mu, mu, seed=SEED, backend=backend)
    tail = z[-1, -64:].float()
    first = (rows * size - 64) // 4
    quad = torch.arange(first, first + 16, device="cuda")
    zero, seed = torch.zeros_like(quad), torch.tensor(SEED, device="cuda")
    key = (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)
    words = noise.philox4x32_10((quad & 0xFFFFFFFF, quad >> 32, zero, zero), key)
    u = [noise.uniform(w) for w in words]
    expected = torch.stack((*noise.box_muller(u[0], u[1]), *noise.box_muller(u[2], u[3])), dim=-1).flatten()
    torch.testing.assert_close(tail, expected.bfloat16().float(), rtol=1e-2, atol=1e-3)
    assert z[0, -1].isfinite() and z[1, 0].isfinite()
