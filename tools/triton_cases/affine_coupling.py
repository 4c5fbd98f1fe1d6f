"""affine_coupling: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import affine_coupling

from ._common import DTYPES, Cases


def launch(shape, dtype, *, mask="channel", scale="exp", inverse=False, last=False, half=True, alone=False):
    """alone: of the log-determinant's gradient and the parameters' alone."""
    params = (shape[0], shape[1] // 2, *shape[2:]) if half else shape
    layout = torch.channels_last if last else torch.contiguous_format
    x, p = (torch.zeros(s, dtype=dtype).contiguous(memory_format=layout) for s in (shape, params))
    s = None if scale == "none" else p
    options = (mask, False, "exp" if s is None else scale, 1.0, inverse)
    out, log_det = affine_coupling.forward(x, p, s, *options)
    given = (None, None, None) if s is None else (x, p if inverse else None, s)
    grads, needs = ((None, log_det), (False, True, True)) if alone else ((out, log_det), (True, True, s is not None))
    affine_coupling.backward(*grads, *given, half, *options, needs)


def cases() -> Cases:
    image = (64, 12, 32, 32)
    for name, dtype in DTYPES.items():
        yield f"{name} channel", lambda d=dtype: launch(image, d)
        yield f"{name} board", lambda d=dtype: launch(image, d, mask="checkerboard", scale="tanh", half=False)
        yield (
            f"{name} sigmoid inverse",
            lambda d=dtype: launch(image, d, scale="sigmoid", inverse=True, last=True),
        )
    yield "NICE", lambda: launch((512, 784), torch.float32, mask="even_odd", scale="none")
    yield "NICE inverse", lambda: launch((512, 784), torch.float32, scale="none", inverse=True)
    yield "two numbers", lambda: launch((512, 2), torch.float32)
    yield "alone", lambda: launch(image, torch.float32, alone=True)
