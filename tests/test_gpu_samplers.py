"""What only a GPU can show of the samplers: real sizes, graphs whose seed changes, streams, and the draws of a CPU."""

import pytest
import torch
from support import assert_same
from torch import Tensor

import pygen
from pygen.functional import bernoulli_sample, categorical_sample, crf_sample, logistic_mixture_sample

BACKENDS = [name for name in ("triton", "cuda") if torch.cuda.is_available() and pygen.backends()[name] is None]
pytestmark = pytest.mark.skipif(not BACKENDS, reason="needs an NVIDIA GPU and its kernels")
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def chain(emissions: Tensor, **options) -> Tensor:
    """Of transitions that are the same numbers everywhere, made on the device: in a graph nothing can be copied there."""
    k = emissions.shape[2]
    transitions = (torch.arange(k * k, device=emissions.device) * 5 % 13 - 6).view(k, k).to(emissions.dtype) / 4
    return crf_sample(emissions, transitions, transitions[0], transitions[1], num_samples=8, **options)


# The function, the shape of its parameters, its options.
CASES = {
    "categorical": (categorical_sample, (16, 3 * 256, 32, 32), {"channels": 3}),
    "tokens": (categorical_sample, (8, 50257), {}),
    "bernoulli": (bernoulli_sample, (16, 3, 64, 64), {}),
    "chain": (chain, (64, 100, 20), {}),
    "chain of many tags": (chain, (8, 40, 64), {"temperature": 0.7}),
    "chain by logarithms": (lambda e, **options: chain(60 * e, **options), (16, 40, 33), {"temperature": 50.0}),
    "mixture": (logistic_mixture_sample, (16, 100, 32, 32), {}),
}
each_case = pytest.mark.parametrize("case", CASES)


def made(case: str, dtype: torch.dtype):
    function, shape, options = CASES[case]
    params = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    return function, params, options


@each_backend
@each_case
def test_gpu_sampler_draws_what_a_cpu_draws(case, backend):
    """In float64; in float32 but for numbers within rounding of a boundary, by the instructions of either."""
    for dtype, share in ((torch.float64, 0.0), (torch.float32, 1e-4), (torch.bfloat16, 1e-4)):
        function, params, options = made(case, dtype)
        expected = function(params, seed=7, backend="reference", **options)
        got = function(params.cuda(), seed=7, backend=backend, **options).cpu()
        assert (got != expected).sum() <= share * got.numel(), dtype


@each_backend
@each_case
def test_gpu_sampler_draws_afresh_at_each_replay_of_a_graph(case, backend):
    function, params, options = made(case, torch.bfloat16)
    params, seed = params.cuda(), torch.tensor(1, device="cuda")
    function(params, seed=seed, backend=backend, **options)  # Triton compiles at the first call
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = function(params, seed=seed, backend=backend, **options)
    for value in (2, 3):
        seed.fill_(value)
        graph.replay()
        assert_same(captured, function(params, seed=value, backend=backend, **options))


@each_backend
@each_case
def test_gpu_sampler_runs_on_the_current_stream(case, backend):
    function, params, options = made(case, torch.float32)
    expected = function(params.cuda(), seed=3, backend=backend, **options)
    late, stream = torch.empty_like(params, device="cuda"), torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        late.copy_(params)
        got = function(late, seed=3, backend=backend, **options)
    stream.synchronize()
    assert_same(got, expected)


@each_backend
@each_case
def test_gpu_sampler_never_waits_for_the_device(case, backend):
    function, params, options = made(case, torch.float32)
    params, seed = params.cuda(), torch.tensor(1, device="cuda")
    function(params, seed=seed, backend=backend, **options)
    torch.cuda.set_sync_debug_mode("error")
    try:
        function(params, seed=seed, backend=backend, **options)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@each_backend
def test_gpu_chain_of_a_wrong_length_is_no_tags(backend):
    e = torch.randn(4, 6, 3, device="cuda")
    lengths = torch.tensor([6, 7, -1, 2], device="cuda")
    tags = crf_sample(e, e[0, :3], lengths=lengths, num_samples=5, seed=1, backend=backend)
    assert (tags >= 0).sum((0, 2)).tolist() == [30, 0, 0, 10]
