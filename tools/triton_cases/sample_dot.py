"""sample_dot: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import sample_dot

from ._common import DTYPES, Cases


def launch(x: torch.Tensor, pair: bool = False) -> None:
    sums = sample_dot.forward(x, x.clone() if pair else None)
    sample_dot.backward(sums, x)


def cases() -> Cases:
    for name in ("float32", "bfloat16", "float64"):
        yield f"{name} squared norms", lambda d=DTYPES[name]: launch(torch.zeros(64, 3, 64, 64, dtype=d))
    yield "products, channels_last", lambda: launch(torch.zeros(8, 16, 16, 3).permute(0, 3, 1, 2), pair=True)
    yield "rows inside quads", lambda: launch(torch.zeros(64, 3, 5, 7))
