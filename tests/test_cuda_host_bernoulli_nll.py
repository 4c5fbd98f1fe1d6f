"""The CUDA C++ kernels of bernoulli_nll, executed on the host."""

import host_cuda
import layouts
import pytest
import torch
from registry import gradients, layout_sample, leaves
from rows.bernoulli_nll import ROWS, levels, logits_of, soft, tensors
from support import DTYPES, assert_same, dtype_name
from test_conformance import check_against_truth

from pygen.native import bernoulli_nll as native

pytestmark = host_cuda.MARKS
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels
CASES = [pytest.param(op, s, id=f"{op.outputs[0]}-{s.name}") for op in ROWS for s in op.samples()]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
each_row = pytest.mark.parametrize("op", ROWS, ids=lambda op: op.outputs[0])


@pytest.mark.parametrize(("op", "sample"), CASES)
@each_dtype
def test_cuda_host_bernoulli_nll_values_and_gradients_are_accurate(op, sample, dtype):
    check_against_truth(op, sample.cast(dtype), sample.options, BACKEND)


@each_row
@pytest.mark.parametrize("name", ("N1HW", "channels_last", "transposed", "of two layouts"))
def test_cuda_host_bernoulli_nll_takes_strides_that_say_little(op, name):
    sample = next(s for s in op.more_samples() if s.name == name)
    check_against_truth(op, sample.cast(torch.float32), sample.options, BACKEND)


@each_row
@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
@each_dtype
def test_cuda_host_bernoulli_nll_takes_every_layout(op, maker, dtype):
    for name in ("odd everything", "narrow rows", "a block plus one"):
        sample = op.sample(name)
        check_against_truth(op, layout_sample(op, sample, maker, dtype, "cpu"), sample.options, BACKEND)


@pytest.mark.parametrize("relay", layouts.MAKERS[:6], ids=lambda m: m.__name__)
def test_cuda_host_bernoulli_nll_takes_upstream_gradients_in_any_layout(relay):
    op = ROWS[0]
    sample = op.sample("odd everything")
    marked, inputs = leaves(op, sample.cast(torch.bfloat16))
    expected = gradients(op.run(marked, sample.options, BACKEND), inputs)
    for a, b in zip(gradients(op.run(marked, sample.options, BACKEND), inputs, relay=relay), expected, strict=True):
        assert_same(a, b, what="gradient")


# (N, D): whole units and their loads of 16, 8 and 4 bytes; rows that share a block; one row in several blocks and turns.
SIZES = ((1, 8), (3, 64), (300, 16), (2, 2048), (2, 8192), (1, 8200), (5, 4104), (2, 40960))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=dtype_name)
@pytest.mark.parametrize("reduction", ("none", "batchmean"))
def test_cuda_host_bernoulli_nll_of_whole_units(size, dtype, reduction):
    """Bytes and floats have ways of their own, int64 none: the same bits."""
    x = levels(size)
    check_against_truth(
        ROWS[0], tensors(size, x) | {"logits": logits_of(size).to(dtype)}, {"reduction": reduction}, BACKEND
    )
    logits = logits_of(size).to(dtype)
    g = torch.linspace(-1, 1, size[0]) if reduction == "none" else torch.tensor(0.75)
    results = [
        (native.forward(logits, given, reduction), native.backward(g, logits, given, reduction))
        for given in (x, x.bool(), x.long(), x.to(dtype), layouts.misaligned(x))
    ]
    for result in results[1:]:
        for a, b in zip(result, results[0], strict=True):
            assert_same(a, b)


@pytest.mark.parametrize("shape", ((64,), (1, 3, 64), (5, 1, 1), (1,)), ids=str)
def test_cuda_host_bernoulli_nll_broadcasts_targets(shape):
    logits = logits_of((5, 3, 64)).float()
    for x in (levels(shape), soft(shape).float()):
        given = {"logits": logits, "x": x}
        for reduction in ("none", "sum"):
            check_against_truth(ROWS[x.is_floating_point()], given, {"reduction": reduction}, BACKEND)


@pytest.mark.parametrize("dtype", (torch.uint8, torch.int64), ids=dtype_name)
@pytest.mark.parametrize("columns", (16, 19))
def test_cuda_host_bernoulli_nll_gives_nan_for_wrong_levels(dtype, columns):
    logits, x = logits_of((2, columns)).float(), levels((2, columns), dtype)
    x[1, 3] = 2
    nll = native.forward(logits, x, "none")
    assert nll.isnan().tolist() == [False, True]
    grad = native.backward(torch.ones_like(nll), logits, x, "none")
    assert grad.isnan().nonzero().tolist() == [[1, 3]]


def test_cuda_host_bernoulli_nll_writes_nothing_around_its_gradient():
    for columns in (16, 19):
        logits, x = logits_of((1, columns)).float(), levels((1, columns))
        whole = torch.full((3, columns), torch.nan)
        compiled, where = native.target(logits)
        one = torch.ones(())
        rest = ("uint8", True, 1.0, None, one.data_ptr(), 0, whole[1].data_ptr())
        compiled.bernoulli_nll("float32", (1, columns), logits.data_ptr(), x.data_ptr(), *rest, *where, 0)
        assert whole[0].isnan().all() and whole[2].isnan().all() and whole[1].isfinite().all()


def test_cuda_host_bernoulli_nll_device_is_guarded(monkeypatch):
    t = tensors((1, 3))
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        native.forward(**t, reduction="sum")
    host_cuda.run_native_on(monkeypatch, (1, 0))
    native.forward(**t, reduction="sum")
