"""masked_conv2d: what compiles its Triton kernels in every configuration."""

from unittest import mock

import torch
from pygen.kernels import masked_conv2d

from pygen import _tf32

from ._common import DTYPES, Cases


def launch(n: int, ins: int, outs: int, kernel: tuple[int, int], dtype, *, groups=1, holes=False, tf32=False):
    """Type B, or a pattern with holes; channels_last, but for the first layers as they come."""
    kh, kw = kernel
    taps = tuple(range(0, kh * kw, 2)) if holes else tuple(range(kh // 2 * kw + kw // 2 + (groups == 1)))
    layout = torch.channels_last if ins > 3 else torch.contiguous_format
    x, grad = (torch.zeros(n, c, 28, 28, dtype=dtype).contiguous(memory_format=layout) for c in (ins, outs))
    weight, mask = torch.zeros(outs, ins, kh, kw, dtype=dtype), (taps, groups, False, 1)
    with mock.patch.object(_tf32, "allowed", lambda t: tf32):
        masked_conv2d.forward(x, weight, weight[:, 0, 0, 0], *mask)
        masked_conv2d.grad_input(grad, weight, *mask)
        masked_conv2d.grad_weight(grad, x, kernel, *mask, True)


def cases() -> Cases:
    for name, channels in {"float32": (32, 64), "bfloat16": (32, 64, 256), "float16": (256,), "float64": (64,)}.items():
        for c in channels:
            yield f"{name} C={c}", lambda d=DTYPES[name], c=c: launch(16, c, c, (3, 3), d)
    for name in ("float32", "bfloat16"):
        yield f"{name} first layer", lambda d=DTYPES[name]: launch(16, 3, 64, (7, 7), d)
        yield f"{name} RGB", lambda d=DTYPES[name]: launch(16, 66, 66, (3, 3), d, groups=3)
    yield "bfloat16 pattern", lambda: launch(16, 64, 64, (3, 5), torch.bfloat16, holes=True)
    for c in (32, 64):
        yield f"TF32 C={c}", lambda c=c: launch(16, c, c, (3, 3), torch.float32, tf32=True)
