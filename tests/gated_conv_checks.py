"""What the GPU launchers of gated_masked_conv2d are checked with, on the host and on a GPU."""

import conv_checks
import torch
from support import assert_same

from pygen import _taps


def make(n, ins, half, size, kernel, dtype, layout=torch.contiguous_format, *, cond="map", side=0):
    """input, weight, bias, add and cond whose sums are exact in float32: eighths, bias and add too; side and its weight."""
    x, weight, bias, add = conv_checks.make(n, ins, 2 * half, size, kernel, dtype, layout)
    g = torch.Generator().manual_seed(3)
    bias, add = (torch.randn(t.shape, generator=g).mul(8).round().div(8).to(dtype) for t in (bias, add))
    given = torch.randn(add.shape if cond == "map" else add.shape[:2], generator=g).to(dtype)
    given = given.contiguous(memory_format=layout) if given.dim() == 4 else given
    sides = (None, None)
    if side:
        image, mix = (
            torch.randn(s, generator=g).mul(8).round().div(8) for s in ((n, side, *size), (2 * half, side, 1, 1))
        )
        sides = (image.to(dtype).contiguous(memory_format=layout), mix.to(dtype))
    return x, weight, bias, add.contiguous(memory_format=layout), given if cond else None, *sides


def check(launcher, convolution, gate, device, tensors, kernel, *, kind="B", groups=1, dilation=1):
    """pre is the float64 sum of the same numbers rounded once; out the gate's own launcher of pre, bit for bit.

    The sums are exact where float32 holds them, so nothing is left to tolerances.
    """
    mask = (_taps.live_taps("test", kind, groups, *kernel), groups, kind == "A", dilation)
    there = [t if t is None else t.to(device) for t in tensors]
    x, weight, bias, add, cond, side, mix = there
    pre, out = launcher.forward(*there[:5], *mask, side, mix)
    wide = [t.double() for t in (x, weight, bias)]
    truth = convolution.forward(*wide, *mask) + (0 if add is None else add.double())
    if side is not None:
        truth += convolution.forward(side.double(), mix.double(), None, (0,), 1, False, 1)
    assert_same(pre, truth.to(x.dtype), what="pre")
    assert_same(out, gate.forward(pre, cond, groups), what="out")
    for t, channels in ((pre, len(weight)), (out, len(weight) // 2)):
        assert t.shape == (len(x), channels, *x.shape[2:])
