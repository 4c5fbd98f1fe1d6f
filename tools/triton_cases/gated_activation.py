"""gated_activation: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import gated_activation

from ._common import DTYPES, Cases


def launch(shape: tuple[int, ...], dtype, *, cond=None, groups=1, last=False, more=False):
    x = torch.zeros(shape, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    condition = None if cond is None else torch.zeros(cond, dtype=dtype)
    out = gated_activation.forward(x, condition, groups)
    gated_activation.backward(out, x, condition, groups, (True, condition is not None), x.clone() if more else None)


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        shape = (8, 128, 32, 32)
        yield f"{name} cond [N, C]", lambda d=dtype, s=shape: launch(s, d, cond=(8, 128))
        yield f"{name} channels_last", lambda d=dtype, s=shape: launch(s, d, last=True, groups=2)
        # the gate's backward as gated_masked_conv2d calls it
        yield f"{name} more", lambda d=dtype, s=shape: launch(s, d, cond=s[:2], last=True, more=True)
    yield "cond like input", lambda: launch((8, 128, 32, 32), torch.float32, cond=(8, 128, 32, 32))
    yield "two dims", lambda: launch((512, 64), torch.float32)
