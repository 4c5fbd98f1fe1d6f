"""rational_quadratic_spline: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import rational_quadratic_spline

from ._common import DTYPES, Cases


def launch(shape, bins: int, dtype, *, mask="all", tails="linear", inverse=False, last=False, alone=False):
    """alone: of the log-determinant's gradient and the parameters' alone."""
    live = shape[1] if mask == "all" else shape[1] // 2
    numbers = 3 * bins - 1 if tails == "linear" else 3 * bins + 1
    layout = torch.channels_last if last else torch.contiguous_format
    both = (shape, (shape[0], live * numbers, *shape[2:]))
    x, p = (torch.zeros(s, dtype=dtype).contiguous(memory_format=layout) for s in both)
    options = (mask, False, tails, -3.0, 3.0, 1e-3, 1e-3, 1e-3, 1.0, inverse)
    out, log_det = rational_quadratic_spline.forward(x, p, *options)
    rational_quadratic_spline.backward(None if alone else out, log_det, x, p, *options, (not alone, True))


def cases() -> Cases:
    image = (64, 12, 32, 32)
    for name, dtype in DTYPES.items():
        yield f"{name} channel", lambda d=dtype: launch(image, 8, d, mask="channel")
        yield (
            f"{name} box inverse",
            lambda d=dtype: launch(image, 8, d, tails="none", inverse=True, last=True),
        )
    yield "vectors", lambda: launch((4096, 64), 8, torch.float32, mask="even_odd")
    yield "sixteen bins", lambda: launch(image, 16, torch.float32, inverse=True)
    yield "one bin", lambda: launch((512, 2), 1, torch.float32)
    yield "alone", lambda: launch(image, 8, torch.float32, alone=True)
