"""What only a GPU can show of the samplers: real sizes, graphs whose seed changes, streams, and the draws of a CPU."""

import pytest
import torch
from support import assert_same

import pygen
from pygen.functional import bernoulli_sample, categorical_sample, logistic_mixture_sample

BACKENDS = [name for name in ("triton", "cuda") if torch.cuda.is_available() and pygen.backends()[name] is None]
pytestmark = pytest.mark.skipif(not BACKENDS, reason="needs an NVIDIA GPU and its kernels")
each_backend = pytest.mark.parametrize("backend", BACKENDS)
# The function, the shape of its parameters, its options.
CASES = {
    "categorical": (categorical_sample, (16, 3 * 256, 32, 32), {"channels": 3}),
    "tokens": (categorical_sample, (8, 50257), {}),
    "bernoulli": (bernoulli_sample, (16, 3, 64, 64), {}),
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
