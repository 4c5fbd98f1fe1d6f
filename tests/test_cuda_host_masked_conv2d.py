"""The CUDA C++ kernels of masked_conv2d, executed on the host with models of mma.sync, ldmatrix and cp.async."""

import conv_samples as samples
import host_cuda
import layouts
import pytest
import torch
from conv_checks import NHWC, check, check_nan, make
from registry import OPS, layout_sample
from support import DTYPES, assert_same, dtype_name
from test_conformance import check_against_truth

from pygen import _taps, _tf32
from pygen.native import masked_conv2d as native

pytestmark = host_cuda.MARKS
OP = next(op for op in OPS if op.name == "masked_conv2d")
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)


@pytest.fixture
def tf32(monkeypatch):
    monkeypatch.setattr(_tf32, "allowed", lambda t: t.dtype is torch.float32)


CASES = [
    pytest.param(sample, dtype, id=f"{sample.name}-{dtype_name(dtype)}")
    for sample in OP.samples()
    for dtype in DTYPES
    if dtype is torch.float32
    or sample.name in ("odd everything", "pattern and dilation")
    or (dtype is torch.bfloat16 and sample.small)
]


@pytest.mark.parametrize(("sample", "dtype"), CASES)
def test_cuda_host_masked_conv2d_values_and_gradients_are_accurate(sample, dtype):
    check_against_truth(OP, sample.cast(dtype), sample.options, BACKEND)


@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
def test_cuda_host_masked_conv2d_takes_every_layout(maker):
    for dtype in (torch.float32, torch.bfloat16):
        sample = OP.sample("odd everything")
        check_against_truth(OP, layout_sample(OP, sample, maker, dtype, "cpu"), sample.options, BACKEND)


@each_dtype
def test_cuda_host_masked_conv2d_reads_channels_last_in_place(dtype):
    """Channels in rows of whole 16 bytes need no copy, also as a slice of more channels; others do."""
    x, weight, bias, _ = make(1, 16, 8, (3, 5), (3, 3), dtype, NHWC)
    mask = (_taps.live_taps("test", "B", 1, 3, 3), 1, False, 1)
    wide = torch.full((1, 48, 3, 5), torch.nan, dtype=dtype).contiguous(memory_format=NHWC)
    wide[:, 16:32] = x
    with host_cuda.asked_bytes() as asked:
        results = [native.forward(t, weight, bias, *mask) for t in (x, wide[:, 16:32], x.contiguous())]
    for other in results[1:]:
        assert_same(other.contiguous(), results[0].contiguous())
    assert asked[0] == asked[1] < asked[2]


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=dtype_name)
@pytest.mark.parametrize("kind", "AB")
def test_cuda_host_masked_conv2d_over_several_tiles(kind, dtype):
    """Pixels, channels in and out beyond one tile, groups that fill none, on plain and on tensor-core paths."""
    check(native, "cpu", 1, 24, 36, (3, 47), (3, 3), dtype, kind=kind, groups=3, layout=NHWC)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=dtype_name)
def test_cuda_host_masked_conv2d_of_many_channels(dtype, tf32):
    """The larger tiles of the tensor cores, float32 as TF32, which holds eighths exactly."""
    check(native, "cpu", 1, 72, 136, (2, 5), (1, 3), dtype, layout=NHWC)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("size", ((4, 10), (3, 6), (5, 7)), ids=str)
def test_cuda_host_masked_conv2d_writes_contiguous_images(size, dtype):
    """Of whole units of 16 bytes, of some and of none; tiles that end within images."""
    check(native, "cpu", 5, 8, 70, size, (1, 3), dtype)


def test_cuda_host_masked_conv2d_runs_of_pixels():
    """Around the longest run of pixels that all taps share; beyond it each tap reads its own."""
    for width in (383, 384):  # the reach is width + 1
        check(native, "cpu", 1, 2, 3, (2, width), (3, 3), torch.float32)
    check(native, "cpu", 1, 2, 2, (2, 391), (3, 3), torch.float32, groups=2)
    check(native, "cpu", 2, 2, 3, (8, 2), (5, 5), torch.float32, dilation=2)


def test_cuda_host_masked_conv2d_splits_pixels():
    """More than 1024 pixels a split: the parts of the weight's and the bias's gradient are added up."""
    check(native, "cpu", 5, 2, 3, (23, 19), (3, 3), torch.float32)


