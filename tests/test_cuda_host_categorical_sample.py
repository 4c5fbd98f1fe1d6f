"""The CUDA C++ kernels of categorical_sample, executed on the host."""

import math

import host_cuda
import layouts
import pytest
import torch
from support import DTYPES, assert_same, dtype_name
from test_categorical_sample import SEED, SHAPES, check, logits_of, special

from pygen.functional import categorical_sample
from pygen.native import categorical_sample as native

pytestmark = host_cuda.MARKS
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels


def draw(logits, channels, temperature=1.0):
    return categorical_sample(logits, channels=channels, temperature=temperature, seed=SEED, backend=BACKEND)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_cuda_host_categorical_sample_inverts_the_distribution_function(dtype):
    for name in SHAPES:
        logits, channels = logits_of(name, dtype)
        check(logits, channels, 0.7, draw(logits, channels, 0.7))


# Levels on both sides of what one, two, four and eight warps share; draws that fill a block and one more or less.
@pytest.mark.parametrize("levels", (16, 17, 33, 65, 129, 200))
def test_cuda_host_categorical_sample_of_any_size_in_both_layouts(levels):
    g = torch.Generator().manual_seed(levels)
    for size in (31, 32, 33):
        logits = torch.randn(2, levels, size, generator=g)
        for given in (logits, logits.mT.contiguous().mT):
            check(given, 1, 1.0, draw(given, 1))


@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
def test_cuda_host_categorical_sample_takes_every_layout(maker):
    for name in ("odd everything", "rows of levels"):
        logits, channels = logits_of(name, torch.float64)
        laid = maker(logits)
        expected = categorical_sample(laid.contiguous(), channels=channels, seed=SEED, backend="reference")
        assert_same(draw(laid, channels), expected)


def test_cuda_host_categorical_sample_of_infinite_logits_and_nan():
    logits, allowed = special()
    for given in (logits, logits.mT.contiguous().mT):
        for seed in range(5):
            levels = categorical_sample(given, seed=seed, backend=BACKEND)[0, 0].tolist()
            assert all(level in some for level, some in zip(levels, allowed, strict=True)), levels
    logits = torch.tensor([[0.0, 3.0, 2.5, -math.inf]]).expand(60, 4)
    assert (draw(logits, 1, 1e-310) == 1).all()
    assert set(draw(logits, 1, 1e300).flatten().tolist()) == {0, 1, 2}


def test_cuda_host_categorical_sample_device_is_guarded(monkeypatch):
    logits, seed = torch.zeros(1, 2, 3), torch.tensor(1)
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        native.forward(logits, seed, 1, 1.0)
