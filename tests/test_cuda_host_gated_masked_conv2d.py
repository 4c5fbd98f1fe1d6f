"""The CUDA C++ kernel of gated_masked_conv2d, executed on the host: masked_conv2d's product with its epilogue fused."""

import gated_conv_checks as checks
import host_cuda
import layouts
import pytest
import torch
from conv_checks import NHWC
from registry import OPS, gradients, layout_sample, leaves
from support import DTYPES, assert_same, dtype_name
from test_conformance import check_against_truth
from test_gated_masked_conv2d import check_nan, check_rounding

from pygen import _taps, _tf32
from pygen.native import gated_activation, masked_conv2d
from pygen.native import gated_masked_conv2d as native

pytestmark = host_cuda.MARKS
OP = next(op for op in OPS if op.name == "gated_masked_conv2d")
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
each_layout = pytest.mark.parametrize("layout", (torch.contiguous_format, NHWC), ids=("NCHW", "NHWC"))

CASES = [
    pytest.param(sample, dtype, id=f"{sample.name}-{dtype_name(dtype)}")
    for sample in OP.samples()
    for dtype in DTYPES
    if dtype is torch.float32 or sample.name == "odd everything" or (dtype is torch.bfloat16 and sample.small)
]


@pytest.mark.parametrize(("sample", "dtype"), CASES)
def test_cuda_host_gated_masked_conv2d_values_and_gradients_are_accurate(sample, dtype):
    check_against_truth(OP, sample.cast(dtype), sample.options, BACKEND)


@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
def test_cuda_host_gated_masked_conv2d_takes_every_layout(maker):
    for dtype in (torch.float32, torch.bfloat16):
        for name in ("odd everything", "narrow rows"):
            sample = OP.sample(name)
            check_against_truth(OP, layout_sample(OP, sample, maker, dtype, "cpu"), sample.options, BACKEND)


def check(*tensors, **options):
    checks.check(native, masked_conv2d, gated_activation, "cpu", *tensors, **options)


@each_layout
@pytest.mark.parametrize("cond", ("map", "row", ""))
@each_dtype
def test_cuda_host_gated_masked_conv2d_halves_beyond_one_tile(dtype, cond, layout):
    """Each half fills one tile of 32 and begins another, whose columns are fewer; pixels beyond one tile."""
    check(checks.make(2, 5, 34, (9, 8), (1, 3), dtype, layout, cond=cond), (1, 3))


@each_layout
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=dtype_name)
def test_cuda_host_gated_masked_conv2d_groups_of_several_tiles(dtype, layout):
    """Three groups, each of two halves, each half of a whole tile of pairs and a rest."""
    check(checks.make(1, 6, 105, (3, 5), (1, 3), dtype, layout), (1, 3), kind="A", groups=3)
    check(checks.make(1, 6, 27, (3, 5), (1, 3), dtype, layout), (1, 3), groups=3)


@each_layout
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=dtype_name)
def test_cuda_host_gated_masked_conv2d_of_many_channels(dtype, layout, monkeypatch):
    """The larger tiles of the tensor cores, float32 as TF32, which holds eighths exactly: 64 pairs and a rest."""
    monkeypatch.setattr(_tf32, "allowed", lambda t: t.dtype is torch.float32)
    check(checks.make(1, 24, 72, (2, 65), (1, 1), dtype, layout), (1, 1))


@each_layout
@each_dtype
@pytest.mark.parametrize("moved", ("add", "cond"))
def test_cuda_host_gated_masked_conv2d_by_whole_units_equals_element_by_element(moved, dtype, layout):
    """16 bytes at once, of channels or of pixels; the same values from addresses that allow none, and from other layouts."""
    x, weight, bias, add, cond, *_ = checks.make(2, 8, 16, (4, 6), (1, 3), dtype, layout)
    mask = (_taps.live_taps("test", "B", 1, 1, 3), 1, False, 1)

    def shifted(t):
        wide = torch.full((t.numel() + 1,), torch.nan, dtype=dtype)[1:]
        same = (
            wide.view(2, -1, 4, 6) if layout is torch.contiguous_format else wide.view(2, 4, 6, -1).permute(0, 3, 1, 2)
        )
        return same.copy_(t)

    def turned(t):
        return t.contiguous(memory_format=NHWC if layout is torch.contiguous_format else torch.contiguous_format)

    whole = native.forward(x, weight, bias, add, cond, *mask)
    for other in (shifted, turned):
        a, c = (other(add), cond) if moved == "add" else (add, other(cond))
        for one, two in zip(native.forward(x, weight, bias, a, c, *mask), whole, strict=True):
            assert_same(one, two)


@pytest.fixture
def hopper(monkeypatch):
    monkeypatch.setenv("PYGEN_HOST_CAPABILITY", "9")
    monkeypatch.setattr(_tf32, "allowed", lambda t: t.dtype is torch.float32)


