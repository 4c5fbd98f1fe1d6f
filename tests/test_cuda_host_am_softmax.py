"""The CUDA C++ kernels of am_softmax, executed on the host."""

import am_softmax_parts
import host_cuda
import pytest
import torch
from registry import OPS, leaves
from rows.am_softmax import tensors
from support import DTYPES, dtype_name
from test_conformance import check_against_truth

from pygen.native import am_softmax as native
from pygen.ops import _am_softmax, _products

pytestmark = host_cuda.MARKS
OP = next(op for op in OPS if op.name == "am_softmax")
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels


@pytest.mark.parametrize("sample", [s for s in OP.samples() if s.small], ids=lambda s: s.name)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_cuda_host_am_softmax_values_and_gradients_are_accurate(sample, dtype):
    check_against_truth(OP, sample.cast(dtype), sample.options, BACKEND)


# One class more and less than a block's threads, than a turn of them, and than two turns.
@pytest.mark.parametrize("classes", (1, 31, 511, 513, 4095, 4097, 8200))
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_cuda_host_am_softmax_rows_of_any_number_of_classes(classes, dtype):
    """16-bit gradients of float32 products too, which only a GPU's tensors ask for."""
    am_softmax_parts.check_rows(native, classes, dtype)


@pytest.mark.parametrize("features", (0, 1, 31, 33, 130))
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_cuda_host_am_softmax_across_takes_away_what_points_along(features, dtype):
    am_softmax_parts.check_across(native, features, dtype)


def test_cuda_host_am_softmax_of_a_sample_of_zeros_in_float16(monkeypatch):
    """Products of 16 bits, as on a GPU: 1 / |x| is beyond float16, and 0 times infinity must not reach the weights."""
    monkeypatch.setattr(_am_softmax, "operands", lambda input, weight: (input, weight))
    monkeypatch.setattr(_products.masked_linear, "has_dense", lambda x: False)
    t = {k: v.half() if v.is_floating_point() else v for k, v in tensors(5, 7, 6).items()}
    t["input"][1] = 0
    t["input"][2] *= 2e-3
    found = []
    for backend, dtype in ((BACKEND, torch.float16), ("reference", torch.float64)):
        marked, inputs = leaves(OP, {k: v.to(dtype) if v.is_floating_point() else v for k, v in t.items()})
        found.append(torch.autograd.grad(OP.run(marked, {}, backend), inputs))
    others = [0, 2, 3, 4]  # of the zeros the gradient is infinite in float16
    for ours, exact in ((found[0][0][others], found[1][0][others]), (found[0][1], found[1][1])):
        torch.testing.assert_close(ours.double(), exact, rtol=0, atol=4 * 2**-11 * exact.abs().max().item())


def test_cuda_host_am_softmax_device_is_guarded(monkeypatch):
    t = tensors(2, 3, 4)
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        OP.run(t, {}, BACKEND)
    host_cuda.run_native_on(monkeypatch, (1, 0))
    OP.run(t, {}, BACKEND)
