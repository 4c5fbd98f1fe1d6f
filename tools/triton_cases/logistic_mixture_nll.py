"""logistic_mixture_nll: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import logistic_mixture_nll

from ._common import DTYPES, Cases


def launch(n: int, channels: int, components: int, dtype, *, size=(32, 32), last=False, reduction="sum"):
    shape = (n, (3 if channels == 1 else 10) * components, *size)
    params, x = torch.zeros(shape, dtype=dtype), torch.zeros(n, channels, *size, dtype=torch.uint8)
    params = params.contiguous(memory_format=torch.channels_last) if last else params
    nll = logistic_mixture_nll.forward(params, x, 256, -7.0, reduction)
    logistic_mixture_nll.backward(nll, params, x, 256, -7.0, reduction)


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        yield f"{name} colours K=10", lambda d=dtype: launch(16, 3, 10, d)
        yield f"{name} sound K=10", lambda d=dtype: launch(4, 1, 10, d, size=(1000,))
    yield "colours K=10, channels_last", lambda: launch(16, 3, 10, torch.float32, last=True)
    yield "colours K=40", lambda: launch(16, 3, 40, torch.float32)
    yield (
        "grey K=5, a loss a sample",
        lambda: launch(64, 1, 5, torch.bfloat16, size=(), reduction="none"),
    )
