"""The CUDA C++ kernel of bernoulli_sample, executed on the host."""

import math

import host_cuda
import layouts
import pytest
import torch
from support import DTYPES, assert_same, dtype_name
from test_bernoulli_sample import SEED, SHAPES, check, logits_of

from pygen.functional import bernoulli_sample

pytestmark = host_cuda.MARKS
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_cuda_host_bernoulli_sample_is_that_of_its_number(dtype):
    for name in SHAPES:
        logits = logits_of(name, dtype)
        check(logits, 0.7, bernoulli_sample(logits, temperature=0.7, seed=SEED, backend=BACKEND))


@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
def test_cuda_host_bernoulli_sample_takes_every_layout(maker):
    for name in ("odd everything", "several dims"):
        laid = maker(logits_of(name, torch.float64))
        expected = bernoulli_sample(laid.contiguous(), seed=SEED, backend="reference")
        assert_same(bernoulli_sample(laid, seed=SEED, backend=BACKEND), expected)


def test_cuda_host_bernoulli_sample_of_infinite_logits_and_nan():
    logits = torch.tensor([math.inf, -math.inf, math.nan]).expand(300, 3)
    x = bernoulli_sample(logits, seed=1, backend=BACKEND)
    assert_same(x, torch.tensor([1, 0, 0], dtype=torch.uint8).expand(300, 3).contiguous())


def test_cuda_host_bernoulli_sample_writes_nothing_around_its_bits():
    whole = torch.full((3, 5, 3), 7, dtype=torch.uint8)
    from pygen.native import bernoulli_sample as native

    logits, seed = torch.zeros(5, 3), torch.tensor(1)
    compiled, where = native.target(logits)
    place = (whole[1].data_ptr(), (3, 1, 1))
    compiled.bernoulli_sample("float32", (5, 3, 1), (logits.data_ptr(), (3, 1, 1)), place, 1.0, seed.data_ptr(), *where)
    assert (whole[0] == 7).all() and (whole[2] == 7).all() and (whole[1] <= 1).all()
