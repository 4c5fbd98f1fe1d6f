"""What only a GPU can show of pixel_lstm: real sizes, in shared memory and beyond it."""

import pytest
import torch
from registry import OPS, gradients, leaves
from rows.pixel_lstm import tensors
from support import assert_same

import pygen

OP = next(op for op in OPS if op.name == "pixel_lstm")
BACKENDS = [name for name in ("triton", "cuda") if torch.cuda.is_available() and pygen.backends()[name] is None]
pytestmark = pytest.mark.skipif(not BACKENDS, reason="needs an NVIDIA GPU and its kernels")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("direction", "size"),
    [
        ("right", (5, 128, 32, 32, 2)),
        ("left", (3, 65, 30, 33, 2)),
        ("down", (3, 100, 28, 28, 3)),
        ("down", (2, 256, 4, 70, 3)),
    ],
)
def test_gpu_pixel_lstm_at_real_size_and_the_same_twice(backend, direction, size):
    results = []
    for device, dtype in (("cpu", torch.float64), ("cuda", torch.float32), ("cuda", torch.float32)):
        marked, inputs = leaves(OP, {k: t.to(device, dtype) for k, t in tensors(*size).items()})
        h = OP.run(marked, {"direction": direction}, None if device == "cpu" else backend)
        results.append([t.detach().cpu() for t in (*h, *gradients(h, inputs))])
    for truth, first, again in zip(*results, strict=True):
        assert (first - truth).abs().max() <= 1e-5 * truth.abs().max()
        assert_same(again, first)
