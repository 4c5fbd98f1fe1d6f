"""The CUDA C++ kernels of restricted Boltzmann machines, executed on the host."""

import host_cuda
import layouts
import pytest
import torch
import torch.nn.functional as F
from registry import OPS, layout_sample
from rows.rbm import PARAMETERS, SOFT, tensors
from support import DTYPES, SEED, assert_same, dtype_name
from test_conformance import check_against_truth

from pygen import _tf32
from pygen.native import rbm as native
from pygen.reference import rbm as reference

pytestmark = host_cuda.MARKS
OP = next(op for op in OPS if op.name == "rbm_free_energy")
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)


def given(size, dtype, scale=1.0):
    t = tensors(*size)
    return (t["v"], *((scale * t[k]).to(dtype) for k in PARAMETERS))


@pytest.mark.parametrize("sample", OP.samples(), ids=lambda s: s.name)
@each_dtype
def test_cuda_host_rbm_energies_and_gradients_are_accurate(sample, dtype):
    check_against_truth(OP, sample.cast(dtype), sample.options, BACKEND)


def test_cuda_host_rbm_energies_of_real_numbers():
    sample = SOFT.sample("odd everything")
    check_against_truth(SOFT, sample.cast(torch.bfloat16), sample.options, BACKEND)


@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
def test_cuda_host_rbm_takes_every_layout(maker):
    sample = OP.sample("odd everything")
    check_against_truth(OP, layout_sample(OP, sample, maker, torch.bfloat16, "cpu"), sample.options, BACKEND)


def test_cuda_host_rbm_chains_begin_at_rows_that_lie_further_apart():
    """They are copied to rows like those drawn, each at whole 16 bytes."""
    v, *parameters = given((7, 5, 6), torch.float32)
    far = F.pad(v.float(), (0, 7))[:, :5]
    mask = torch.rand(v.shape, generator=torch.Generator().manual_seed(0)) < 0.4
    near, found = (native.gibbs(t, *parameters, 2, 1.0, mask, torch.tensor(SEED)) for t in (v.float(), far))
    assert_same(found[0], near[0])
    assert_same(found[1], near[1])
    assert torch.equal(found[0][mask], v.float()[mask])


# (N, D, H): tiles of 128 (float64: 64) images by 64 units; steps of 32 (float: 16, double: 8) of the other layer.
SIZES = {
    "a tile": (128, 32, 64),
    "one more of each": (129, 33, 65),
    "one less": (63, 7, 63),
    "a quad and one": (2, 5, 9),
    "several tiles": (3, 130, 200),
}


@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
@each_dtype
def test_cuda_host_rbm_of_any_size(size, dtype):
    """Energies and chances by the float64 formula, and units as the noise selects them."""
    v, w, b, c = ordered = given(size, dtype, 0.3)
    exact = [t.double() for t in (w, b, c)]
    energy, units = native.forward(*ordered, True)
    wanted = reference.forward(v, *exact, True)
    close = 1e-11 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close((energy.double(), units.double()), wanted, rtol=close, atol=close)
    assert native.forward(*ordered, False)[1].shape == (0,)
    seed = torch.tensor(SEED)
    end, h = native.gibbs(*ordered, 1, 1.5, None, seed)
    halves = (h, F.linear(v.double(), exact[0], exact[2])), (end, F.linear(h.double(), exact[0].t(), exact[1]))
    for half, (drawn, a) in enumerate(halves):
        u, p = reference.uniforms(*a.shape, half, seed), (a / 1.5).sigmoid()
        assert (u - p)[(drawn == 1) != (u <= p)].abs().sum() < 1e-5
    assert end.dtype == h.dtype == v.dtype and end.is_contiguous() and h.is_contiguous()
    if dtype == torch.float64:
        mask = torch.rand(v.shape, generator=torch.Generator().manual_seed(0)) < 0.4
        for known in (None, mask):
            got, exact_end = (m.gibbs(*ordered, 3, 1.0, known, seed) for m in (native, reference))
            for a, b in zip(got, exact_end, strict=True):
                assert_same(a, b)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=dtype_name)
def test_cuda_host_rbm_chains_depend_on_neither_batch_nor_layout(dtype):
    v, *parameters = given((9, 20, 70), dtype)
    seed = torch.tensor(5)
    whole = native.gibbs(v, *parameters, 2, 1.0, None, seed)
    for a, b in zip(native.gibbs(v[:4], *parameters, 2, 1.0, None, seed), whole, strict=True):
        assert_same(a, b[:4])
    turned = [t.t().contiguous().t() if t.dim() == 2 else torch.stack((t, t), 1)[:, 0] for t in (v, *parameters)]
    for a, b in zip(native.gibbs(*turned, 2, 1.0, None, seed), whole, strict=True):
        assert_same(a, b)


def test_cuda_host_rbm_certain_units_and_nan():
    c = torch.tensor([torch.inf, -torch.inf, torch.nan, 200.0, -200.0])
    _, h = native.gibbs(torch.ones(30, 1), torch.zeros(5, 1), torch.zeros(1), c, 1, 1.0, None, torch.tensor(0))
    assert_same(h, torch.tensor([1.0, 0, 0, 1, 0]).expand(30, 5).contiguous())


def test_cuda_host_rbm_in_tf32(monkeypatch):
    """Products of 0, 1 and weights of 10 bits are exact."""
    v, w, b, c = given((5, 40, 70), torch.float32)
    w = w.bfloat16().float()
    exact = native.forward(v, w, b, c, True)
    monkeypatch.setattr(_tf32, "allowed_in_products", lambda t: True)
    torch.testing.assert_close(native.forward(v, w, b, c, True), exact, rtol=1e-5, atol=1e-5)
    rounded = native.forward(v, w + 2**-12, b, c, True)[0]
    assert (rounded - exact[0]).abs().max() > 0


def test_cuda_host_rbm_device_is_guarded(monkeypatch):
    ordered = given((2, 2, 2), torch.float32)
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        native.forward(*ordered, False)
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        native.gibbs(*ordered, 1, 1.0, None, torch.tensor(0))
