"""categorical_sample: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import categorical_sample

from ._common import DTYPES, Cases


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        logits = torch.zeros(16, 3 * 256, 32, 32, dtype=dtype)
        last = logits.contiguous(memory_format=torch.channels_last)
        yield f"{name} L=256", lambda t=logits: categorical_sample.forward(t, torch.tensor(1), 3, 1.0)
        yield f"{name} L=256, channels_last", lambda t=last: categorical_sample.forward(t, torch.tensor(1), 3, 1.0)
    yield "L=2", lambda: categorical_sample.forward(torch.zeros(16, 2, 28, 28), torch.tensor(1), 1, 1.0)
    yield "L=65536", lambda: categorical_sample.forward(torch.zeros(4, 65536, 100), torch.tensor(1), 1, 1.0)
