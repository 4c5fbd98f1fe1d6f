"""Each configuration of gated_masked_conv2d's Triton kernel, on outputs that hold NaN. The generic tests run the usual ones."""

import gated_conv_checks as checks
import pytest
import torch
from conv_checks import NHWC
from support import DTYPES, assert_same, dtype_name
from test_gated_masked_conv2d import check_nan, check_rounding

from pygen import _taps

pytest.importorskip("triton")
from pygen.kernels import _blocks, gated_activation, masked_conv2d
from pygen.kernels import gated_masked_conv2d as launcher

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("poisoned")]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def check(*tensors, **options):
    checks.check(launcher, masked_conv2d, gated_activation, DEVICE, *tensors, **options)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize(("half", "cond"), ((3, "map"), (8, "row"), (40, ""), (72, "map")), ids=lambda v: str(v))
def test_triton_gated_masked_conv2d_each_tile(half, cond, dtype):
    """Pairs of a part of a tile, of one, and of several; pixels of one tile and a part."""
    layout = NHWC if half % 16 else torch.contiguous_format
    size = (5, 27) if half == 8 else (2, 3)
    check(checks.make(1, 5, half, size, (1, 3), dtype, layout, cond=cond), (1, 3))


@pytest.mark.parametrize("kind", "AB")
def test_triton_gated_masked_conv2d_groups_over_several_tiles(kind):
    """Groups of two halves of 35: programs keep to one group and its pairs."""
    assert _blocks.conv_tile(torch.float32, 70, 20, False).n < 70
    check(checks.make(1, 20, 70, (3, 4), (1, 3), torch.float32), (1, 3), kind=kind, groups=2)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("layout", (torch.contiguous_format, NHWC), ids=("NCHW", "NHWC"))
def test_triton_gated_masked_conv2d_side(layout, dtype):
    """A side of less than a step of k and of several, beside taps, groups and nothing that is live."""
    check(checks.make(1, 5, 10, (3, 5), (1, 3), dtype, layout, side=48), (1, 3))
    check(checks.make(1, 6, 27, (3, 5), (1, 3), dtype, layout, side=70), (1, 3), kind="A", groups=3)
    check(checks.make(1, 3, 4, (3, 5), (1, 1), dtype, layout, side=2), (1, 1), kind="A")


def test_triton_gated_masked_conv2d_in_64_bits(monkeypatch):
    """The kernel that tensors beyond 2^31 elements get."""
    import triton.language as tl

    monkeypatch.setattr(masked_conv2d, "index_type", lambda count, *tensors: tl.int64)
    check(checks.make(2, 3, 4, (4, 5), (3, 3), torch.float32, side=2), (3, 3))


def test_triton_gated_masked_conv2d_asks_for_64_bits_where_what_is_added_needs_them(monkeypatch):
    """A small tensor's strides may reach beyond 2^31 elements."""
    asked = []
    monkeypatch.setattr(masked_conv2d, "index_type", lambda count, *tensors: asked.append(tensors) or torch.int32)
    monkeypatch.setattr(masked_conv2d, "masked_conv2d_pack_kernel", {(1,): lambda *a, **k: None})
    monkeypatch.setattr(launcher, "gated_masked_conv2d_fwd_kernel", {(1,): lambda *a, **k: None})
    x, weight, bias, add, cond, side, mix = checks.make(1, 2, 2, (2, 3), (1, 1), torch.float32, side=2)
    launcher.forward(x, weight, bias, add, cond, (0,), 1, False, 1, side, mix)
    given = {t.data_ptr() for t in asked[0]}
    assert {t.data_ptr() for t in (x, add, cond, side)} <= given and len(
        given
    ) == 8  # and pre, out, both packed weights


def test_triton_gated_masked_conv2d_takes_every_layout():
    mask = (_taps.live_taps("test", "B", 1, 1, 3), 1, False, 1)
    plain = [t.to(DEVICE) for t in checks.make(2, 5, 6, (6, 7), (1, 3), torch.float32, side=3)]
    expected = launcher.forward(*plain[:5], *mask, *plain[5:])
    for at in range(7):
        given = list(plain)
        t = given[at]
        given[at] = t.transpose(0, -1).contiguous().transpose(0, -1) if t.dim() > 1 else t.repeat_interleave(2)[::2]
        for a, b in zip(launcher.forward(*given[:5], *mask, *given[5:]), expected, strict=True):
            assert_same(a, b)


def test_triton_gated_masked_conv2d_rounds_once():
    check_rounding("triton", DEVICE)


@pytest.mark.parametrize("kind", ("A of groups", "B", "dilated"))
def test_triton_gated_masked_conv2d_nan_reaches_only_what_may_depend_on_it(kind):
    check_nan(kind, "triton", DEVICE)
