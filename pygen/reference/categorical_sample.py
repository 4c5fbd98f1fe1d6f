"""Levels drawn from softmaxes of logits in plain PyTorch, by inverting the distribution function.

logits holds, along dim 1, a block of L logits for each channel, one channel after the other (as categorical_nll takes them).
With l one block, T the temperature, u the uniform number of that channel and position and e_j = exp((l_j - max l) / T), the
level is the first x with e_0 + ... + e_x >= u (e_0 + ... + e_(L-1)). One whose e_x is 0 is never drawn; where the sum is
no number above 0 (NaN among the logits, +inf, nothing but -inf) the level is 0.

Computed in float32 (float64 for float64).
"""

import math

import torch
from torch import Tensor

from pygen.reference._likelihood import compute_dtype
from pygen.reference._sampler import as_levels, inverse_temperature, position_uniforms

DOMAIN = 2  # of the noise; pygen/_noise.py has the list


def forward(
    logits: Tensor,  # [N, C * L, *spatial]
    seed: Tensor,  # 0-dim int64
    channels: int,
    temperature: float,
) -> Tensor:
    """The levels [N, C, *spatial]: uint8, int64 where there are more than 256."""
    n, numbers, *spatial = logits.shape
    levels = numbers // channels
    wide = compute_dtype(logits.dtype)
    blocks = logits.detach().to(wide).reshape(n, channels, levels, math.prod(spatial))
    u = position_uniforms(n, math.prod(spatial), channels, seed, DOMAIN).to(wide)
    drawn = first_to_reach(blocks, u, 2, inverse_temperature(temperature, wide))
    return as_levels(drawn, levels, (n, channels, *spatial), logits)


def first_to_reach(logits: Tensor, u: Tensor, dim: int, inverse: float) -> Tensor:
    """The level that u [...] draws from logits [..., L along dim, ...], int64."""
    top = logits.amax(dim, keepdim=True)
    terms = torch.exp((logits - top) * inverse)
    cumulated = terms.cumsum(dim)
    total = cumulated.select(dim, -1)
    shape = [1] * logits.dim()
    shape[dim] = -1
    level = torch.arange(logits.shape[dim], device=logits.device).view(shape)
    reached = (terms > 0) & (cumulated >= (u * total).unsqueeze(dim))
    found = torch.where(reached, level, logits.shape[dim]).amin(dim)
    last = torch.where(terms > 0, level, 0).amax(dim)  # rounding may leave it short of its sum
    return torch.where(total > 0, torch.minimum(found, last), 0)
