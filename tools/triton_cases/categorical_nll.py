"""categorical_nll: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import categorical_nll

from ._common import DTYPES, Cases


def launch(n: int, channels: int, levels: int, dtype, *, size=(32, 32), last=False, reduction="sum"):
    logits = torch.zeros(n, channels * levels, *size, dtype=dtype)
    x = torch.zeros(n, channels, *size, dtype=torch.uint8 if levels <= 256 else torch.int64)
    logits = logits.contiguous(memory_format=torch.channels_last) if last else logits
    nll = categorical_nll.forward(logits, x, reduction)
    categorical_nll.backward(nll, logits, x, reduction)


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        yield f"{name} L=256", lambda d=dtype: launch(16, 3, 256, d)
        yield f"{name} L=256, channels_last", lambda d=dtype: launch(16, 3, 256, d, last=True)
    yield "L=2", lambda: launch(16, 1, 2, torch.float32, size=(28, 28))
    yield "MADE, L=2", lambda: launch(128, 784, 2, torch.float32, size=())
    yield "L=65536", lambda: launch(4, 1, 65536, torch.bfloat16, size=(100,))
    yield "L=1000, a loss a sample", lambda: launch(64, 1, 1000, torch.bfloat16, size=(), reduction="none")
