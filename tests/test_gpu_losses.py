"""What only a GPU can show of the likelihoods, losses and flows beside test_conformance.py: graphs, streams, no waits."""

import pytest
import torch
from registry import OPS, leaves, on_floating
from support import assert_same
from test_gpu_layers import DEVICE, each_backend, results

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
NAMES = ("affine_coupling", "am_softmax", "bernoulli_nll", "categorical_nll", "crf_log_partition", "crf_nll",
         "logistic_mixture_nll", "nade_nll", "nce_loss", "rational_quadratic_spline", "vector_quantize")  # fmt: skip
each_op = pytest.mark.parametrize("op", [op for op in OPS if op.name in NAMES], ids=str)


def made(op, dtype=torch.float32):
    sample = op.sample("odd everything")
    return {k: t.clone() for k, t in sample.cast(dtype, DEVICE).items()}, sample.options


@each_backend
@each_op
def test_gpu_loss_replays_in_graphs(op, backend):
    tensors, options = made(op, torch.bfloat16)
    results(op, tensors, options, backend)  # Triton compiles at the first call
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = results(op, tensors, options, backend)
    for scale in (0.5, -2.0):
        on_floating(lambda t, scale=scale: t.mul_(scale), tensors)
        graph.replay()
        for a, c in zip(captured, results(op, tensors, options, backend), strict=True):
            assert_same(a, c)


@each_backend
@each_op
def test_gpu_loss_runs_on_the_current_stream(op, backend):
    tensors, options = made(op)
    expected = results(op, on_floating(lambda t: t + 3, tensors), options, backend)
    late, side = {k: t.clone() for k, t in tensors.items()}, torch.cuda.Stream()
    for _ in range(3):
        on_floating(lambda t: t.zero_(), late)
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            torch.cuda._sleep(20_000_000)
            for k, t in late.items():
                t.copy_(tensors[k])
            on_floating(lambda t: t.add_(3), late)
            got = results(op, late, options, backend)
        torch.cuda.synchronize()
        for a, c in zip(got, expected, strict=True):
            assert_same(a, c)


@each_backend
@each_op
def test_gpu_loss_never_waits_for_the_device(op, backend):
    tensors, options = made(op)
    marked, inputs = leaves(op, tensors)
    weights = [torch.randn_like(o) for o in op.run(marked, options, backend)]
    torch.autograd.grad(op.run(marked, options, backend), inputs, weights)
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.autograd.grad(op.run(marked, options, backend), inputs, weights)
    finally:
        torch.cuda.set_sync_debug_mode("default")
