"""am_softmax: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import am_softmax

from ._common import DTYPES, Cases


def launch(n: int, classes: int, dtype, *, gradients=True, scaled=True):
    wide = torch.promote_types(dtype, torch.float32)
    products, each = torch.zeros(n, classes, dtype=wide), torch.zeros(n, dtype=wide)
    target, columns = torch.zeros(n, dtype=torch.int64), torch.zeros(classes, dtype=wide)
    am_softmax.rows(products, each, columns, target, 10.5, each if gradients else None, dtype)
    factor = torch.zeros((), dtype=wide) if scaled else None
    am_softmax.across(torch.zeros(n, 512, dtype=wide), torch.zeros(n, 512, dtype=dtype), each, 1e-12, factor)


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        yield f"{name} C=10575", lambda d=dtype: launch(64, 10575, d)
    yield "the loss alone, no factor", lambda: launch(64, 10575, torch.float32, gradients=False, scaled=False)
