"""The CUDA C++ kernels of categorical_nll, executed on the host."""

import host_cuda
import layouts
import pytest
import torch
from registry import OPS, gradients, layout_sample, leaves
from rows.categorical_nll import tensors
from support import DTYPES, assert_same, dtype_name
from test_conformance import check_against_truth

from pygen.native import categorical_nll as native

pytestmark = host_cuda.MARKS
OP = next(op for op in OPS if op.name == "categorical_nll")
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)


@pytest.mark.parametrize("sample", OP.samples(), ids=lambda s: s.name)
@each_dtype
def test_cuda_host_categorical_nll_values_and_gradients_are_accurate(sample, dtype):
    check_against_truth(OP, sample.cast(dtype), sample.options, BACKEND)


@pytest.mark.parametrize("sample", [s for s in OP.more_samples() if s.name != "batch 65536"], ids=lambda s: s.name)
def test_cuda_host_categorical_nll_takes_strides_that_say_little(sample):
    check_against_truth(OP, sample.cast(torch.float32), sample.options, BACKEND)


@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
@each_dtype
def test_cuda_host_categorical_nll_takes_every_layout(maker, dtype):
    for name in ("odd everything", "narrow rows", "channels of 40"):
        sample = OP.sample(name)
        check_against_truth(OP, layout_sample(OP, sample, maker, dtype, "cpu"), sample.options, BACKEND)


@pytest.mark.parametrize("relay", layouts.MAKERS[:6], ids=lambda m: m.__name__)
def test_cuda_host_categorical_nll_takes_upstream_gradients_in_any_layout(relay):
    sample = OP.sample("odd everything")
    marked, inputs = leaves(OP, sample.cast(torch.bfloat16))
    expected = gradients(OP.run(marked, sample.options, BACKEND), inputs)
    for a, b in zip(gradients(OP.run(marked, sample.options, BACKEND), inputs, relay=relay), expected, strict=True):
        assert_same(a, b, what="gradient")


# (N, C, L, spatial): one unit more and less than a block, of 32, 64, 128 and 256 of them; levels that no batch divides.
SIZES = {
    "two levels": (1, 1, 2, (257, 1)),
    "one warp a unit": (2, 2, 16, (16, 8)),
    "two warps": (1, 1, 33, (43, 3)),
    "four warps": (2, 1, 65, (13, 5)),
    "eight warps": (1, 3, 129, (11, 1)),
    "a block": (1, 1, 200, (8, 4)),
    "a block less one": (2, 1, 300, (31, 1)),
    "samples of one unit": (70, 1, 47, ()),
    "no batch of levels divides": (1, 2, 1031, (3, 1)),
}


@pytest.mark.parametrize("case", SIZES)
@pytest.mark.parametrize("reduction", ("none", "batchmean"))
def test_cuda_host_categorical_nll_of_any_size_in_both_layouts(case, reduction):
    n, channels, levels, spatial = SIZES[case]
    t = tensors(n, channels, levels, spatial, torch.int64)
    given = {"logits": t["logits"].float(), "x": t["x"]}
    check_against_truth(OP, given, {"reduction": reduction}, BACKEND)
    if len(spatial) == 2:
        last = {k: v.contiguous(memory_format=torch.channels_last) for k, v in given.items()}
        check_against_truth(OP, last, {"reduction": reduction}, BACKEND)


@pytest.mark.parametrize("last", (False, True), ids=("contiguous", "channels_last"))
def test_cuda_host_categorical_nll_of_impossible_and_wrong_levels(last):
    t = tensors(2, 2, 40, (3, 3), torch.int64)
    logits, x = t["logits"].float(), t["x"].clone()
    logits[0, 5, 1, 1], x[0, 0, 1, 1] = -torch.inf, 6
    logits[1, 40 + 7, 2, 0], x[1, 1, 2, 0] = -torch.inf, 7
    x[1, 0, 0, 2] = 40
    if last:
        logits = logits.contiguous(memory_format=torch.channels_last)
    nll = native.forward(logits, x, "none")
    assert nll[0].isfinite() and nll[1].isnan()
    assert native.forward(logits, x.clamp(max=39), "none")[1] == torch.inf
    grad = native.backward(torch.ones(2), logits, x, "none")
    assert grad[1, :40, 0, 2].isnan().all() and grad.isnan().sum() == 40
    assert grad[0, 5, 1, 1] == 0 and grad[1, 40 + 7, 2, 0] == -1


def test_cuda_host_categorical_nll_writes_nothing_around_its_gradient():
    """Lanes past the last unit would."""
    t = tensors(1, 1, 6, (9,))
    whole = torch.full((3, 6, 9), torch.nan, dtype=torch.float64)
    compiled, where = native.target(t["logits"])
    one = torch.ones((), dtype=torch.float64)
    place = (t["logits"].data_ptr(), (54, 9, 1)), (t["x"].data_ptr(), (9, 9, 1))
    written = (whole[1].data_ptr(), (54, 9, 1))
    compiled.categorical_nll(
        "float64", (1, 1, 6, 9), *place, False, True, 1.0, None, one.data_ptr(), 0, written, *where, 0
    )
    assert whole[0].isnan().all() and whole[2].isnan().all() and whole[1].isfinite().all()


def test_cuda_host_categorical_nll_device_is_guarded(monkeypatch):
    t = tensors(1, 1, 2, (3,))
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        native.forward(t["logits"], t["x"], "sum")
    host_cuda.run_native_on(monkeypatch, (1, 0))
    native.forward(t["logits"], t["x"], "sum")
