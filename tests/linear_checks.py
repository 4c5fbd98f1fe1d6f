"""What the GPU launchers of masked_linear are checked with, by Triton's interpreter, on the host and on a GPU."""

import torch
from support import assert_accurate, compute_dtype
from test_masked_linear import layer

from pygen.reference.masked_linear import live_mask


def check(launcher, device, ins, outs, most, rows, strict, dtype):
    """The launcher's three functions against plain products, in float64 of the same rounded inputs; dead weights are NaN."""
    given, (x, w, b, grad) = layer(ins, outs, most, rows, dtype)
    if rows > 1000:  # the order of a long sum costs more than the rule allows: eighths cost nothing
        x, w, b, grad = (t.mul(8).round().div(8) for t in (x, w, b, grad))
    mask = live_mask(**given, strict=strict, device=x.device)
    options = (given["in_degrees"], given["out_degrees"], strict)
    spoilt = w.masked_fill(~mask, torch.nan)
    x_, w_, b_, grad_ = (t.to(device) for t in (x, spoilt, b, grad))
    ours = [launcher.forward(x_, w_, b_, *options), launcher.grad_input(grad_, w_, *options)]
    ours += launcher.grad_weight(grad_, x_, *options, True)
    truths = []
    for wide in (torch.float64, compute_dtype(dtype)):
        X, W, B, G = (t.to(wide) for t in (x, w * mask, b, grad))
        truths.append([X @ W.t() + B, G @ W, (G.t() @ X) * mask, G.sum(0)])
    for what, a, ref, base in zip(("output", "input", "weight", "bias"), ours, *truths, strict=True):
        assert_accurate(a.cpu(), ref, base.to(dtype), dtype=dtype, what=what)
    assert not ours[2].cpu()[~mask].any()


def check_nan(launcher, device, ins, outs, most, strict, dtype=torch.float32):
    """NaN and infinity in one input, within tiles that mix outputs which see it and outputs which do not; and back."""
    given, (x, w, _, grad) = layer(ins, outs, most, 2, dtype)
    mask = live_mask(**given, strict=strict, device=x.device)
    options = (given["in_degrees"], given["out_degrees"], strict)
    for spoil in (torch.nan, -torch.inf):
        for i in range(0, ins, 7):
            spoilt = x.clone()
            spoilt[0, i] = spoil
            out = launcher.forward(spoilt.to(device), w.to(device), None, *options).cpu()
            expected = (spoil * w[:, i]).masked_fill(~mask[:, i], 0)  # of what is not finite
            at = ~out[0].isfinite()
            assert torch.equal(at, mask[:, i]) and out[1].isfinite().all()
            torch.testing.assert_close(out[0][at], expected[at], equal_nan=True)
        for o in range(0, outs, 11):
            spoilt = grad.clone()
            spoilt[1, o] = spoil
            back = launcher.grad_input(spoilt.to(device), w.to(device), *options).cpu()
            assert torch.equal(~back[1].isfinite(), mask[o]) and back[0].isfinite().all()
