"""The CUDA C++ kernels of noise_contrastive, executed on the host."""

import host_cuda
import pytest
import torch
from registry import OPS
from rows.noise_contrastive import LOSSES, tensors
from support import DTYPES, assert_same, dtype_name
from test_conformance import check_against_truth

from pygen.ops import _noise_contrastive, _products

pytestmark = host_cuda.MARKS
OP = next(op for op in OPS if op.name == "nce_loss")
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels


@pytest.fixture(autouse=True)
def _products_of_torch(monkeypatch):
    """Shared negatives: products as on a GPU, in float32 of what torch would multiply in 16 bits."""
    monkeypatch.setattr(_products.masked_linear, "has_dense", lambda t: False)


@pytest.mark.parametrize("sample", [s for s in OP.samples() if s.small], ids=lambda s: s.name)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_cuda_host_noise_contrastive_values_and_gradients_are_accurate(sample, dtype):
    check_against_truth(OP, sample.cast(dtype), sample.options, BACKEND)


# Features: odd, a warp's units of float32 less one, all, and more than a block's threads; negatives: few, with the target one
# more than a warp's batch, and more than a block's threads.
@pytest.mark.parametrize("features", (1, 127, 128, 260))
@pytest.mark.parametrize("count", (1, 4, 130))
def test_cuda_host_noise_contrastive_of_any_features_and_negatives(features, count):
    for dtype in (torch.float32, torch.bfloat16):
        for kind in LOSSES:
            t = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors(5, features, 9, count).items()}
            t["input"] = t["input"] / 8  # scores of the order of 1
            check_against_truth(OP, t, {"kind": kind, "reduction": "none"}, BACKEND)


def test_cuda_host_noise_contrastive_of_rows_that_begin_anywhere():
    """Rows of whole 16 bytes that begin between them are read one by one."""
    t = {k: v.float() if v.is_floating_point() else v for k, v in tensors(3, 8, 9, 5).items()}
    whole = OP.run(t, {}, BACKEND)[0]
    moved = {k: torch.cat((v.new_zeros(1), v.flatten()))[1:].view(v.shape) for k, v in t.items()}
    assert moved["weight"].data_ptr() % 16 and moved["weight"].is_contiguous()
    torch.testing.assert_close(OP.run(moved, {}, BACKEND)[0], whole, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shared", (False, True), ids=("own", "shared"))
def test_cuda_host_noise_contrastive_of_rows_that_end_within_a_unit(shared):
    """Of wider rows, which begin where whole units do: what lies beyond the features is not read."""
    t = {k: v.float() if v.is_floating_point() else v for k, v in tensors(3, 13, 9, 5, shared=shared).items()}
    cut = {k: torch.nn.functional.pad(t[k], (0, 3), value=torch.nan)[:, :13] for k in ("input", "weight")}
    for a, b in zip(
        check_against_truth(OP, t | cut, {}, BACKEND), check_against_truth(OP, t, {}, BACKEND), strict=True
    ):
        for got, expected in zip(a, b, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_cuda_host_noise_contrastive_of_classes_that_are_none(monkeypatch):
    """Nothing is looked at to see it: such a sample's loss is NaN, the others' and other classes' gradients are not."""
    monkeypatch.setattr("pygen.ops._noise_contrastive_autograd.check_level_values", lambda *args: None)
    monkeypatch.setattr(_noise_contrastive, "_within", lambda classes, weight: classes.clamp(0, len(weight) - 1))
    for shared in (False, True):
        t = tensors(4, 6, 5, 3, shared=shared)
        good = OP.run(t, {"reduction": "none"}, BACKEND)[0]
        for name, place, wrong in (
            ("target", 1, 5),
            ("target", 1, -1),
            ("negatives", 1 if shared else (1, 2), 1 << 40),
        ):
            bad = t | {name: t[name].clone(), "weight": t["weight"].clone().requires_grad_()}
            bad[name][place] = wrong
            nll = OP.run(bad, {"reduction": "none"}, BACKEND)[0]
            hurt = torch.ones(4, dtype=torch.bool) if shared and name == "negatives" else torch.arange(4) == 1
            assert nll.isnan().equal(hurt)
            assert_same(nll[~hurt].detach(), good[~hurt])
            if not shared:
                (grad,) = torch.autograd.grad(nll[~hurt].sum(), [bad["weight"]])
                assert grad.isfinite().all() and grad.any()


def test_cuda_host_noise_contrastive_device_is_guarded(monkeypatch):
    t = tensors(2, 3, 4, 2)
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        OP.run(t, {}, BACKEND)
    host_cuda.run_native_on(monkeypatch, (1, 0))
    OP.run(t, {}, BACKEND)
