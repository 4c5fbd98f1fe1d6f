"""What only a GPU can show of masked autoregressive layers: real sizes, every block size, streams, graphs, both gradients."""

import pytest
import torch

from pygen.models import MAF
from pygen.native import _dense_cuda as dense
from pygen.native import autoregressive_inverse as native
from pygen.nn import MaskedAutoregressive, MaskedAutoregressiveSpline

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

# D, hidden sizes, features of cond, samples, bins of splines.
LARGE = {
    "few numbers": (6, (64, 64), 3, 4000, None),
    "images": (784, (1024, 1024), None, 300, None),
    "deep": (63, (512,) * 4, 8, 1000, None),
    "splines": (6, (64, 64), 3, 4000, 8),
    "many splines": (63, (256, 256), None, 1000, 16),
}
each_case = pytest.mark.parametrize("case", LARGE)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


@pytest.fixture(autouse=True)
def _exact_float32():
    switch = torch.backends.cuda.matmul
    before, switch.fp32_precision = switch.fp32_precision, "ieee"
    yield
    switch.fp32_precision = before


def made(case, dtype):
    """A layer whose map is mild, y and cond, on the CPU."""
    inputs, hidden, features, n, bins = LARGE[case]
    if bins is None:
        layer = MaskedAutoregressive(inputs, hidden, cond_features=features, scale="tanh", bound=1.0)
    else:
        layer = MaskedAutoregressiveSpline(inputs, hidden, cond_features=features, num_bins=bins, bound=2.0)
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * (0.3 / p.shape[-1] ** 0.5 if p.dim() > 1 else 0.3))
    y = torch.randn(n, inputs, generator=g)
    return layer.to(dtype), y.to(dtype), None if features is None else torch.randn(n, features, generator=g).to(dtype)


def results(layer, y, cond):
    """x, log_det and gradients of y, cond and the parameters, on the CPU."""
    leaves = [t.clone().requires_grad_() for t in (y, cond) if t is not None]
    x, log_det = layer.inverse(*leaves)
    loss = (x * x).sum() + log_det.sum()
    grads = torch.autograd.grad(loss, [*leaves, *layer.parameters()])
    return [t.detach().cpu() for t in (x, log_det, *grads)]


def on_gpu(layer, y, cond):
    return layer.cuda(), y.cuda(), None if cond is None else cond.cuda()


@each_dtype
@each_case
def test_gpu_inverse_and_gradients_are_accurate(case, dtype):
    layer, y, cond = made(case, dtype)
    truth = results(*(None if t is None else t.double() for t in (layer, y, cond)))
    rtol = 1e-10 if dtype is torch.float64 else 2e-4
    for got, exact in zip(results(*on_gpu(layer.to(dtype), y, cond)), truth, strict=True):
        torch.testing.assert_close(got.double(), exact, rtol=rtol, atol=rtol * float(exact.abs().max()))


@each_dtype
@each_case
@pytest.mark.parametrize("room", [48 << 10, 6000, 0])
def test_gpu_inverse_depends_on_neither_batch_nor_block_to_the_last_bit(case, dtype, room, monkeypatch):
    """Panels of several lengths and none; blocks of every size."""
    monkeypatch.setattr(dense, "_BUFFERS_BYTES", room)
    dense.make_plan.cache_clear()
    layer, y, cond = on_gpu(*made(case, dtype))
    kernel = "forward" if LARGE[case][-1] is None else "forward_spline"
    forward = getattr(native, kernel)
    with torch.no_grad():
        whole = layer.inverse(y, cond)
        assert all(torch.equal(a, b) for a, b in zip(layer.inverse(y, cond), whole, strict=True))
        rows = slice(None) if cond is not None else slice(33)  # what cond adds is cuBLAS's product of the batch
        for images in (1, 2, 4) if dtype == torch.float64 else (1, 2, 4, 8):
            for threads in (32, 64, 256):
                tuned = {"images_per_block": images, "threads": threads}
                monkeypatch.setattr(native, kernel, lambda *args, tuned=tuned: forward(*args, **tuned))
                some = layer.inverse(y[rows], cond)
                assert all(torch.equal(a, b[rows]) for a, b in zip(some, whole, strict=True)), tuned
    dense.make_plan.cache_clear()


def test_gpu_inverse_in_device_memory_is_the_same(monkeypatch):
    """As where not even one image fits into shared memory."""
    layer, y, cond = on_gpu(*made("images", torch.float32))
    expected = results(layer, y, cond)
    compiled, _ = native.target(y)

    class Limited:
        def __getattr__(self, attribute):
            return getattr(compiled, attribute)

        def sampling_limits(self, device):
            return 132, 0

    target = native.target
    monkeypatch.setattr(native, "target", lambda t: (Limited(), target(t)[1]))
    assert all(torch.equal(a, b) for a, b in zip(results(layer, y, cond), expected, strict=True))


@each_case
def test_gpu_inverse_follows_the_stream_and_can_be_captured(case):
    layer, y, cond = on_gpu(*made(case, torch.float32))
    with torch.no_grad():
        expected = layer.inverse(y, cond)[0]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            assert torch.equal(layer.inverse(y, cond)[0], expected)
        torch.cuda.current_stream().wait_stream(side)
        graph, given = torch.cuda.CUDAGraph(), y.clone()
        with torch.cuda.graph(graph):
            x, _ = layer.inverse(given, cond)
        given.zero_()
        graph.replay()
        zeros = x.clone()
        given.copy_(y)
        graph.replay()
        assert torch.equal(x, expected) and not torch.equal(zeros, expected)


@pytest.mark.parametrize("bins", [None, 8])
def test_gpu_maf_samples_what_the_cpu_does(bins):
    model = MAF(63, (256, 256), cond_features=4, num_bins=bins)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.02)
    z, cond = torch.randn(500, 63), torch.randn(500, 4)
    with torch.no_grad():
        expected = model.inverse(z, cond)
        got = model.cuda().inverse(z.cuda(), cond.cuda())
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-3, atol=1e-3)
    assert model.sample(7, cond=cond[:7].cuda(), seed=1).shape == (7, 63)
