"""The CUDA C++ kernels of logistic_mixture_nll, executed on the host."""

import host_cuda
import layouts
import pytest
import torch
from registry import OPS, gradients, layout_sample, leaves
from rows.logistic_mixture_nll import tensors
from support import DTYPES, assert_same, dtype_name
from test_conformance import check_against_truth

from pygen.functional import logistic_mixture_nll
from pygen.native import logistic_mixture_nll as native

pytestmark = host_cuda.MARKS
OP = next(op for op in OPS if op.name == "logistic_mixture_nll")
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)


@pytest.mark.parametrize("sample", OP.samples(), ids=lambda s: s.name)
@each_dtype
def test_cuda_host_logistic_mixture_nll_values_and_gradients_are_accurate(sample, dtype):
    check_against_truth(OP, sample.cast(dtype), sample.options, BACKEND)


@pytest.mark.parametrize("sample", [s for s in OP.more_samples() if s.name != "batch 65536"], ids=lambda s: s.name)
def test_cuda_host_logistic_mixture_nll_takes_strides_that_say_little(sample):
    check_against_truth(OP, sample.cast(torch.float32), sample.options, BACKEND)


@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
@each_dtype
def test_cuda_host_logistic_mixture_nll_takes_every_layout(maker, dtype):
    for name in ("odd everything", "narrow rows"):
        sample = OP.sample(name)
        check_against_truth(OP, layout_sample(OP, sample, maker, dtype, "cpu"), sample.options, BACKEND)


@pytest.mark.parametrize("relay", layouts.MAKERS[:6], ids=lambda m: m.__name__)
def test_cuda_host_logistic_mixture_nll_takes_upstream_gradients_in_any_layout(relay):
    sample = OP.sample("odd everything")
    marked, inputs = leaves(OP, sample.cast(torch.bfloat16))
    expected = gradients(OP.run(marked, sample.options, BACKEND), inputs)
    for a, b in zip(gradients(OP.run(marked, sample.options, BACKEND), inputs, relay=relay), expected, strict=True):
        assert_same(a, b, what="gradient")


# (N, C, K, spatial): one position more and less than a tile; more components than warps; a tile too large to be staged.
SIZES = {
    "a tile": (2, 3, 2, (8, 4)),
    "a tile and one": (2, 3, 2, (11, 3)),
    "a tile less one": (1, 1, 3, (31, 1)),
    "more components than warps": (2, 3, 21, (3, 7)),
    "twice as many": (1, 1, 35, (5, 9)),
    "not staged": (1, 3, 41, (4, 10)),
    "images of one position": (33, 3, 4, ()),
}


@pytest.mark.parametrize("case", SIZES)
@pytest.mark.parametrize("reduction", ("none", "batchmean"))
def test_cuda_host_logistic_mixture_nll_of_any_size_in_both_layouts(case, reduction):
    """The staged tile's values are those that are read in place, bit for bit."""
    n, channels, components, spatial = SIZES[case]
    t = tensors(n, channels, components, spatial)
    given = {"params": t["params"].float(), "x": t["x"]}
    check_against_truth(OP, given, {"reduction": reduction}, BACKEND)
    if len(spatial) != 2:
        return
    last = {k: v.contiguous(memory_format=torch.channels_last) for k, v in given.items()}
    g = torch.linspace(-1, 1, n) if reduction == "none" else torch.tensor(0.75)
    results = [
        (native.forward(**a, num_levels=256, min_log_scale=-7.0, reduction=reduction),
         native.backward(g, **a, num_levels=256, min_log_scale=-7.0, reduction=reduction))
        for a in (given, last)
    ]  # fmt: skip
    for one, other in zip(*results, strict=True):
        assert_same(one, other)


def test_cuda_host_logistic_mixture_nll_gives_nan_for_wrong_levels():
    t = tensors(2, 3, 2, (5,), dtype=torch.int64)
    x = t["x"].clone()
    x[1, 2, 3] = 2**40
    nll = native.forward(t["params"], x, 256, -7.0, "none")
    assert nll.isnan().tolist() == [False, True]
    grad = native.backward(torch.ones_like(nll), t["params"], x, 256, -7.0, "none")
    assert grad[1, :, 3].isnan().all() and grad.isnan().sum() == grad.shape[1]


def test_cuda_host_logistic_mixture_nll_writes_nothing_around_its_gradient():
    """Lanes past the last position would."""
    t = tensors(1, 1, 2, (9,))
    whole = torch.full((3, 6, 9), torch.nan, dtype=torch.float64)
    compiled, where = native.target(t["params"])
    one = torch.ones((), dtype=torch.float64)
    place = (t["params"].data_ptr(), (54, 9, 1)), (t["x"].data_ptr(), (9, 9, 1))
    written = (whole[1].data_ptr(), (54, 9, 1))
    rest = (False, True, 1.0, None, one.data_ptr(), 0, written)
    compiled.logistic_mixture_nll("float64", (1, 2, 9), 1, 256, -7.0, *place, *rest, *where, 0)
    assert whole[0].isnan().all() and whole[2].isnan().all() and whole[1].isfinite().all()


def test_cuda_host_logistic_mixture_nll_device_is_guarded(monkeypatch):
    t = tensors(1, 1, 1, (3,))
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        native.forward(t["params"], t["x"], 256, -7.0, "sum")
    host_cuda.run_native_on(monkeypatch, (1, 0))
    native.forward(t["params"], t["x"], 256, -7.0, "sum")


def test_cuda_host_sizes_beyond_a_blocks_shared_memory_are_refused_by_name():
    """Nothing is lost: the next call works."""
    x = torch.zeros(1, 1, 3, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match=r"logistic_mixture_nll_kernel: .*256000 bytes of shared memory"):
        logistic_mixture_nll(torch.zeros(1, 3000, 3), x, backend="cpu")
    assert logistic_mixture_nll(torch.zeros(1, 30, 3), x, backend="cpu").isfinite()
