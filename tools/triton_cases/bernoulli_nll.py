"""bernoulli_nll: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import bernoulli_nll

from ._common import DTYPES, Cases


def launch(shape: tuple[int, ...], dtype, *, x_dtype=torch.uint8, reduction="batchmean", last=False):
    logits, x = torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=x_dtype)
    logits = logits.permute(0, 3, 1, 2) if last else logits
    x = x.permute(0, 3, 1, 2).contiguous() if last else x
    nll = bernoulli_nll.forward(logits, x, reduction)
    bernoulli_nll.backward(nll, logits, x, reduction)


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        yield f"{name} bytes", lambda d=dtype: launch((64, 4096), d)
        yield f"{name} floats", lambda d=dtype: launch((64, 4096), d, x_dtype=d)
        yield f"{name} bytes, a loss a sample", lambda d=dtype: launch((128, 784), d, reduction="none")
    yield (
        "int64, rows inside quads",
        lambda: launch((8, 1023), torch.float32, x_dtype=torch.int64, reduction="none"),
    )
    yield "of two layouts", lambda: launch((4, 16, 16, 3), torch.float32, last=True)
