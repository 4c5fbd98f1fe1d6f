"""The CUDA C++ kernels of gated_activation, executed on the host."""

import host_cuda
import layouts
import pytest
import torch
from registry import OPS, gradients, layout_sample, leaves
from support import DTYPES, assert_same, dtype_name
from test_conformance import check_against_truth

from pygen.native import gated_activation as native

pytestmark = host_cuda.MARKS
OP = next(op for op in OPS if op.name == "gated_activation")
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)


@pytest.mark.parametrize("sample", [*OP.samples(), *OP.more_samples()], ids=lambda s: s.name)
@each_dtype
def test_cuda_host_gated_activation_values_and_gradients_are_accurate(sample, dtype):
    if sample.name == "batch 65536" and dtype is not torch.bfloat16:
        pytest.skip("one dtype shows that blocks go on the x axis")
    check_against_truth(OP, sample.cast(dtype), sample.options, BACKEND)


@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
@each_dtype
def test_cuda_host_gated_activation_takes_every_layout(maker, dtype):
    for name in ("odd everything", "map and groups"):
        sample = OP.sample(name)
        check_against_truth(OP, layout_sample(OP, sample, maker, dtype, "cpu"), sample.options, BACKEND)


@pytest.mark.parametrize("relay", layouts.MAKERS[:7], ids=lambda m: m.__name__)
def test_cuda_host_gated_activation_takes_upstream_gradients_in_any_layout(relay):
    sample = OP.sample("odd everything")
    marked, inputs = leaves(OP, sample.cast(torch.bfloat16))
    expected = gradients(OP.run(marked, sample.options, BACKEND), inputs)
    got = gradients(OP.run(marked, sample.options, BACKEND), inputs, relay=relay)
    if relay is layouts.expanded:
        return  # other values
    for a, b in zip(got, expected, strict=True):
        assert_same(a, b, what="gradient")


@pytest.mark.parametrize("last", (False, True), ids=("nchw", "nhwc"))
@each_dtype
def test_cuda_host_gated_activation_by_whole_units_equals_element_by_element(last, dtype):
    """128-bit accesses, several tiles along pixels and channels; the same values from an address that allows none."""
    layout = torch.channels_last if last else torch.contiguous_format
    g = torch.Generator().manual_seed(1)

    def make(*shape):
        t = torch.randn(shape, generator=g).to(dtype)
        return t.contiguous(memory_format=layout) if len(shape) == 4 else t

    def moved(t):
        if t.dim() == 2 or not last:
            return layouts.misaligned(t)
        return layouts.misaligned(t.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    x, cond, grad = make(2, 2 * 48, 24, 32), make(2, 2 * 48), make(2, 48, 24, 32)
    for c in (None, cond, make(*x.shape)):
        given = [t if t is None else (moved(t), t) for t in (x, c, grad)]
        results = []
        for at in (0, 1):
            a, b, upstream = (pair if pair is None else pair[at] for pair in given)
            results.append([native.forward(a, b, 1), *native.backward(upstream, a, b, 1, (True, b is not None))])
        for one, other in zip(*results, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                assert_same(one, other)
    total = native.backward(grad.double(), x.double(), cond.double(), 1, (False, True))[1]
    full = native.backward(grad.double(), x.double(), cond.double(), 1, (True, False))[0]
    torch.testing.assert_close(total, full.sum((2, 3)), rtol=1e-12, atol=1e-12)


def test_cuda_host_gated_activation_writes_nothing_around_its_outputs():
    """A launch past the last unit would: rows that end inside a unit, outputs in a larger buffer of NaN."""
    x = torch.randn(1, 6, 3, 3)
    whole = torch.full((3, 3, 3, 3), torch.nan)
    compiled, where = native.target(x)
    address, strides = whole[1].data_ptr(), (27, 9, 1)
    compiled.gated_activation_forward(
        "float32", (1, 6, 9), 1, (x.data_ptr(), (54, 9, 1)), None, (address, strides), *where
    )
    assert whole[0].isnan().all() and whole[2].isnan().all() and whole[1].isfinite().all()


def test_cuda_host_gated_activation_device_is_guarded(monkeypatch):
    x = torch.randn(1, 2, 3, 3)
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        native.forward(x, None, 1)
    host_cuda.run_native_on(monkeypatch, (1, 0))
    native.forward(x, None, 1)
