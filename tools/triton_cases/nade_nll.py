"""nade_nll: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import nade_nll

from ._common import DTYPES, Cases


def launch(n: int, inputs: int, hidden: int, dtype):
    x, weight = torch.zeros(n, inputs, dtype=torch.uint8), torch.zeros(inputs, hidden, dtype=dtype)
    logits = nade_nll.forward(x, weight, weight[0], weight, weight[:, 0])
    nade_nll.backward(logits, x, weight, weight[0], weight, (False, True, True, True, True))


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        yield f"{name} NADE 784-500", lambda d=dtype: launch(64, 784, 500, d)
    yield "NADE of odd sizes", lambda: launch(7, 5, 3, torch.float32)
