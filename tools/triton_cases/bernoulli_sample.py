"""bernoulli_sample: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import bernoulli_sample

from ._common import DTYPES, Cases


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        logits = torch.zeros(64, 3, 32, 32, dtype=dtype)
        flat = logits.flatten(1)
        yield f"{name} colours", lambda t=logits: bernoulli_sample.forward(t, torch.tensor(1), 1.0)
        yield f"{name} flat", lambda t=flat: bernoulli_sample.forward(t, torch.tensor(1), 1.0)
