"""masked_conv2d's product on Hopper's warpgroups, executed on the host with models of wgmma, TMA and mbarrier."""

from concurrent.futures import ThreadPoolExecutor

import conv_checks
import host_cuda
import pytest
import torch
from conv_checks import NHWC, check
from support import assert_same, dtype_name

from pygen import _taps, _tf32
from pygen.native import masked_conv2d as native

pytestmark = host_cuda.MARKS
TYPES = (torch.bfloat16, torch.float16, torch.float32)
each_type = pytest.mark.parametrize("dtype", TYPES, ids=dtype_name)


@pytest.fixture(autouse=True)
def hopper(monkeypatch):
    monkeypatch.setenv("PYGEN_HOST_CAPABILITY", "9")
    monkeypatch.setattr(_tf32, "allowed", lambda t: t.dtype is torch.float32)


@pytest.fixture
def launched():
    """Bytes of workspace that each call asks for."""
    with host_cuda.asked_bytes() as asked:
        yield asked


def calls(x, weight, bias, grad, kind="B", groups=1, dilation=1):
    mask = (_taps.live_taps("test", kind, groups, *weight.shape[2:]), groups, kind == "A", dilation)
    return native.forward(x, weight, bias, *mask), native.grad_input(grad, weight, *mask)


@each_type
@pytest.mark.parametrize("layout", (torch.contiguous_format, NHWC), ids=("nchw", "nhwc"))
def test_cuda_host_wgmma_is_accurate(dtype, layout):
    """Channels in and out of more than a step and a tile, neither whole; the second and later tiles of a block."""
    check(native, "cpu", 2, 72, 136, (9, 17), (3, 3), dtype, layout=layout)


@pytest.mark.parametrize("kind", "AB")
def test_cuda_host_wgmma_of_colour_groups(kind):
    """Centres that end within a step, for each group elsewhere."""
    check(native, "cpu", 1, 117, 108, (7, 9), (3, 3), torch.bfloat16, kind=kind, groups=3, layout=NHWC)


def test_cuda_host_wgmma_large_tiles():
    check(native, "cpu", 1, 40, 72, (300, 3), (3, 3), torch.bfloat16, layout=NHWC)
    check(native, "cpu", 1, 40, 40, (300, 6), (1, 3), torch.float16)


@each_type
@pytest.mark.parametrize("size", ((8, 11), (3, 30)), ids=str)
def test_cuda_host_wgmma_writes_contiguous_images(size, dtype):
    check(native, "cpu", 3, 40, 72, size, (1, 3), dtype)


def test_cuda_host_wgmma_of_patterns_and_dilation():
    holes = ((True, False, True), (False, True, False), (True, False, True))
    check(native, "cpu", 1, 66, 40, (6, 7), (3, 3), torch.bfloat16, kind=holes, dilation=2)
    check(native, "cpu", 1, 66, 40, (6, 7), (5, 7), torch.bfloat16, kind="A")


def test_cuda_host_wgmma_runs_of_pixels():
    """As long as shared memory has room for, and beyond: then each tap reads its own."""
    for width in (150, 700):
        check(native, "cpu", 1, 40, 40, (3, width), (3, 3), torch.bfloat16, layout=NHWC)
    check(native, "cpu", 1, 60, 60, (2, 700), (3, 3), torch.bfloat16, groups=1, kind="A", layout=NHWC)


@each_type
def test_cuda_host_wgmma_rows_do_not_depend_on_their_batch(dtype):
    """Small tiles and large ones add up in the same order."""
    g = torch.Generator().manual_seed(3)
    x, grad = (torch.randn(5, c, 20, 21, generator=g).to(dtype).contiguous(memory_format=NHWC) for c in (40, 130))
    weight = torch.randn(130, 40, 3, 3, generator=g).to(dtype)
    for whole, one in zip(calls(x, weight, None, grad), calls(x[2:3], weight, None, grad[2:3]), strict=True):
        assert_same(whole[2:3], one)


def test_cuda_host_wgmma_nan_reaches_only_what_may_depend_on_it():
    """Dead weights are NaN, and so is one pixel, or one channel of it that no output of the first group may see."""
    for groups in (1, 3):
        x, weight, bias, grad = conv_checks.make(1, 108, 108, (5, 6), (3, 3), torch.bfloat16, NHWC)
        live = _taps.dense_mask("B", groups, weight.shape)
        spoilt = weight.masked_fill(~live, torch.nan)
        for y, x_ in ((0, 0), (2, 5), (4, 5)):
            a, g = x.clone(), grad.clone()
            channel = slice(None) if groups == 1 else slice(80, 81)
            a[:, channel, y, x_] = g[:, channel, y, x_] = torch.nan
            out, to_input = calls(a, spoilt, bias, g, groups=groups)
            leaf = torch.zeros(1, 108, 5, 6, dtype=torch.float64).requires_grad_()
            # What depends on it, by torch's convolution of ones.
            mark = torch.zeros_like(leaf)
            mark[:, channel, y, x_] = 1
            reached = torch.nn.functional.conv2d(mark, live.double(), padding=1) > 0
            back = torch.autograd.grad(torch.nn.functional.conv2d(leaf, live.double(), padding=1), leaf, mark)[0] > 0
            assert torch.equal(out.isnan(), reached) and torch.equal(to_input.isnan(), back)