@each_layout
@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16, torch.float32), ids=dtype_name)
def test_cuda_host_gated_masked_conv2d_by_warpgroups(dtype, layout, hopper):
    """Hopper's product with the same epilogue: 64 pairs and a rest, 32 pairs and a rest; two tiles of pixels."""
    check(checks.make(1, 40, 72, (9, 17), (1, 3), dtype, layout), (1, 3))
    check(checks.make(1, 40, 20, (9, 17), (1, 3), dtype, layout, cond="row"), (1, 3))


@each_layout
@each_dtype
def test_cuda_host_gated_masked_conv2d_side(dtype, layout):
    """A side of more channels than the input, of less than a step of k and of several; beside taps, groups and nothing."""
    check(checks.make(2, 5, 34, (9, 8), (1, 3), dtype, layout, side=37), (1, 3))
    check(checks.make(1, 6, 27, (3, 5), (1, 3), dtype, layout, side=70), (1, 3), kind="A", groups=3)
    check(checks.make(1, 3, 4, (3, 5), (1, 1), dtype, layout, side=2), (1, 1), kind="A")


@each_layout
@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16, torch.float32), ids=dtype_name)
def test_cuda_host_gated_masked_conv2d_side_by_warpgroups(dtype, layout, hopper):
    check(checks.make(1, 40, 72, (9, 17), (1, 3), dtype, layout, side=136), (1, 3))
    check(checks.make(1, 60, 3 * 34, (5, 7), (1, 3), dtype, layout, side=7), (1, 3), groups=3)
    check(checks.make(1, 40, 24, (300, 6), (1, 1), dtype, layout, side=24), (1, 1))


def test_cuda_host_gated_masked_conv2d_by_warpgroups_in_groups(hopper):
    """Three groups of a tile of pairs and a rest; large tiles of pixels."""
    tensors = checks.make(1, 60, 3 * 70, (5, 7), (1, 3), torch.bfloat16, NHWC)
    check(tensors, (1, 3), kind="A", groups=3)
    check(checks.make(1, 40, 24, (300, 6), (1, 1), torch.bfloat16, NHWC), (1, 1))


def test_cuda_host_gated_masked_conv2d_adds_to_the_later_tiles_of_a_block(hopper):
    """Element by element, at once, where the tile before may still be on its way out by other threads."""
    check(checks.make(1, 40, 21, (300, 6), (1, 1), torch.bfloat16, NHWC), (1, 1))


def test_cuda_host_gated_masked_conv2d_asks_for_the_same_engine_as_its_product(hopper, monkeypatch):
    """Its weights are packed as that engine's: the same bytes of workspace as masked_conv2d's forward."""
    x, weight, bias, add, cond, *_ = checks.make(1, 40, 72, (9, 17), (1, 3), torch.bfloat16, NHWC)
    mask = (_taps.live_taps("test", "B", 1, 1, 3), 1, False, 1)
    with host_cuda.asked_bytes() as asked:
        for capability in ("9", "8"):
            monkeypatch.setenv("PYGEN_HOST_CAPABILITY", capability)
            native.forward(x, weight, bias, add, cond, *mask)
            masked_conv2d.forward(x, weight, bias, *mask)
    assert asked[0] == asked[1] > asked[2] == asked[3]


def test_cuda_host_gated_masked_conv2d_rounds_once():
    """A convolution of its own would have lost the half."""
    check_rounding(BACKEND)


@pytest.mark.parametrize("kind", ("A of groups", "B", "dilated"))
def test_cuda_host_gated_masked_conv2d_nan_reaches_only_what_may_depend_on_it(kind):
    check_nan(kind, BACKEND)


@pytest.mark.parametrize("relay", layouts.MAKERS[:7], ids=lambda m: m.__name__)
@pytest.mark.parametrize("name", ("odd everything", "narrow rows"))
def test_cuda_host_gated_masked_conv2d_takes_upstream_gradients_in_any_layout(name, relay):
    """pre's own gradient is read by the gate's backward kernel, wherever it lies."""
    sample = OP.sample(name)
    marked, inputs = leaves(OP, sample.cast(torch.bfloat16))
    expected = gradients(OP.run(marked, sample.options, BACKEND), inputs)
    got = gradients(OP.run(marked, sample.options, BACKEND), inputs, relay=relay)
    if relay is layouts.expanded:
        return  # other values
    for a, b in zip(got, expected, strict=True):
        assert_same(a, b, what="gradient")


def test_cuda_host_gated_masked_conv2d_device(monkeypatch):
    x, weight = torch.zeros(1, 1, 2, 2), torch.zeros(2, 1, 1, 1)
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        native.forward(x, weight, None, None, None, (0,), 1, False, 1)
