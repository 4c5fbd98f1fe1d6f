"""Each configuration of the Triton kernels of masked_conv2d, on outputs that hold NaN. The generic tests run the usual ones."""

import pytest
import test_masked_conv2d as common
import torch
import torch.nn.functional as F
from support import DTYPES, assert_accurate, assert_same, compute_dtype, dtype_name, mixed_weights

from pygen import _taps, _tf32

pytest.importorskip("triton")
from pygen.kernels import _blocks, _compat, masked_conv2d
from pygen.kernels import _taps as kernel_taps

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("poisoned")]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NHWC = torch.channels_last


def make(n, ins, outs, size, kernel, dtype, layout=torch.contiguous_format):
    g = torch.Generator().manual_seed(2)
    # Eighths: sums are exact even in float32, so that long ones need no room for rounding.
    x, weight = (torch.randn(s, generator=g).mul(8).round() / 8 for s in ((n, ins, *size), (outs, ins, *kernel)))
    grad = mixed_weights((n, outs, *size), dtype).contiguous(memory_format=layout)
    return (
        x.to(dtype).contiguous(memory_format=layout),
        weight.to(dtype),
        torch.randn(outs, generator=g).to(dtype),
        grad,
    )


def check(n, ins, outs, size, kernel, dtype, *, kind="B", groups=1, dilation=1, layout=torch.contiguous_format):
    """The launcher's three functions against torch's own, in float64 of the same rounded inputs."""
    x, weight, bias, grad = make(n, ins, outs, size, kernel, dtype, layout)
    mask = (_taps.live_taps("test", kind, groups, *kernel), groups, kind == "A", dilation)
    there = [t.to(DEVICE) for t in (x, weight, bias, grad)]
    ours = [masked_conv2d.forward(*there[:3], *mask), masked_conv2d.grad_input(there[3], there[1], *mask)]
    ours += masked_conv2d.grad_weight(there[3], there[0], kernel, *mask, True)
    dense = _taps.dense_mask(kind, groups, weight.shape)
    pads, truths = [side // 2 * dilation for side in kernel], []
    for wide in (torch.float64, compute_dtype(dtype)):
        leaves = [t.to(wide).requires_grad_() for t in (x, weight, bias)]
        out = F.conv2d(leaves[0], leaves[1] * dense.to(wide), leaves[2], padding=pads, dilation=dilation)
        truths.append((out, *torch.autograd.grad(out, leaves, grad.to(wide))))
    for what, a, ref, base in zip(("output", "input", "weight", "bias"), ours, *truths, strict=True):
        assert_accurate(a, ref, base.to(dtype), dtype=dtype, what=what)
    assert not ours[2].cpu()[~dense].any()


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("channels", (16, 48, 144), ids=lambda c: f"C={c}")
def test_triton_masked_conv2d_each_tile(channels, dtype):
    """Channels of one tile, of a part of one, and of several; pixels of one tile and a part."""
    layout = NHWC if channels % 32 else torch.contiguous_format
    check(1, channels, channels + 1, (5, 27) if channels == 16 else (2, 3), (1, 3), dtype, layout=layout)


@pytest.mark.parametrize("kind", "AB")
def test_triton_masked_conv2d_groups_over_several_tiles(kind):
    """Groups of 70 channels: programs keep to one, and the weight's gradient skips tiles that are dead."""
    tile = _blocks.conv_tile(torch.float32, 70, 140, False)
    assert tile.n < 70
    check(1, 140, 140, (3, 4), (1, 3), torch.float32, kind=kind, groups=2)


def test_triton_masked_conv2d_splits_pixels(monkeypatch):
    """Parts of the weight's and the bias's gradient, the last one short, added up by the second kernel."""
    monkeypatch.setattr(_blocks, "CONV_SPLIT_PIXELS", 40)
    assert _blocks.conv_splits(3 * 7 * 9, 1) == 4
    check(3, 3, 5, (7, 9), (3, 3), torch.float32)
    monkeypatch.setattr(_blocks, "CONV_SPLIT_PIXELS", 1)  # more parts than blocks of pixels: some are empty
    check(1, 2, 2, (3, 3), (3, 3), torch.bfloat16)


def test_triton_masked_conv2d_in_64_bits(monkeypatch):
    """The kernels that tensors beyond 2^31 elements get."""
    import triton.language as tl

    assert _compat.index_type(1 << 31) == tl.int64 != _compat.index_type((1 << 31) - 1)
    assert _compat.index_type(0, torch.empty(0, 3)) == tl.int32
    assert _compat.index_type(0, torch.empty((2, 2), device="meta").as_strided((2, 2), ((1 << 31) - 1, 1))) == tl.int64
    for module in (masked_conv2d, masked_conv2d.weight_gradient):
        monkeypatch.setattr(module, "index_type", lambda count, *tensors: tl.int64)
    check(2, 3, 4, (4, 5), (3, 3), torch.float32, kind="B")


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


@common.each_kind
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=dtype_name)
def test_triton_masked_conv2d_nan_reaches_only_what_may_depend_on_it(kind, dtype):
    """One image for each element that is NaN: exactly what the mask allows is reached, forward and back; dead weights are NaN."""
    _, weight, bias, options = common.make(kind, dtype=dtype)
    size, name, groups = (4, 3), options["mask_type"], options.get("color_groups", 1)
    mask = (_taps.live_taps("test", name, groups, *weight.shape[2:]), groups, name == "A", options.get("dilation", 1))
    may = common.depends(weight, size, options)
    weight = weight.masked_fill(~_taps.dense_mask(name, groups, weight.shape), torch.nan).to(DEVICE)
    for channels, reach, run in (
        (
            weight.shape[1],
            may.permute(3, 4, 5, 0, 1, 2),
            lambda t: masked_conv2d.forward(t, weight, bias.to(DEVICE), *mask),
        ),
        (weight.shape[0], may, lambda t: masked_conv2d.grad_input(t, weight, *mask)),
    ):
        count = channels * size[0] * size[1]
        spoilt = torch.ones(count, count, dtype=dtype).fill_diagonal_(torch.nan).view(count, channels, *size)
        assert torch.equal(run(spoilt.to(DEVICE)).isnan().cpu().flatten(1), reach.reshape(count, -1))