def test_divider_divides(tmp_path):
    done = host_cuda.run_program("divider", tmp_path)
    assert done.returncode == 0 and int(done.stdout.split()[0]) > 200_000, done.stdout


@pytest.mark.parametrize("dtype", TYPES[:2], ids=dtype_name)
@pytest.mark.parametrize("kernel", ((1, 1), (1, 3), (3, 3), (7, 3)), ids=str)
def test_cuda_host_wgmma_weight_gradient(kernel, dtype):
    """From one set of rows, where the second warpgroup has none, to more than a block's; several splits, images, chunks."""
    check(native, "cpu", 5, 40, 40, (17, 13), kernel, dtype, layout=NHWC)
    check(native, "cpu", 1, 130, 70, (5, 7), kernel, dtype)


@pytest.mark.parametrize("size", ((0, 5, 6), (2, 0, 6), (2, 5, 0)), ids=str)
def test_cuda_host_wgmma_weight_gradient_of_no_pixels(size):
    x, grad = (torch.empty(size[0], c, *size[1:], dtype=torch.bfloat16) for c in (72, 40))
    mask = (_taps.live_taps("test", "B", 1, 3, 3), 1, False, 1)
    for got in native.grad_weight(grad, x, (3, 3), *mask, True):
        assert_same(got, torch.zeros_like(got))


def test_cuda_host_wgmma_on_a_thread_that_has_not_used_the_device():
    """As autograd's threads may be: nothing is launched before the tensor maps are made, and these the driver makes."""
    x, weight, _, grad = conv_checks.make(1, 72, 40, (5, 6), (3, 3), torch.bfloat16, NHWC)
    mask = (_taps.live_taps("test", "B", 1, 3, 3), 1, False, 1)
    here = native.grad_weight(grad, x, weight.shape[2:], *mask, False)
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(native.grad_weight, grad, x, weight.shape[2:], *mask, False).result()
    assert_same(here[0], there[0])


def test_cuda_host_wgmma_weight_gradient_nan_of_a_pixel_that_one_tap_sees():
    x, weight, _, grad = conv_checks.make(2, 72, 40, (5, 6), (3, 3), torch.bfloat16, NHWC)
    x[0, 3, 4, 5] = torch.nan
    mask = (_taps.live_taps("test", "B", 1, 3, 3), 1, False, 1)
    got, bias = native.grad_weight(grad, x, (3, 3), *mask, True)
    reached = torch.zeros_like(weight, dtype=torch.bool)
    reached[:, 3, 1, 1] = True
    assert torch.equal(got.isnan(), reached) and bias.isfinite().all()


@each_type
def test_cuda_host_wgmma_is_taken_where_it_can_be(dtype, monkeypatch, launched):
    """By device, switch, channels and taps; its weights are whole tiles, so it asks for more memory."""
    compiled = host_cuda.module()
    x, weight, bias, grad = conv_checks.make(1, 72, 40, (3, 4), (3, 3), dtype, NHWC)
    size = x.element_size()
    tiles = 5 * -(-72 * size // 128) * 64 * 128  # 5 taps, steps of 128 bytes, 64 outputs

    def takes(*call, **options):
        launched.clear()
        calls(*call, **options)
        return launched[0]

    assert takes(x, weight, bias, grad) == tiles
    assert compiled.use_wgmma(False)
    assert takes(x, weight, bias, grad) < tiles
    assert not compiled.use_wgmma(True)
    assert takes(x[:, : 32 // size * 2], weight[:, : 32 // size * 2], bias, grad) < tiles // 2
    narrow = takes(x, weight[:32], bias[:32], grad[:, :32])
    assert narrow < tiles
    monkeypatch.setenv("PYGEN_HOST_CAPABILITY", "8")
    assert takes(x, weight, bias, grad) < tiles


def test_cuda_host_wgmma_leaves_many_taps_to_the_other_kernel(launched):
    check(native, "cpu", 1, 40, 40, (1, 70), (1, 139), torch.bfloat16, layout=NHWC)
    assert launched[0] == 70 * 40 * 40 * 2 // 256 * 256
