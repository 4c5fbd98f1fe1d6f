"""The Triton kernels of masked_linear over several tiles, on outputs that hold NaN. The generic tests run small layers."""

import pytest
import torch
from support import DTYPES, assert_accurate, compute_dtype, dtype_name
from test_masked_linear import layer

pytest.importorskip("triton")
from pygen.kernels import masked_linear

from pygen.reference.masked_linear import live_mask

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
    given, (x, w, b, grad) = layer(ins, outs, most, rows, dtype)
    mask = live_mask(**given, strict=strict, device=x.device)
    options = (given["in_degrees"], given["out_degrees"], strict)
    spoilt = w.masked_fill(~mask, torch.nan)
    x_, w_, b_, grad_ = (t.to(DEVICE) for t in (x, spoilt, b, grad))
    ours = [masked_linear.forward(x_, w_, b_, *options), masked_linear.grad_input(grad_, w_, *options)]
    ours += masked_linear.grad_weight(grad_, x_, *options, True)
    truths = []
    for wide in (torch.float64, compute_dtype(dtype)):
        X, W, B, G = (t.to(wide) for t in (x, w * mask, b, grad))
        truths.append([X @ W.t() + B, G @ W, (G.t() @ X) * mask, G.sum(0)])
    for what, a, ref, base in zip(("output", "input", "weight", "bias"), ours, *truths, strict=True):
        assert_accurate(a.cpu(), ref, base.to(dtype), what=what)
    assert not ours[2].cpu()[~mask].any()


@pytest.mark.parametrize("strict", (True, False))
def test_triton_masked_linear_nan_reaches_what_it_feeds_alone(strict):
    """Of one input, within the tiles that mix outputs which see it and outputs which do not; and back."""
    given, (x, w, _, grad) = layer(40, 70, 30, 2)
    mask = live_mask(**given, strict=strict, device=x.device)
    options = (given["in_degrees"], given["out_degrees"], strict)
    for i in range(0, 40, 7):
        spoilt = x.clone()
        spoilt[0, i] = torch.nan
        out = masked_linear.forward(spoilt.to(DEVICE), w.to(DEVICE), None, *options).cpu()
        assert torch.equal(out[0].isnan(), mask[:, i]) and out[1].isfinite().all()
    for o in range(0, 70, 11):
        spoilt = grad.clone()
        spoilt[1, o] = torch.nan
        back = masked_linear.grad_input(spoilt.to(DEVICE), w.to(DEVICE), *options).cpu()
        assert torch.equal(back[1].isnan(), mask[o]) and back[0].isfinite().all()
