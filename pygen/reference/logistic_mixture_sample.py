"""Levels drawn from mixtures of discretised logistics in plain PyTorch (Salimans et al. 2017, "PixelCNN++").

Of a pixel with parameters as logistic_mixture_nll takes them one component k is drawn, by categorical_sample's rule from the K
logits over the temperature T and the uniform number u_0; then channel after channel the quantile of its logistic,

    value_c = mean_c + T e^(log_scale_c) log(u_(1+c) / (1 - u_(1+c))),    level_c = round((value_c + 1) (L - 1) / 2) in 0 .. L - 1

with the means of green and blue moved by the levels drawn before. A level's chance is what the logistic has between the edges of
its bin, and of the outer two all that lies beyond: the law is exp(-logistic_mixture_nll). The numbers u, float32, are multiples
of 2^-24 next to 1; 1 itself counts as 1 - 2^-25. NaN, of weights or of the component's numbers, gives level 0.

Computed in float32 (float64 for float64).
"""

import math

import torch
from torch import Tensor

from pygen.reference._likelihood import compute_dtype
from pygen.reference._sampler import as_levels, inverse_temperature, position_uniforms
from pygen.reference.categorical_sample import first_to_reach
from pygen.reference.logistic_mixture_nll import params_per_component

DOMAIN = 4  # of the noise; pygen/_noise.py has the list


def forward(
    params: Tensor,  # [N, P, *spatial]
    seed: Tensor,  # 0-dim int64
    channels: int,
    num_levels: int,
    min_log_scale: float,
    temperature: float,
) -> Tensor:
    """The levels [N, C, *spatial]: uint8, int64 where there are more than 256."""
    n, numbers, *spatial = params.shape
    each, positions, wide = params_per_component(channels), math.prod(spatial), compute_dtype(params.dtype)
    given = params.detach().to(wide).reshape(n, each, numbers // each, positions)
    u = position_uniforms(n, positions, 1 + channels, seed, DOMAIN).to(wide)
    logits = given[:, 0]
    component = first_to_reach(logits, u[:, 0], 1, inverse_temperature(temperature, wide))
    index = component[:, None, None].expand(-1, each - 1, -1, -1)
    own = (
        given[:, 1:].gather(2, index).view(n, channels, (each - 1) // channels, positions)
    )  # of C: what it consists of
    bad = logits.isnan().any(1) | (logits.amax(1).isinf())  # nothing to choose
    last = num_levels - 1
    scaled: list[Tensor] = []
    levels = []
    for c in range(channels):
        mean = own[:, c, 0]
        for before in range(c):
            mean = mean + own[:, c - 1 + before, 2].tanh() * scaled[before]
        log_scale = own[:, c, 1].clamp(min=min_log_scale) + math.log(temperature)
        odds = u[:, 1 + c] / (1 - u[:, 1 + c]).clamp(min=2.0**-25)
        value = mean + log_scale.exp() * odds.log()
        level = ((value + 1) * (0.5 * last)).clamp(0, last).round().masked_fill(bad, 0).nan_to_num(0)
        levels.append(level)
        scaled.append((2 * level - last) / last)
    return as_levels(torch.stack(levels, 1), num_levels, (n, channels, *spatial), params)
