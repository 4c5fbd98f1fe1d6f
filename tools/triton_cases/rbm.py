"""rbm: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import rbm

from ._common import DTYPES, Cases


def launch(n: int, visible: int, hidden: int, dtype, *, known=False):
    v, weight = torch.zeros(n, visible, dtype=torch.uint8), torch.zeros(hidden, visible, dtype=dtype)
    given = (v, weight, torch.zeros(visible, dtype=dtype), torch.zeros(hidden, dtype=dtype))
    for keep in (True, False):
        rbm.forward(*given, keep)
    mask = torch.zeros(v.shape, dtype=torch.bool) if known else None
    rbm.gibbs(*given, 1, 1.0, mask, torch.zeros((), dtype=torch.int64))


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        yield f"{name} RBM 784-500", lambda d=dtype: launch(64, 784, 500, d, known=d == torch.float32)
    yield "RBM of odd sizes", lambda: launch(7, 5, 3, torch.float32)
