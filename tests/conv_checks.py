"""What the GPU launchers of masked_conv2d are checked with, by Triton's interpreter, on the host and on a GPU."""

import conv_samples as samples
import torch
import torch.nn.functional as F
from support import assert_accurate, compute_dtype, mixed_weights

from pygen import _taps

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


def check(
    launcher,
    device,
    n,
    ins,
    outs,
    size,
    kernel,
    dtype,
    *,
    kind="B",
    groups=1,
    dilation=1,
    layout=torch.contiguous_format,
):
    """The launcher's three functions against torch's own, in float64 of the same rounded inputs."""
    x, weight, bias, grad = make(n, ins, outs, size, kernel, dtype, layout)
    mask = (_taps.live_taps("test", kind, groups, *kernel), groups, kind == "A", dilation)
    there = [t.to(device) for t in (x, weight, bias, grad)]
    ours = [launcher.forward(*there[:3], *mask), launcher.grad_input(there[3], there[1], *mask)]
    ours += launcher.grad_weight(there[3], there[0], kernel, *mask, True)
    dense = _taps.dense_mask(kind, groups, weight.shape)
    pads, truths = [side // 2 * dilation for side in kernel], []
    for wide in (torch.float64, compute_dtype(dtype)):
        leaves = [t.to(wide).requires_grad_() for t in (x, weight, bias)]
        out = F.conv2d(leaves[0], leaves[1] * dense.to(wide), leaves[2], padding=pads, dilation=dilation)
        truths.append((out, *torch.autograd.grad(out, leaves, grad.to(wide))))
    for what, a, ref, base in zip(("output", "input", "weight", "bias"), ours, *truths, strict=True):
        assert_accurate(a, ref, base.to(dtype), dtype=dtype, what=what)
    assert not ours[2].cpu()[~dense].any()


def check_nan(launcher, device, kind, dtype):
    """One image for each element that is NaN: exactly what the mask allows is reached, forward and back; dead weights are NaN."""
    _, weight, bias, options = samples.make(kind, dtype=dtype)
    size, name, groups = (4, 3), options["mask_type"], options.get("color_groups", 1)
    mask = (_taps.live_taps("test", name, groups, *weight.shape[2:]), groups, name == "A", options.get("dilation", 1))
    may = samples.depends(weight, size, options)
    weight = weight.masked_fill(~_taps.dense_mask(name, groups, weight.shape), torch.nan).to(device)
    for channels, reach, run in (
        (weight.shape[1], may.permute(3, 4, 5, 0, 1, 2), lambda t: launcher.forward(t, weight, bias.to(device), *mask)),
        (weight.shape[0], may, lambda t: launcher.grad_input(t, weight, *mask)),
    ):
        count = channels * size[0] * size[1]
        spoilt = torch.ones(count, count, dtype=dtype).fill_diagonal_(torch.nan).view(count, channels, *size)
        assert torch.equal(run(spoilt.to(device)).isnan().cpu().flatten(1), reach.reshape(count, -1))
