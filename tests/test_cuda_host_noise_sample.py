"""The CUDA C++ kernel of noise_sample, executed on the host."""

import host_cuda
import pytest
import torch
from support import SEED, assert_same

from pygen.functional import noise_sample, noise_table

pytestmark = host_cuda.MARKS


@pytest.mark.parametrize("size", ((1, 1), (3, 257), (1, 256), (0, 4), (5, 0)), ids=str)
def test_cuda_host_noise_sample_is_the_references(size):
    table = noise_table(1 / torch.arange(1.0, 1001))
    for seed in (0, SEED):
        drawn = noise_sample(table, size, seed=seed, backend="cpu")
        assert_same(drawn, noise_sample(table, size, seed=seed, backend="reference"))


def test_cuda_host_noise_sample_device_is_guarded(monkeypatch):
    table = noise_table(torch.ones(3))
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        noise_sample(table, 4)
