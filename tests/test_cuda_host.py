"""The CUDA C++ kernels, executed on the host: each CUDA thread a fiber, blocks one after the other."""

import host_cuda
import layouts
import pytest
import torch
from registry import OPS, gradients, layout_sample, leaves
from support import DTYPES, assert_same, dtype_name
from test_conformance import check_against_truth

from pygen.native import reparameterize_kl as native

pytestmark = host_cuda.MARKS
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels
GAUSSIAN, GAN = ("reparameterize_kl", "gaussian_kl"), ("discriminator_loss", "generator_loss")
DOT = ("sample_dot",)
OURS = [op for op in OPS if op.name in GAUSSIAN + GAN + DOT]  # more of the GAN losses: test_cuda_host_gan_loss.py


CASES = [
    pytest.param(op, sample, dtype, id=f"{op}-{sample.name}-{dtype_name(dtype)}")
    for op in OURS
    for sample in op.samples()
    for dtype in DTYPES
    if dtype in (torch.float32, torch.bfloat16) or sample.name in ("odd everything", "a block plus one")
]


@pytest.mark.parametrize(("op", "sample", "dtype"), CASES)
def test_cuda_host_values_and_gradients_are_accurate(op, sample, dtype):
    check_against_truth(op, sample.cast(dtype), sample.options, BACKEND)


@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
@pytest.mark.parametrize(
    ("op", "name"),
    [
        pytest.param(op, name, id=f"{op}-{name}")
        for op in OURS
        for name in ("odd everything", "one block of 1024")
        if op.name in GAUSSIAN + DOT or name == "odd everything"
    ],
)
def test_cuda_host_layouts_do_not_change_a_bit(op, maker, name):
    sample = op.sample(name)
    tensors = layout_sample(op, sample, maker, torch.float32, "cpu")
    ours, _ = check_against_truth(op, tensors, sample.options, BACKEND)
    if sample.options.get("reduction") == "none":  # rows are summed alike; totals may join rows or not
        for a, b in zip(
            ours, op.run({k: t.contiguous() for k, t in tensors.items()}, sample.options, BACKEND), strict=True
        ):
            assert_same(a, b, what=str(op))


@pytest.mark.parametrize(
    ("op", "relay"),
    [
        pytest.param(op, relay, id=f"{op}-{relay.__name__}")
        for op in OURS
        for relay in layouts.MAKERS[:7]
        if op.name in GAUSSIAN
        or (op.elementwise and relay in (layouts.strided, layouts.channels_last, layouts.misaligned))
    ],
)
def test_cuda_host_upstream_gradients_in_any_layout(op, relay):
    sample = op.sample("odd everything")
    marked, inputs = leaves(op, sample.cast(torch.bfloat16))
    expected = gradients(op.run(marked, sample.options, BACKEND), inputs)
    got = gradients(op.run(marked, sample.options, BACKEND), inputs, relay=lambda w: relay(w) if w.dim() else w)
    if relay is layouts.expanded:
        return  # other values
    for a, b in zip(got, expected, strict=True):
        assert_same(a, b, what="gradient")


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("shape", [(2, 4096), (1, 2 * 8192 + 4), (3, 8193), (70, 40)], ids=str)
def test_cuda_host_sums_of_many_blocks(shape, dtype):
    """Around one turn, several turns, several blocks a row and several rows a block, per row and in total."""
    g = torch.Generator().manual_seed(1)
    mu, logvar = torch.randn(shape, generator=g).to(dtype), torch.randn(shape, generator=g).to(dtype)
    ref = 0.5 * (torch.expm1(logvar.double()) - logvar.double() + mu.double().square())
    _, rows = native.forward(mu, logvar, None, None, None, None, None, 0.0, "none", False)
    _, mean = native.forward(mu, logvar, None, None, None, None, None, 0.0, "batchmean", False)
    torch.testing.assert_close(rows.double(), ref.sum(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(mean.double(), ref.sum() / shape[0], rtol=1e-6, atol=0)


def test_cuda_host_samples_in_blocks_of_their_own():
    """One short row and many samples: the noise of sample k does not depend on the block that draws it."""
    mu, logvar, seed = torch.zeros(1, 6), torch.zeros(1, 6), torch.tensor(5)
    many, _ = native.forward(mu, logvar, None, None, None, seed, 700, 0.0, "sum", True)
    few, _ = native.forward(mu, logvar, None, None, None, seed, 3, 0.0, "sum", True)
    assert_same(many[:3], few, what="z")
    assert many.isfinite().all() and len(many.unique()) == many.numel()


@pytest.mark.parametrize("samples", (lambda t: t[:, 1], lambda t: t[:1, 1].expand(5, -1, -1)), ids=("apart", "one"))
def test_cuda_host_samples_may_lie_anywhere(samples):
    """Of the noise and of z's gradient: what lies between the samples is NaN."""
    mu, logvar = torch.randn(2, 3, 8)
    given = samples(torch.full((5, 2, 3, 8), torch.nan).index_fill_(1, torch.tensor(1), 0) + torch.randn(5, 2, 3, 8))
    found = []
    for t in (given, given.contiguous()):
        z, kl = native.forward(mu, logvar, None, None, t, None, 5, 0.0, "sum", True)
        saved = (mu, logvar, None, None, t, None, 5, 0.0, "sum", (True, True, False, False))
        found.append((z, kl, *native.backward(t, torch.ones(()), *saved)[:2]))
    for a, b in zip(*found, strict=True):
        assert_same(a, b)
        assert a.isfinite().all()


def test_cuda_host_nan_and_infinity_stay_in_their_row():
    mu, logvar = torch.zeros(5, 70), torch.zeros(5, 70)
    mu[1, 3], logvar[2, 69], logvar[3, 0] = torch.nan, torch.nan, -torch.inf
    z, kl = native.forward(mu, logvar, None, None, None, torch.tensor(1), None, 0.0, "none", True)
    assert kl.isnan().tolist() == [False, True, True, False, False]
    assert kl[3] == torch.inf and z[3, 0] == 0
    assert z.isnan().nonzero().tolist() == [[1, 3], [2, 69]]


@pytest.mark.parametrize("op", OURS, ids=str)
def test_cuda_host_device_is_guarded(op, monkeypatch):
    sample = op.sample("one element")
    tensors = sample.cast(torch.float32)
    host_cuda.run_native_on(monkeypatch, (1, 0))
    op.run(tensors, sample.options, BACKEND)
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal \(cudaErrorInvalidDevice\)"):
        op.run(tensors, sample.options, BACKEND)
    host_cuda.run_native_on(monkeypatch, (0, 0))
    op.run(tensors, sample.options, BACKEND)


def test_cuda_host_refuses_more_inner_dims_than_it_can_describe():
    mu = torch.zeros((2,) * 15).permute(0, *reversed(range(1, 15)))[..., ::2, :]
    with pytest.raises(ValueError, match=r"strides: at most 12 inner dimensions that cannot be merged, got 13"):
        native.forward(mu, mu, None, None, None, None, None, 0.0, "none", False)
