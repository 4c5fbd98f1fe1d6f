"""The Triton kernels of masked_linear over several tiles, on outputs that hold NaN. The generic tests run small layers."""

import pytest
import torch
from linear_checks import check, check_nan
from support import DTYPES, dtype_name

pytest.importorskip("triton")
from pygen.kernels import masked_linear

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("poisoned")]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize(
    ("ins", "outs", "most", "rows"),
    [(70, 150, 5, 67), (37, 66, 200, 3), (130, 65, 0, 1)],
    ids=["few degrees", "more degrees than units", "one degree"],
)
@pytest.mark.parametrize("strict", (True, False))
def test_triton_masked_linear_over_several_tiles(ins, outs, most, rows, strict, dtype):
    """Inputs that a whole tile sees and inputs that some of it see; dead tiles of the weight's gradient; NaN in dead weights."""
    check(masked_linear, DEVICE, ins, outs, most, rows, strict, dtype)


@pytest.mark.parametrize("strict", (True, False))
def test_triton_masked_linear_nan_reaches_what_it_feeds_alone(strict):
    """Of one input, within the tiles that mix outputs which see it and outputs which do not; and back."""
    check_nan(masked_linear, DEVICE, 40, 70, 30, strict)
