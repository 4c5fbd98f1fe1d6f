"""The CUDA C++ kernels of masked_linear, executed on the host with models of mma.sync, ldmatrix and cp.async."""

import host_cuda
import layouts
import pytest
import torch
from linear_checks import check, check_nan
from registry import OPS, layout_sample
from support import DTYPES, assert_accurate, assert_same, dtype_name
from test_conformance import check_against_truth
from test_masked_linear import layer

from pygen import _tf32
from pygen.native import masked_linear as native
from pygen.reference.masked_linear import live_mask

pytestmark = host_cuda.MARKS
OP = next(op for op in OPS if op.name == "masked_linear")
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
each_strict = pytest.mark.parametrize("strict", (True, False))


@pytest.mark.parametrize("sample", [*OP.samples(), OP.more_samples()[1]], ids=lambda s: s.name)
@each_dtype
def test_cuda_host_masked_linear_values_and_gradients_are_accurate(sample, dtype):
    check_against_truth(OP, sample.cast(dtype), sample.options, BACKEND)


@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
def test_cuda_host_masked_linear_takes_every_layout(maker):
    for dtype in (torch.float32, torch.bfloat16):
        sample = OP.sample("odd everything")
        check_against_truth(OP, layout_sample(OP, sample, maker, dtype, "cpu"), sample.options, BACKEND)


@each_dtype
@each_strict
@pytest.mark.parametrize(
    ("ins", "outs", "most", "rows"),
    [(70, 150, 5, 37), (37, 66, 200, 3), (130, 65, 0, 1)],
    ids=["few degrees", "more degrees than units", "one degree"],
)
def test_cuda_host_masked_linear_over_several_tiles(ins, outs, most, rows, strict, dtype):
    """Steps that a whole tile sees and steps that some of it sees; dead tiles of the weight's gradient; NaN in dead weights."""
    check(native, "cpu", ins, outs, most, rows, strict, dtype)


@each_strict
@each_dtype
def test_cuda_host_masked_linear_nan_reaches_what_it_feeds_alone(strict, dtype):
    check_nan(native, "cpu", 40, 70, 30, strict, dtype)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=dtype_name)
def test_cuda_host_masked_linear_nan_changes_no_other_bit(dtype, monkeypatch):
    """Rows beside it, and in its own row what does not see it: the same sums in the same order."""
    monkeypatch.setattr(_tf32, "allowed_in_products", lambda t: t.dtype is torch.float32)
    given, (x, w, b, _) = layer(40, 70, 30, 9, dtype)
    mask = live_mask(**given, strict=True, device=x.device)
    clean = native.forward(x, w, b, *given.values(), True)
    x[3, 17] = torch.nan
    spoilt = native.forward(x, w, b, *given.values(), True)
    reached = torch.zeros_like(clean, dtype=torch.bool)
    reached[3] = mask[:, 17]
    assert torch.equal(spoilt.isnan(), reached) and reached.any() and not reached[3].all()
    assert_same(spoilt[~reached], clean[~reached])


@each_dtype
def test_cuda_host_masked_linear_reads_in_place_what_is_in_order(dtype, monkeypatch):
    """Degrees that rise and rows of whole 16 bytes: the input is not copied, also as a slice of wider rows; others are."""
    degrees = (tuple(range(32)), tuple(range(0, 32, 2)), False)
    _, (x, w, b, grad) = layer(32, 16, 5, 3, dtype)
    wide = torch.full((3, 96), torch.nan, dtype=dtype)
    wide[:, 32:64] = x
    asked = []
    empty = torch.empty

    def asking(*args, **kwargs):
        if kwargs.get("dtype") is torch.uint8:
            asked.append(args[0])
        return empty(*args, **kwargs)

    with monkeypatch.context() as patch:  # undone before the poison is
        patch.setattr(torch, "empty", asking)
        results = [native.forward(t, w, b, *degrees) for t in (x, wide[:, 32:64], x.t().contiguous().t())]
        native.grad_weight(grad, x, *degrees, False)
    for other in results[1:]:
        assert_same(other, results[0])
    assert asked[0] == asked[1] < asked[2]
    mask = live_mask(*degrees, x.device)
    truths = [(x.to(t) @ (w.to(t) * mask).t() + b.to(t)) for t in (torch.float64, torch.float32)]
    assert_accurate(results[0], truths[0], truths[1].to(dtype), dtype=dtype)


def test_cuda_host_masked_linear_splits_rows():
    """More than 1024 rows a split: the parts of the weight's gradient are added up."""
    check(native, "cpu", 5, 6, 3, 2100, False, torch.float64)


def test_cuda_host_masked_linear_multiplies_in_tf32_where_it_may(monkeypatch):
    given, (x, w, _, grad) = layer(44, 90, 20, 12)
    options = (*given.values(), False)

    def results(x, w, grad):
        return (
            native.forward(x, w, None, *options),
            native.grad_input(grad, w, *options),
            native.grad_weight(grad, x, *options, False)[0],
        )

    truths = results(x.double(), w.double(), grad.double())
    for allowed, least, most in ((False, 0.0, 1e-6), (True, 2.0**-14, 2.0**-9)):
        monkeypatch.setattr(
            _tf32, "allowed_in_products", lambda t, allowed=allowed: allowed and t.dtype is torch.float32
        )
        for ours, truth in zip(results(x, w, grad), truths, strict=True):
            error = ((ours - truth).abs().max() / truth.abs().max()).item()
            assert least <= error <= most


def test_cuda_host_masked_linear_device_is_guarded(monkeypatch):
    x, w = torch.zeros(1, 1), torch.zeros(1, 1)
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        native.forward(x, w, None, (0,), (1,), True)
    host_cuda.run_native_on(monkeypatch, (1, 0))
    native.forward(x, w, None, (0,), (1,), True)
