"""The CUDA inverse of masked autoregressive layers, executed on the host: it finds what plain PyTorch finds."""

import host_cuda
import pytest
import torch

from pygen.native import _dense_cuda as dense
from pygen.native import autoregressive_inverse as native
from pygen.nn import MaskedAutoregressive, MaskedAutoregressiveSpline

pytestmark = host_cuda.MARKS
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels

# D, hidden sizes, order, options: one input, one panel, several, units beyond a warp's lanes, layers without a unit that counts.
CASES = {
    "one input": (1, 4, None, {}),
    "one input and cond": (1, (4, 3), None, {"cond_features": 2, "scale": "sigmoid"}),
    "two": (2, (3,), (1, 0), {"scale": "tanh", "bound": 1.5}),
    "few": (7, (5, 9), (3, 0, 6, 2, 5, 1, 4), {"cond_features": 3}),
    "panels": (70, (40, 33, 20), None, {"scale": "tanh", "bound": 2.0}),
    "panels and cond": (70, (90, 33), range(70)[::-1], {"cond_features": 1, "scale": "sigmoid"}),
    "additive": (40, (50,), None, {"additive": True, "cond_features": 2}),
    "tanh": (7, (5, 9), None, {"activation": "tanh", "cond_features": 3}),
    "elu": (7, (5, 9), None, {"activation": "elu"}),
    "silu": (40, (30, 33), None, {"activation": "silu", "num_bins": 2, "bound": 2.0}),
    "splines": (7, (5, 9), (3, 0, 6, 2, 5, 1, 4), {"num_bins": 5, "cond_features": 3, "bound": 1.0}),
    "splines in a box": (3, (4, 3), None, {"num_bins": 1, "tails": None, "bound": 5.0}),
    "splines of more numbers than lanes": (5, (7,), None, {"num_bins": 20, "identity_init": False}),
    "spline panels": (40, (30, 33), range(40)[::-1], {"num_bins": 3, "bound": (-2.0, 3.0)}),
}
each_case = pytest.mark.parametrize("case", CASES)


def made(case, dtype=torch.float64):
    """A layer whose map is mild, y and cond."""
    inputs, hidden, order, options = CASES[case]
    kind = MaskedAutoregressiveSpline if "num_bins" in options else MaskedAutoregressive
    layer, g = kind(inputs, hidden, order=order, **options), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * (0.5 / p.shape[-1] ** 0.5 if p.dim() > 1 else 0.3))
    y, features = torch.randn(9, inputs, generator=g), options.get("cond_features")
    cond = None if features is None else torch.randn(9, features, generator=g).to(dtype)
    return layer.to(dtype), y.to(dtype), cond


def tuned(patch, names, tuning):
    for name in names if tuning else ():
        run = getattr(native, name)
        patch.setattr(native, name, lambda *args, run=run: run(*args, **tuning))


def inverse(layer, y, cond, backend=BACKEND, **tuning):
    layer.backend = backend
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        tuned(patch, ("forward", "forward_spline"), tuning)
        return layer.inverse(y, cond)


@pytest.fixture
def room(monkeypatch):
    """Sets the room for two panels' triangles, and so the panels' steps; 0: none."""

    def set_room(size: int) -> None:
        dense.make_plan.cache_clear()
        monkeypatch.setattr(dense, "_BUFFERS_BYTES", size)

    yield set_room
    dense.make_plan.cache_clear()


