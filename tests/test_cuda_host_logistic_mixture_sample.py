"""The CUDA C++ kernel of logistic_mixture_sample, executed on the host."""

import host_cuda
import layouts
import pytest
import torch
from support import DTYPES, assert_same, dtype_name
from test_logistic_mixture_sample import CASES, SEED, check, params_of, special

from pygen.functional import logistic_mixture_sample

pytestmark = host_cuda.MARKS
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_cuda_host_logistic_mixture_sample_draws_as_float64(dtype):
    for name in CASES:
        params, options = params_of(name, dtype)
        options |= {"temperature": 0.7, "min_log_scale": -2.0}
        check(params, options, logistic_mixture_sample(params, seed=SEED, backend=BACKEND, **options))


@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
def test_cuda_host_logistic_mixture_sample_takes_every_layout(maker):
    for name in ("odd everything", "grey"):
        params, options = params_of(name, torch.float64)
        laid = maker(params)
        expected = logistic_mixture_sample(laid.contiguous(), seed=SEED, backend="reference", **options)
        assert_same(logistic_mixture_sample(laid, seed=SEED, backend=BACKEND, **options), expected)


def test_cuda_host_logistic_mixture_sample_of_infinite_parameters_and_nan():
    params, allowed = special()
    for seed in range(3):
        levels = logistic_mixture_sample(params, min_log_scale=-9.0, seed=seed, backend=BACKEND)
        for at, some in enumerate(allowed):
            assert set(levels[0, :, at].tolist()) <= some, (at, levels[0, :, at])
