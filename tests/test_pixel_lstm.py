"""pixel_lstm beyond its row: sizes around the kernels' tiles, an LSTM of torch's own, and who sees whom."""

import itertools

import pytest
import torch
from registry import OPS, gradients, leaves
from rows.pixel_lstm import tensors
from support import assert_same

from pygen import _backends, nn
from pygen.functional import pixel_lstm

OP = next(op for op in OPS if op.name == "pixel_lstm")
_CPU = _backends.compiled_or_none("_cpu")
needs_cpu = pytest.mark.skipif(_CPU is None, reason="the C++ kernels are not here")


@pytest.fixture(params=_CPU.isas() if _CPU else [None])
def isa(request):
    before = _CPU.isa()
    _CPU.set_isa(request.param)
    yield request.param
    _CPU.set_isa(before)


# (N, H, R, W, taps): 48 columns go together, in parts of 12 to 48; panels of one or two units, or 4 or 8.
SIZES = {
    "48 columns": ("down", (1, 8, 2, 48, 1)),
    "a column more, 9 units": ("down", (1, 9, 3, 49, 3)),
    "images side by side": ("down", (5, 2, 2, 17, 5)),
    "several blocks of rows": ("down", (3, 2, 2, 300, 3)),
    "16 images and one": ("right", (17, 5, 4, 3, 2)),
    "diagonals of 49 columns": ("left", (7, 3, 7, 9, 2)),
    "one image, long diagonals": ("right", (1, 2, 50, 53, 2)),
}


@needs_cpu
@pytest.mark.parametrize(("direction", "size"), SIZES.values(), ids=list(SIZES))
@pytest.mark.parametrize("dtype", (torch.float64, torch.float32), ids=str)
def test_pixel_lstm_of_any_size(isa, direction, size, dtype):
    results = []
    for backend in ("cpu", "reference"):
        marked, inputs = leaves(OP, {k: t.to(dtype) for k, t in tensors(*size).items()})
        h = OP.run(marked, {"direction": direction}, backend)
        results.append((*h, *gradients(h, inputs)))
    tolerance = {torch.float64: 1e-13, torch.float32: 4e-6}[dtype]
    for ours, exact in zip(*results, strict=True):
        assert (ours - exact).abs().max() <= tolerance * exact.abs().max()


@pytest.mark.parametrize("backend", ("reference", None))
def test_pixel_lstm_of_one_tap_is_torchs_lstm_down_each_column(backend):
    n, hidden, rows, columns = 2, 3, 5, 4
    t = tensors(n, hidden, rows, columns, 1)
    lstm = torch.nn.LSTM(4 * hidden, hidden, bias=False, dtype=torch.float64)
    order = [2, 1, 3, 0]  # of ours, in torch's: i, f, g, o
    with torch.no_grad():
        eye = torch.eye(4 * hidden, dtype=torch.float64)
        lstm.weight_ih_l0.copy_(torch.cat([eye.chunk(4)[q] for q in order]))
        lstm.weight_hh_l0.copy_(torch.cat([t["weight"][:, :, 0].chunk(4)[q] for q in order]))
        expected, _ = lstm(t["input"].permute(2, 0, 3, 1).flatten(1, 2))  # [R, N W, 4 H]
    h = pixel_lstm(**t, direction="down", backend=backend)
    torch.testing.assert_close(h.permute(2, 0, 3, 1).flatten(1, 2), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("backend", ("reference", None))
def test_pixel_lstm_to_the_left_is_the_mirror_of_that_to_the_right(backend):
    t = tensors(3, 5, 4, 6)
    right = pixel_lstm(**t, direction="right", backend=backend)
    left = pixel_lstm(t["input"].flip(-1), t["weight"], direction="left", backend=backend)
    assert_same(left.flip(-1), right)


def test_pixel_lstm_of_an_image_does_not_depend_on_its_batch():
    for direction, taps in (("right", 2), ("down", 3)):
        t = {k: v.float() for k, v in tensors(19, 3, 5, 6, taps).items()}
        whole = pixel_lstm(**t, direction=direction)
        for i in (0, 7, 18):
            assert_same(pixel_lstm(t["input"][i : i + 1], t["weight"], direction=direction), whole[i : i + 1])


def seen_by(layer: torch.nn.Module, rows: int, columns: int) -> torch.Tensor:
    """bool [R W, R W]: whether a pixel of the result depends on a pixel of the input."""
    layer = layer.double()
    x = torch.randn((1, 2, rows, columns), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x).sum((0, 1)).flatten(), x)
    return (jacobian.abs().sum((1, 2)) > 0).flatten(1)


def test_diagonal_bilstm_sees_all_that_comes_before_and_itself():
    torch.manual_seed(0)
    assert torch.equal(seen_by(nn.DiagonalBiLSTM(2, 3), 4, 5), torch.ones(20, 20, dtype=torch.bool).tril())


def test_diagonal_bilstm_of_one_row_is_its_right_half():
    torch.manual_seed(0)
    layer = nn.DiagonalBiLSTM(2, 3)
    x = torch.randn(2, 2, 1, 4)
    h = layer(x)
    assert torch.equal(h, layer.right(x))
    h.sum().backward()
    assert all((parameter.grad == 0).all() for parameter in layer.left.parameters())


def test_row_lstm_sees_its_triangle():
    torch.manual_seed(0)
    seen = seen_by(nn.RowLSTM(2, 3), 4, 7).view(4, 7, 4, 7)
    for i, j, row, column in itertools.product(range(4), range(7), range(4), range(7)):
        # h comes from one further to either side with each row, and gates read one to the left.
        expected = row <= i and -(i - row) - 1 <= column - j <= i - row
        assert seen[i, j, row, column] == expected, (i, j, row, column)


def test_row_lstm_with_groups_sees_no_later_channel_of_a_pixel():
    torch.manual_seed(0)
    for kind in (nn.RowLSTM, nn.DiagonalBiLSTM):
        layer = kind(3, 3, color_groups=3).double()
        x = torch.randn((1, 3, 2, 2), dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(layer, x)[0, :, 1, 1, 0, :, 1, 1]
        assert torch.equal(jacobian != 0, torch.ones(3, 3, dtype=torch.bool).tril())


@pytest.mark.parametrize(
    ("kind", "arguments", "match"),
    [
        (nn.RowLSTM, (2, 3, 4), r"RowLSTM: kernel_size: expected an odd kernel height, got 4$"),
        (nn.RowLSTM, (0, 3), r"RowLSTM: in_channels: expected an int >= 1, got 0"),
        (nn.DiagonalBiLSTM, (2, 3.0), r"DiagonalBiLSTM: hidden_channels: expected an int >= 1, got 3.0"),
    ],
)
def test_pixel_lstm_layers_refuse(kind, arguments, match):
    with pytest.raises(ValueError, match=match):
        kind(*arguments)
    with pytest.raises(ValueError, match=r"hidden_channels: expected a multiple of color_groups, 3, got 4"):
        kind(3, 4, color_groups=3)
