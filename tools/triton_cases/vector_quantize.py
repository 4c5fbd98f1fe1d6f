"""vector_quantize: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import vector_quantize

from ._common import DTYPES, Cases


def launch(shape: tuple[int, ...], codes: int, dtype, *, last=False, above=True):
    z, e = torch.zeros(shape, dtype=dtype), torch.zeros(codes, shape[1], dtype=dtype)
    z = z.contiguous(memory_format=torch.channels_last) if last else z
    _, indices, distances = vector_quantize.forward(z, e)
    factor = torch.zeros(len(z), dtype=distances.dtype)
    vector_quantize.grad_input(z if above else None, factor, z, e, indices)
    vector_quantize.sums(z, indices, codes, e, factor)
    vector_quantize.statistics(z, indices, codes)


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        yield f"{name} codes of 64", lambda d=dtype: launch((16, 64, 32, 32), 512, d)
        yield f"{name} codes of 256", lambda d=dtype: launch((16, 256, 32, 32), 1024, d, last=True)
    yield "codes of 5, no gradient above", lambda: launch((3, 5, 7), 9, torch.float32, above=False)
