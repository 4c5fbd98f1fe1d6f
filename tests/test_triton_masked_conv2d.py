"""Each configuration of the Triton kernels of masked_conv2d, on outputs that hold NaN. The generic tests run the usual ones."""

import conv_samples as samples
import pytest
import torch
from conv_checks import NHWC, check, check_nan, make
from support import DTYPES, assert_same, dtype_name

from pygen import _taps, _tf32

pytest.importorskip("triton")
from pygen.kernels import _blocks, _compat, masked_conv2d
from pygen.kernels import _taps as kernel_taps

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("poisoned")]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("channels", (16, 48, 144), ids=lambda c: f"C={c}")
def test_triton_masked_conv2d_each_tile(channels, dtype):
    """Channels of one tile, of a part of one, and of several; pixels of one tile and a part."""
    layout = NHWC if channels % 32 else torch.contiguous_format
    check(
        masked_conv2d,
        DEVICE,
        1,
        channels,
        channels + 1,
        (5, 27) if channels == 16 else (2, 3),
        (1, 3),
        dtype,
        layout=layout,
    )


@pytest.mark.parametrize("kind", "AB")
def test_triton_masked_conv2d_groups_over_several_tiles(kind):
    """Groups of 70 channels: programs keep to one, and the weight's gradient skips tiles that are dead."""
    tile = _blocks.conv_tile(torch.float32, 70, 140, False)
    assert tile.n < 70
    check(masked_conv2d, DEVICE, 1, 140, 140, (3, 4), (1, 3), torch.float32, kind=kind, groups=2)


def test_triton_masked_conv2d_splits_pixels(monkeypatch):
    """Parts of the weight's and the bias's gradient, the last one short, added up by the second kernel."""
    monkeypatch.setattr(_blocks, "CONV_SPLIT_PIXELS", 40)
    assert _blocks.conv_splits(3 * 7 * 9, 1) == 4
    check(masked_conv2d, DEVICE, 3, 3, 5, (7, 9), (3, 3), torch.float32)
    monkeypatch.setattr(_blocks, "CONV_SPLIT_PIXELS", 1)  # more parts than blocks of pixels: some are empty
    check(masked_conv2d, DEVICE, 1, 2, 2, (3, 3), (3, 3), torch.bfloat16)


def test_triton_masked_conv2d_in_64_bits(monkeypatch):
    """The kernels that tensors beyond 2^31 elements get."""
    import triton.language as tl

    assert _compat.index_type(1 << 31) == tl.int64 != _compat.index_type((1 << 31) - 1)
    assert _compat.index_type(0, torch.empty(0, 3)) == tl.int32
    assert _compat.index_type(0, torch.empty((2, 2), device="meta").as_strided((2, 2), ((1 << 31) - 1, 1))) == tl.int64
    for module in (masked_conv2d, masked_conv2d.weight_gradient):
        monkeypatch.setattr(module, "index_type", lambda count, *tensors: tl.int64)
    check(masked_conv2d, DEVICE, 2, 3, 4, (4, 5), (3, 3), torch.float32, kind="B")


def test_triton_masked_conv2d_repeats_in_every_layout():
    mask = (_taps.live_taps("test", "B", 1, 3, 3), 1, False, 1)
    results = []
    for layout in (torch.contiguous_format, NHWC, torch.contiguous_format):
        x, weight, bias, grad = (t.to(DEVICE) for t in make(2, 5, 6, (6, 7), (3, 3), torch.float32, layout))
        results.append([masked_conv2d.forward(x, weight, bias, *mask), masked_conv2d.grad_input(grad, weight, *mask)])
        results[-1] += masked_conv2d.grad_weight(grad, x, (3, 3), *mask, True)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert_same(a, b)


def test_triton_masked_conv2d_finds_taps_by_position_and_back():
    import triton
    import triton.language as tl

    @triton.jit
    def kernel(out_ptr, back_ptr, taps, RUNS: tl.constexpr, SIZE: tl.constexpr):
        offs = tl.arange(0, SIZE)
        tl.store(out_ptr + offs, kernel_taps.tap_of(offs, RUNS), mask=offs < taps)
        tl.store(back_ptr + offs, kernel_taps.position_of(offs, taps, RUNS))

    generator = torch.Generator().manual_seed(1)
    for density in (0.0, 0.3, 0.5, 0.9, 1.0):
        live = torch.rand(32, generator=generator) < density
        taps = live.nonzero()[:, 0].tolist()
        out = torch.full((32,), -1, dtype=torch.int32, device=DEVICE)
        back = torch.full((32,), -7, dtype=torch.int32, device=DEVICE)
        kernel[(1,)](out, back, len(taps), RUNS=kernel_taps.runs(taps), SIZE=32)
        assert out.tolist() == taps + [-1] * (32 - len(taps))
        assert back.tolist() == [taps.index(t) if t in taps else -1 for t in range(32)]


def test_triton_masked_conv2d_asks_the_switch_for_tf32(monkeypatch):
    x = torch.zeros(1, 1, 2, 2)
    assert _compat.input_precision(x) == "ieee", "the switch is the GPU's"
    monkeypatch.setattr(_tf32, "allowed", lambda t: t.dtype is torch.float32)
    assert _compat.input_precision(x) == "tf32" and _compat.input_precision(x.double()) == "ieee"


@samples.each_kind
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=dtype_name)
def test_triton_masked_conv2d_nan_reaches_only_what_may_depend_on_it(kind, dtype):
    check_nan(masked_conv2d, DEVICE, kind, dtype)
