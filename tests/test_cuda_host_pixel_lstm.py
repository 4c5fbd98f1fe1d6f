"""The CUDA C++ kernels of pixel_lstm, executed on the host."""

import host_cuda
import pytest
import torch
from registry import OPS, gradients, leaves
from rows.pixel_lstm import tensors
from support import DTYPES, dtype_name
from test_conformance import check_against_truth

from pygen.native import pixel_lstm as native

pytestmark = host_cuda.MARKS
OP = next(op for op in OPS if op.name == "pixel_lstm")
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels


@pytest.mark.parametrize("sample", [s for s in OP.samples() if s.small], ids=lambda s: s.name)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=dtype_name)
def test_cuda_host_pixel_lstm_values_and_gradients_are_accurate(sample, dtype):
    check_against_truth(OP, sample.cast(dtype), sample.options, BACKEND)


# (N, H, R, W, taps): threads have 8 pixels, warps 32 units, a block 256 threads.
SIZES = {
    "a warp, a thread's pixels": ("down", (1, 32, 2, 8, 3)),
    "one more of each": ("down", (1, 33, 2, 9, 3)),
    "longer than a block's threads": ("down", (2, 5, 2, 70, 5)),
    "a diagonal of 9 pixels": ("right", (2, 6, 9, 10, 2)),
    "diagonals cut by the sides": ("left", (1, 3, 12, 3, 2)),
}


@pytest.mark.parametrize(("direction", "size"), SIZES.values(), ids=list(SIZES))
def test_cuda_host_pixel_lstm_of_any_size(direction, size):
    results = []
    for backend in (BACKEND, "reference"):
        marked, inputs = leaves(OP, tensors(*size))
        h = OP.run(marked, {"direction": direction}, backend)
        results.append((*h, *gradients(h, inputs)))
    for ours, exact in zip(*results, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_cuda_host_pixel_lstm_without_room_in_shared_memory(dtype, monkeypatch):
    sample = OP.sample("odd everything")
    asked = []
    compiled = native.target(torch.zeros(1))[0]

    class Small:
        """A device whose shared memory has no room for a line."""

        def __getattr__(self, name):
            return getattr(compiled, name)

        def pixel_lstm_workspace(self, dtype, direction, sizes, backward, device):
            assert compiled.pixel_lstm_workspace(dtype, direction, sizes, backward, device) == 0
            wide = compiled.pixel_lstm_workspace(dtype, direction, (1, 40_000, *sizes[2:]), backward, device)
            asked.append(backward)
            return wide // 40_000 * 8

    monkeypatch.setattr(native, "target", lambda t: (Small(), (0, 0)))
    check_against_truth(OP, sample.cast(dtype), sample.options, BACKEND)
    assert asked[:2] == [False, True]


def test_cuda_host_pixel_lstm_device_is_guarded(monkeypatch):
    t = {k: v.float() for k, v in tensors(1, 2, 2, 2).items()}
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"invalid device ordinal"):
        native.forward(t["input"], t["weight"], "right", 1, False)
