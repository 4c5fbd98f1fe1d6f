"""The CUDA C++ kernels of vector_quantize, executed on the host."""

import host_cuda
import layouts
import pytest
import test_vector_quantize as own
import torch
from registry import OPS
from support import DTYPES, Target, assert_same, dtype_name
from test_conformance import check_against_truth

from pygen.functional import code_statistics, vector_quantize

pytestmark = host_cuda.MARKS
OP = next(op for op in OPS if op.name == "vector_quantize")
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels
HERE = Target(BACKEND, "cpu")


@pytest.mark.parametrize("sample", OP.samples(), ids=lambda s: s.name)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_cuda_host_vector_quantize_values_and_gradients_are_accurate(sample, dtype):
    check_against_truth(OP, sample.cast(dtype), sample.options, BACKEND)


@pytest.mark.parametrize("maker", layouts.MAKERS[1:], ids=lambda m: m.__name__)
def test_cuda_host_vector_quantize_of_any_layout(maker):
    sample = OP.sample("odd everything")
    tensors = {
        k: t if maker is layouts.expanded and k == "codebook" else maker(t)
        for k, t in sample.cast(torch.float32).items()
    }
    check_against_truth(OP, tensors, sample.options, BACKEND, relay=lambda w: layouts.channels_last(w))


# Positions and codes: a block of them, one more; channels: what a step takes, and one more.
@pytest.mark.parametrize(("positions", "codes", "channels"), [(128, 128, 16), (129, 129, 17), (64, 300, 33)])
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=dtype_name)
def test_cuda_host_vector_quantize_at_the_edges_of_a_block(positions, codes, channels, dtype):
    z, e = own.integers((1, channels, positions), codes, dtype, most=1)
    quantized, indices, _ = vector_quantize(z, e, backend=BACKEND)
    expected, _ = own.first_nearest(z, e)
    assert_same(indices, expected)
    assert_same(quantized, own.reference.codes_of(e, expected).contiguous())


def test_cuda_host_vector_quantize_of_what_is_not_finite():
    own.test_what_is_not_finite(HERE)
    own.test_codes_that_are_not_finite_hide_no_other(HERE)


def test_cuda_host_vector_quantize_in_closed_form():
    own.test_gradients_in_closed_form((3, 5, 4, 6), HERE)
    own.test_of_equal_distances_the_lowest_index((3, 13, 5, 7), torch.bfloat16, HERE)


def test_cuda_host_code_statistics():
    own.test_statistics((3, 18, 5, 6), HERE)
    own.test_statistics((300, 37), HERE)


def test_cuda_host_code_statistics_leave_out_codes_that_are_none(monkeypatch):
    monkeypatch.setattr("pygen.ops._vector_quantize.check_level_values", lambda *args: None)
    z, indices = torch.ones(2, 3, 2), torch.tensor([[0, -1], [5, 1 << 40]])
    counts, sums = code_statistics(z, indices, 5, backend=BACKEND)
    assert counts.tolist() == [1, 0, 0, 0, 0] and sums.sum(1).tolist() == [3, 0, 0, 0, 0]


def test_cuda_host_vector_quantize_device_is_guarded(monkeypatch):
    z, e = own.integers((2, 3, 4), 5)
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        vector_quantize(z, e, backend=BACKEND)
    host_cuda.run_native_on(monkeypatch, (1, 0))
    vector_quantize(z, e, backend=BACKEND)
