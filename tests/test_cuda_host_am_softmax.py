"""The CUDA C++ kernels of am_softmax, executed on the host."""

import am_softmax_parts
import host_cuda
import pytest
from registry import OPS
from rows.am_softmax import tensors
from support import DTYPES, dtype_name
from test_conformance import check_against_truth

from pygen.native import am_softmax as native

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


def test_cuda_host_am_softmax_device_is_guarded(monkeypatch):
    t = tensors(2, 3, 4)
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        OP.run(t, {}, BACKEND)
    host_cuda.run_native_on(monkeypatch, (1, 0))
    OP.run(t, {}, BACKEND)