def test_cuda_host_masked_conv2d_multiplies_in_tf32_where_it_may(monkeypatch):
    g = torch.Generator().manual_seed(1)
    x, weight = torch.randn(1, 24, 3, 4, generator=g), torch.randn(9, 24, 3, 3, generator=g)
    grad = torch.randn(1, 9, 3, 4, generator=g)
    mask = (_taps.live_taps("test", "B", 1, 3, 3), 1, False, 1)

    def results(x, weight, grad):
        return (
            native.forward(x, weight, None, *mask),
            native.grad_input(grad, weight, *mask),
            native.grad_weight(grad, x, (3, 3), *mask, False)[0],
        )

    truths = results(x.double(), weight.double(), grad.double())
    for allowed, least, most in ((False, 0.0, 1e-6), (True, 2.0**-14, 2.0**-9)):
        monkeypatch.setattr(_tf32, "allowed", lambda t, allowed=allowed: allowed and t.dtype is torch.float32)
        for ours, truth in zip(results(x, weight, grad), truths, strict=True):
            error = ((ours - truth).abs().max() / truth.abs().max()).item()
            assert least <= error <= most


@samples.each_kind
def test_cuda_host_masked_conv2d_nan_reaches_only_what_may_depend_on_it(kind):
    check_nan(native, "cpu", kind, torch.float32)
    if kind in ("A of groups", "dilated"):
        check_nan(native, "cpu", kind, torch.bfloat16)


def test_cuda_host_masked_conv2d_device_and_limits(monkeypatch):
    x, weight = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 1)
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        native.forward(x, weight, None, (0,), 1, False, 1)
    host_cuda.run_native_on(monkeypatch, (1, 0))
    native.forward(x, weight, None, (0,), 1, False, 1)
    wide = torch.zeros(1, 1, 1, 1100)
    with pytest.raises(ValueError, match=r"mask_type: expected at most 1024 live taps, got more"):
        native.forward(wide, torch.zeros(1, 1, 1, 2101), None, tuple(range(1050)), 1, False, 1)


def make_add(*args):
    """input, weight, bias and what is added, all in eighths: exact sums."""
    x, weight, *others = make(*args)
    return x, weight, *(t.double().mul(8).round().div(8).to(t.dtype) for t in others)


def check_add(x, weight, bias, add, kernel, groups=1):
    """The sum rounded once, bit for bit."""
    mask = (_taps.live_taps("test", "B", groups, *kernel), groups, False, 1)
    truth = native.forward(x.double(), weight.double(), bias.double(), *mask) + add.double()
    out = native.forward(x, weight, bias, *mask, add)
    assert_same(out, truth.to(x.dtype))
    assert out.is_contiguous(memory_format=torch.contiguous_format if x.is_contiguous() else NHWC)


@pytest.mark.parametrize("capability", ("8", "9"))
@pytest.mark.parametrize("layout", (torch.contiguous_format, NHWC), ids=("NCHW", "NHWC"))
@each_dtype
def test_cuda_host_masked_conv2d_adds_before_it_rounds(dtype, layout, capability, monkeypatch, tf32):
    """Whole units of 16 bytes along channels and along pixels, parts of them, neither; groups; misaligned, turned."""
    monkeypatch.setenv("PYGEN_HOST_CAPABILITY", capability)
    for ins, outs, size, kernel, groups in (
        (40, 72, (4, 10), (1, 1), 1),
        (40, 137, (5, 9), (1, 1), 1),
        (12, 18, (4, 6), (1, 3), 3),
        (3, 5, (4, 2), (1, 1), 1),
    ):
        x, weight, bias, add = make_add(2, ins, outs, size, kernel, dtype, layout)
        beside = torch.full((add.numel() + 1,), torch.nan, dtype=dtype)[1:]
        beside = beside.view(2, outs, *size) if add.is_contiguous() else beside.view(2, *size, outs).permute(0, 3, 1, 2)
        turned = add.contiguous(memory_format=NHWC if layout is torch.contiguous_format else torch.contiguous_format)
        for same in (add, beside.copy_(add), turned):
            check_add(x, weight, bias, same, kernel, groups)


@pytest.mark.parametrize("outs", (40, 41))
@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float32), ids=dtype_name)
def test_cuda_host_masked_conv2d_adds_to_the_later_tiles_of_a_block(dtype, outs, monkeypatch, tf32):
    """What is added to a tile comes while the one before may still be on its way out; NaN beside it stays there."""
    monkeypatch.setenv("PYGEN_HOST_CAPABILITY", "9")
    x, weight, bias, add = make_add(1, 40, outs, (300, 7), (1, 1), dtype, NHWC)
    wide = torch.full((1, 48, 300, 7), torch.nan, dtype=dtype).contiguous(memory_format=NHWC)
    wide[:, 3 : 3 + outs] = add
    for same in (add, wide[:, 3 : 3 + outs]):
        check_add(x, weight, bias, same, (1, 1))
