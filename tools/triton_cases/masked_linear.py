"""masked_linear: what compiles its Triton kernels in every configuration."""

from unittest import mock

import torch
from pygen.kernels import masked_linear

from pygen import _tf32

from ._common import DTYPES, Cases


def launch(rows: int, ins: int, outs: int, dtype, *, tf32=False):
    x, grad, weight = (torch.zeros(s, dtype=dtype) for s in ((rows, ins), (rows, outs), (outs, ins)))
    given = (tuple(range(ins)), tuple(range(outs)), True)
    with mock.patch.object(_tf32, "allowed_in_products", lambda t: tf32):
        masked_linear.forward(x, weight, grad[0], *given)
        masked_linear.grad_input(grad, weight, *given)
        masked_linear.grad_weight(grad, x, *given, True)


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        for size in (24, 512):
            yield f"{name} {size}", lambda s=size, d=dtype: launch(64, s, s, d)
    yield "TF32", lambda: launch(64, 512, 512, torch.float32, tf32=True)
