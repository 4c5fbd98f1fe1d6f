"""The index arithmetic of the row kernels beyond 2^31 and 2^32, run alone: no tensor need be that large. And of two ops."""

import pytest
import torch
from support import TARGETS, assert_same

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")
from pygen.kernels import _rows  # noqa: E402

from pygen.functional import logistic_mixture_nll, pixel_lstm  # noqa: E402

DEVICES = sorted({t.device for t in TARGETS if t.backend == "triton"})
pytestmark = pytest.mark.skipif(not DEVICES, reason="Triton does not run here")
ROWS, QUADS = 2, 4


@triton.jit
def place_kernel(
    program_ptr, quad_ptr, d_ptr, offs_ptr, rows, row_size, per_row, sizes, strides, ROWS: tl.constexpr, QUADS: tl.constexpr,
    WHOLE: tl.constexpr,
):  # fmt: skip
    row, _, quad, d, mask = _rows.place(tl.load(program_ptr), 0, rows, row_size, per_row, 1, ROWS, QUADS, WHOLE)
    quads = tl.arange(0, ROWS)[:, None] * QUADS + tl.arange(0, QUADS)[None, :]
    elements = tl.arange(0, ROWS)[:, None] * (4 * QUADS) + tl.arange(0, 4 * QUADS)[None, :]
    tl.store(quad_ptr + quads, quad)
    tl.store(d_ptr + elements, tl.where(mask, d + row * 0, -1))
    tl.store(offs_ptr + elements, tl.where(mask, _rows.offsets(row, d, sizes, strides), -1))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("row_size", [13, 16, 5_000_000_011, 5_000_000_012])
@pytest.mark.parametrize("first_row", [0, 2**31 // 13, 2**33 // 13])
def test_rows_and_offsets_beyond_32_bits(device, row_size, first_row):
    """Against Python's integers: quad and offset of each element of a program's rows."""
    rows = first_row + 2 * ROWS
    tiles = -(-(row_size + (3 if row_size % 4 else 0)) // (4 * QUADS))
    program = first_row // ROWS * tiles + (tiles - 1)  # the end of the rows
    first = program // tiles * ROWS
    sizes, strides = (3, 7, 11), (row_size + 5, 77, 2**31 + 1, 3)
    new = lambda n: torch.zeros((ROWS, n), dtype=torch.int64, device=device)  # noqa: E731
    quad, d, offs = new(QUADS), new(4 * QUADS), new(4 * QUADS)
    whole = row_size % 4 == 0
    place_kernel[(1,)](
        torch.tensor(program, device=device), quad, d, offs, rows, row_size, tiles, sizes, strides, ROWS, QUADS, whole
    )
    seen = 0
    for r in range(ROWS):
        row = first + r
        begin = row * row_size
        start = begin // 4 * 4 + (tiles - 1) * 4 * QUADS  # logical index of the first element of the program's part
        assert quad[r].tolist() == [start // 4 + i for i in range(QUADS)]
        for i in range(4 * QUADS):
            expected = start + i - begin
            if not 0 <= expected < row_size:
                assert d[r, i] == -1
                continue
            seen += 1
            assert d[r, i] == expected
            inner, rest = expected % 11, expected // 11
            assert offs[r, i] == row * strides[0] + inner * strides[3] + rest % 7 * strides[2] + rest // 7 * strides[1]
    assert seen


@pytest.mark.parametrize("device", DEVICES)
def test_logistic_mixture_nll_channels_of_levels_further_apart_than_2_to_the_30(device):
    """As a channel lies behind another of a whole data set; of memory of which three numbers are touched."""
    apart = 2**30 + 1
    x = torch.empty(2 * apart + 1, dtype=torch.uint8, device=device)[::apart].view(1, 3, 1)
    x.copy_(torch.tensor([7, 200, 31]).view(1, 3, 1))
    params = torch.linspace(-1, 1, 10, device=device).view(1, 10, 1)
    got = logistic_mixture_nll(params, x, backend="triton")
    assert_same(got, logistic_mixture_nll(params, x.clone(), backend="triton"))


@pytest.mark.parametrize("device", DEVICES)
def test_pixel_lstm_gates_further_apart_than_2_to_the_31(device):
    """Of one unit, in memory of which four numbers are touched."""
    apart = 2**30 - 1
    input = torch.empty(3 * apart + 1, dtype=torch.float16, device=device)[::apart].view(1, 4, 1, 1)
    input.copy_(torch.tensor([0.5, -1.0, 2.0, 0.25]).view(1, 4, 1, 1))
    assert input.stride(1) == apart
    weight = torch.zeros(4, 1, 2, dtype=torch.float16, device=device)
    got = pixel_lstm(input, weight, direction="right", backend="triton")
    assert_same(got, pixel_lstm(input.contiguous(), weight, direction="right", backend="triton"))