@each_case
@pytest.mark.parametrize("size", [48 << 10, 4000, 0])
def test_cuda_host_autoregressive_inverse_is_plain_pytorchs(case, size, room):
    """In panels of any length, and each layer by all warps; with a warp that helps and without."""
    room(size)
    layer, y, cond = made(case)
    for images, threads in ((1, 96), (4, 64), (2, 32)):
        x, log_det = inverse(layer, y, cond, images_per_block=images, threads=threads)
        expected = inverse(layer, y, cond, "reference")
        torch.testing.assert_close(x, expected[0], rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(log_det, expected[1], rtol=1e-11, atol=1e-11)
        again, minus = layer(x, cond)
        torch.testing.assert_close(again, y, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(minus, -log_det, rtol=1e-11, atol=1e-11)


@each_case
def test_cuda_host_autoregressive_inverse_in_float32_is_as_accurate_as_plain_pytorch(case):
    layer, y, cond = made(case, torch.float32)
    truth = inverse(layer.double(), y.double(), None if cond is None else cond.double(), "reference")
    layer.float()
    ours, plain = (inverse(layer, y, cond, backend) for backend in (BACKEND, "reference"))
    for a, b, exact in zip(ours, plain, truth, strict=True):
        scale = float(exact.abs().max())
        assert (a - exact).abs().max() <= 2 * (b - exact).abs().max() + 8e-7 * scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [4000, 0])
def test_cuda_host_autoregressive_inverse_depends_on_neither_batch_nor_block_to_the_last_bit(size, dtype, room):
    room(size)
    """What cond adds is torch's product, the last bits of which depend on the batch: so all of it goes to each block."""
    for case in ("panels", "panels and cond", "spline panels"):
        layer, y, cond = made(case, dtype)
        x, log_det = inverse(layer, y, cond, images_per_block=1, threads=64)
        for images, threads in ((1, 32), (2, 96), (4, 128)) if dtype == torch.float64 else ((2, 32), (4, 96), (8, 256)):
            some = slice(2, 2 + images) if cond is None else slice(None)
            again = inverse(layer, y[some], cond, images_per_block=images, threads=threads)
            assert torch.equal(again[0], x[some]) and torch.equal(again[1], log_det[some]), (case, images, threads)


def test_cuda_host_autoregressive_inverse_does_not_depend_on_where_images_lie(cuda_on_host, monkeypatch):
    """In shared memory, or in device memory where they do not fit."""

    class Limited:
        def __getattr__(self, name):
            return getattr(cuda_on_host, name)

        def sampling_limits(self, device):
            return 4, 48 << 10

    layer, y, cond = made("panels and cond")
    expected = inverse(layer, y, cond, threads=64)
    monkeypatch.setattr(native, "target", lambda t: (Limited(), (0, 0)))
    monkeypatch.setattr(dense, "_IMAGES_BYTES", 1 << 20)
    got = inverse(layer, y, cond, threads=64)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_cuda_host_autoregressive_inverse_keeps_nan_where_it_is():
    """One in a sample reaches no other, and of it only what comes later; in a dead weight it reaches nothing."""
    layer, y, cond = made("few")
    expected = inverse(layer, y, cond)
    with torch.no_grad():
        for part in layer.layers:
            part.weight[~part.live_mask()] = torch.nan
    y[2, 2] = torch.nan  # the last of seven
    y[3, 0] = torch.nan  # the fourth
    x, log_det = inverse(layer, y, cond)
    others = (torch.arange(9) != 2) & (torch.arange(9) != 3)
    assert torch.equal(x[others], expected[0][others]) and torch.equal(log_det[others], expected[1][others])
    for row, first in ((2, 6), (3, 3)):
        assert x[row].isnan().tolist() == [turn >= first for turn in layer.order]


def test_cuda_host_autoregressive_inverse_of_splines_whose_axes_have_far_logits():
    """Of widths and of heights each have their own largest one: exponentials neither overflow nor vanish."""
    layer, y, cond = made("splines")
    for axis, far in ((0, 800.0), (1, 800.0), (1, -800.0)):
        with torch.no_grad():
            layer.layers[-1].bias.unflatten(0, (7, -1))[:, 5 * axis : 5 * axis + 5] += far
        x, log_det = inverse(layer, y, cond)
        expected = inverse(layer, y, cond, "reference")
        assert x.isfinite().all()
        torch.testing.assert_close(x, expected[0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(log_det, expected[1], rtol=1e-10, atol=1e-10)


def test_cuda_host_autoregressive_inverse_reads_weights_and_y_of_any_strides():
    layer, y, cond = made("panels and cond")
    expected = inverse(layer, y, cond)
    for part in layer.layers:
        part.weight.data = part.weight.data.T.contiguous().T
        part.bias.data = torch.stack([part.bias.data, part.bias.data + 1], -1)[:, 0]
    got = inverse(layer, y.T.contiguous().T, cond)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@each_case
@pytest.mark.parametrize("size", [48 << 10, 4000, 0])
def test_cuda_host_autoregressive_inverse_gradients_are_plain_pytorchs(case, size, room):
    """Of the transposed network, in panels of any length and none; to the last bit in any block."""
    room(size)
    layer, y, cond = made(case)
    expected, bits = gradients(layer, y, cond, "reference"), None
    for images, threads in ((1, 96), (4, 64), (2, 32)):
        grads = gradients(layer, y, cond, BACKEND, images_per_block=images, threads=threads)
        for a, b in zip(grads, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
        assert bits is None or torch.equal(grads[0], bits)
        bits = grads[0]


@pytest.mark.parametrize("case", ["panels and cond", "splines"])
def test_cuda_host_autoregressive_inverse_gradients_in_float32(case):
    """Eight samples a block."""
    layer, y, cond = made(case)
    expected = gradients(layer, y, cond, "reference")
    grads = gradients(layer.float(), y.float(), cond.float(), BACKEND, images_per_block=8, threads=64)
    for a, b in zip(grads, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2e-4, atol=2e-5 * float(b.abs().max()))


def gradients(layer, y, cond, backend, **tuning):
    """Of y, cond and the parameters; of a loss of x and log_det."""
    leaves = [t.clone().requires_grad_() for t in (y, cond) if t is not None]
    with pytest.MonkeyPatch.context() as patch:
        tuned(patch, ("forward", "forward_spline", "solve"), tuning)
        layer.backend = backend
        x, log_det = layer.inverse(*leaves)
        loss = (x * torch.arange(1, 1 + x.shape[1])).sum() + (log_det * torch.arange(len(x))).sum()
        return torch.autograd.grad(loss, [*leaves, *layer.parameters()], materialize_grads=True)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [({"threads": 40}, "threads: expected a multiple of 32, 32 .. 512, got 40"),
     ({"threads": 32, "images_per_block": 3}, "images_per_block: expected 1, 2, 4 or, in float32, 8, got 3")],
    ids=["warps", "images"],
)  # fmt: skip
def test_cuda_host_autoregressive_inverse_refuses_blocks_that_it_has_not(chosen, message):
    with pytest.raises(ValueError, match=message):
        inverse(*made("few", torch.float32), **chosen)
