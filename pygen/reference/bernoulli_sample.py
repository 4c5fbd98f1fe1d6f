"""Bits drawn from Bernoullis of probability sigmoid(logit / T) in plain PyTorch.

Of y = l / T and a uniform number u the bit is 1 where the chance of 0 does not reach u, as categorical_sample of the logits 0 and
y has it: 1 / (1 + e^y) < u. That is computed as e^-y (1 - u) < u for y >= 0 and 1 - u < u e^y for y < 0, which loses no digits of
small chances. NaN gives 0.

Computed in float32 (float64 for float64).
"""

import math

import torch
from torch import Tensor

from pygen.reference._likelihood import compute_dtype
from pygen.reference._sampler import as_levels, inverse_temperature, position_uniforms

DOMAIN = 3  # of the noise; pygen/_noise.py has the list


def forward(
    logits: Tensor,  # [N, ...]
    seed: Tensor,  # 0-dim int64
    temperature: float,
) -> Tensor:
    """The bits, uint8 of logits' shape."""
    n, channels, *spatial = logits.shape if logits.dim() > 1 else (*logits.shape, 1)
    wide = compute_dtype(logits.dtype)
    y = logits.detach().to(wide).reshape(n, channels, math.prod(spatial)) * inverse_temperature(temperature, wide)
    u = position_uniforms(n, math.prod(spatial), channels, seed, DOMAIN).to(wide)
    e = torch.exp(-y.abs())
    return as_levels(torch.where(y >= 0, e * (1 - u) < u, 1 - u < u * e), 2, logits.shape, logits)
