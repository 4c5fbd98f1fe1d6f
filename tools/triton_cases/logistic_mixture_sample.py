"""logistic_mixture_sample: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import logistic_mixture_sample
from torch import Tensor

from ._common import DTYPES, Cases


def cases() -> Cases:
    def draw(params: Tensor, channels: int) -> None:
        logistic_mixture_sample.forward(params, torch.tensor(1), channels, 256, -7.0, 1.0)

    for name, dtype in DTYPES.items():
        yield f"{name} colours", lambda d=dtype: draw(torch.zeros(16, 100, 32, 32, dtype=d), 3)
        yield f"{name} grey", lambda d=dtype: draw(torch.zeros(16, 15, 28, 28, dtype=d), 1)
