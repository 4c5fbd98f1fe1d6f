"""gated_masked_conv2d: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import gated_masked_conv2d

from ._common import DTYPES, Cases


def launch(n: int, channels: int, dtype, *, groups=1, add=True, cond="map", last=True, side=False):
    """Type B of 1 x 3 with everything around it; or a stack's rows above, alone."""
    layout = torch.channels_last if last else torch.contiguous_format
    x, more = (
        torch.zeros(n, c, 28, 28, dtype=dtype).contiguous(memory_format=layout) for c in (channels, 2 * channels)
    )
    kernel, taps = ((1, 3), (0,) if groups > 1 else (0, 1)) if add else ((3, 3), (0, 1, 2))
    weight = torch.zeros(2 * channels, channels, *kernel, dtype=dtype)
    given = {"map": more, "row": more[:, :, 0, 0], "": None}[cond]
    mask = (taps, groups, False, 1)
    sides = (more, torch.zeros(2 * channels, 2 * channels, 1, 1, dtype=dtype)) if side else ()
    added = more if add and not side else None
    gated_masked_conv2d.forward(x, weight, weight[:, 0, 0, 0], added, given, *mask, *sides)


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        yield f"{name} C=64", lambda d=dtype: launch(16, 64, d)
    for channels in (32, 128):
        yield f"bfloat16 C={channels}", lambda c=channels: launch(16, c, torch.bfloat16, cond="row")
    yield "bfloat16 vertical stack", lambda: launch(16, 64, torch.bfloat16, add=False, cond="")
    yield "float32 RGB", lambda: launch(16, 66, torch.float32, groups=3, last=False)
    for channels in (32, 64):
        yield f"bfloat16 side C={channels}", lambda c=channels: launch(16, c, torch.bfloat16, side=True)
    yield "float32 RGB side", lambda: launch(16, 66, torch.float32, groups=3, side=True)
