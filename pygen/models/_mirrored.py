"""Encoder and decoder stacks that mirror each other, as plain `nn.Sequential`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def linear_stacks(shape: Sequence[int], latent_dim: int, hidden: Sequence[int]) -> tuple[nn.Sequential, nn.Sequential]:
    """Images [N, *shape] to [N, 2 Z] through ReLU layers of widths `hidden`, and [N, Z] back to [N, *shape]."""
    pixels = math.prod(shape)
    encoder: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise((pixels, *hidden)):
        encoder += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    encoder.append(nn.Linear(hidden[-1], 2 * latent_dim))
    decoder: list[nn.Module] = []
    backwards = tuple(reversed(hidden))
    for fan_in, fan_out in pairwise((latent_dim, *backwards)):
        decoder += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    decoder += [nn.Linear(hidden[0], pixels), nn.Unflatten(1, tuple(shape))]
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def conv_stacks(shape: Sequence[int], latent_dim: int, hidden: Sequence[int]) -> tuple[nn.Sequential, nn.Sequential]:
    """The same with 3x3 convolutions of stride 2, `hidden` counting channels, for images of any size."""
    channels, height, width = shape
    sizes = [(height, width)]
    encoder: list[nn.Module] = []
    for fan_in, fan_out in pairwise((channels, *hidden)):
        encoder += [nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1), nn.ReLU()]
        height, width = (height + 1) // 2, (width + 1) // 2
        sizes.append((height, width))
    smallest = (hidden[-1], height, width)
    encoder += [nn.Flatten(), nn.Linear(math.prod(smallest), 2 * latent_dim)]
    decoder: list[nn.Module] = [nn.Linear(latent_dim, math.prod(smallest)), nn.Unflatten(1, smallest)]
    backwards = (*reversed(hidden), channels)
    for (fan_in, fan_out), (height, width) in zip(pairwise(backwards), reversed(sizes[:-1]), strict=True):
        # The stride rounded odd sides up: without the extra row they come back exactly, even ones need it.
        extra = ((height + 1) % 2, (width + 1) % 2)
        decoder += [nn.ReLU(), nn.ConvTranspose2d(fan_in, fan_out, 3, stride=2, padding=1, output_padding=extra)]
    return nn.Sequential(*encoder), nn.Sequential(*decoder)
