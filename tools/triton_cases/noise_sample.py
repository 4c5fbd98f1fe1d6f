"""noise_sample: what compiles its Triton kernel."""

import torch
from pygen.kernels import noise_sample

from ._common import Cases


def cases() -> Cases:
    table, seed = torch.zeros(100, 3, dtype=torch.int64), torch.zeros((), dtype=torch.int64)
    yield "draws by an alias table", lambda: noise_sample.forward(table, seed, 64, 5)
