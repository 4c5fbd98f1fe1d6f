"""Each configuration of the Triton kernels alone, on outputs that hold NaN before. The generic tests run the usual ones."""

import pytest
import torch
from special_checks import check_gaussian
from support import DTYPES, SEED, assert_accurate, assert_same, compute_dtype, dtype_name, mixed_weights

from pygen.reference import reparameterize_kl as reference

pytest.importorskip("triton")
from pygen.kernels import _blocks, reparameterize_kl

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("poisoned")]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def check(shape, dtype, *, prior=False, samples=None, free_bits=0.0, reduction="none", lay=lambda t: t):
    """Launcher against the reference in float64 of the same rounded inputs, values and gradients."""
    g = torch.Generator().manual_seed(2)
    full = [torch.randn(shape, generator=g).to(dtype) for _ in range(4 if prior else 2)]
    inputs = [lay(t).to(DEVICE) for t in full] + [None] * (4 - len(full))
    seed = torch.tensor(SEED, device=DEVICE)
    options = (samples, free_bits, reduction)
    z, kl = reparameterize_kl.forward(*inputs, None, seed, *options, True)
    z_shape = shape if samples is None else (samples, *shape)
    grad_z = mixed_weights(z_shape, dtype, DEVICE)
    grad_kl = mixed_weights(kl.shape, kl.dtype, DEVICE)
    needs = [t is not None for t in inputs]
    grads = reparameterize_kl.backward(grad_z, grad_kl, *inputs, None, seed, *options, needs)
    truths = []
    for wide in (torch.float64, compute_dtype(dtype)):
        cast = [None if t is None else t.cpu().to(wide) for t in inputs]
        ref_z, ref_kl = reference.forward(*cast, None, seed.cpu(), *options, True)
        ref = reference.backward(
            grad_z.cpu().to(wide), grad_kl.cpu().to(wide), *cast, None, seed.cpu(), *options, needs
        )
        truths.append((ref_z, ref_kl, *(r for r in ref if r is not None)))
    got = (z, kl, *(x for x in grads if x is not None))
    for name, a, ref, base in zip(("z", "kl", "mu", "logvar", "prior_mu", "prior_logvar"), got, *truths, strict=False):
        out = kl.dtype if name == "kl" else dtype
        assert_accurate(a, ref, base.to(out), dtype=out, what=name)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("quads", _blocks.QUADS)
def test_triton_reparameterize_kl_each_configuration(quads, dtype):
    rows = _blocks.PROGRAM_QUADS // quads
    assert _blocks.tile(rows, 4 * quads, total=False).quads == quads
    check((min(rows, 9) + 1, 4 * quads), dtype)  # rows fill a program, and one more
    check((3, 4 * quads - 1), dtype, prior=True)  # rows start inside quads


@pytest.mark.parametrize("reduction", ["none", "batchmean"])
def test_triton_reparameterize_kl_turns_and_programs(reduction):
    """A row longer than one program sums, so that partial sums are added up by the second kernel."""
    size = 4 * _blocks.PROGRAM_QUADS * (_blocks.MAX_TURNS + 1) + 5
    tiling = _blocks.tile(2, size, total=False)
    assert tiling.turns > 1 and tiling.per_row == 2
    check((2, size), torch.float32, reduction=reduction)


def test_triton_reparameterize_kl_samples_and_free_bits():
    check((3, 7), torch.float32, samples=3, free_bits=0.3, prior=True, reduction="sum")


def test_triton_reparameterize_kl_samples_in_programs_of_their_own(monkeypatch):
    """One short row and many samples: the noise of sample k does not depend on the program that draws it."""
    monkeypatch.setattr(_blocks, "FEW_PROGRAMS", 8)
    mu, seed = torch.zeros(1, 6, device=DEVICE), torch.tensor(5, device=DEVICE)
    many, _ = reparameterize_kl.forward(mu, mu, None, None, None, seed, 20, 0.0, "sum", True)
    few, _ = reparameterize_kl.forward(mu, mu, None, None, None, seed, 3, 0.0, "sum", True)
    assert_same(many[:3], few, what="z")
    assert many.isfinite().all() and len(many.unique()) == many.numel()


def test_triton_reparameterize_kl_more_dims_than_strides():
    """Five dims that no three strides can describe go through contiguous copies."""
    check((2, 3, 2, 3, 2), torch.float32, lay=lambda t: t.permute(0, 4, 2, 1, 3).contiguous().permute(0, 3, 2, 4, 1))


def test_triton_reparameterize_kl_float64_options_are_not_rounded():
    """Triton passes floats as float32: free_bits would be off by 1e-8."""
    mu = torch.zeros(1, 4, dtype=torch.float64, device=DEVICE)
    _, kl = reparameterize_kl.forward(mu, mu, None, None, None, None, None, 0.1, "sum", False)
    assert kl.item() == pytest.approx(0.4, rel=1e-15)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=dtype_name)
def test_deviations_and_kl_keep_their_digits(dtype):
    check_gaussian(dtype, "triton", DEVICE)
