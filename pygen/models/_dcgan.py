"""Generator and discriminator in the manner of DCGAN (Radford et al., 2016), as plain `nn.Sequential`, for any image size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from pygen._checks import fail


def default_hidden(shape: Sequence[int]) -> tuple[int, ...]:
    """Widths 64, 128, ...: as many as halve the shorter side to 4 .. 7, and at least two (8x8: 2, 28x28: 7, 32x32: 3)."""
    halvings = max(2, min(shape[1:]).bit_length() - 3)
    return tuple(64 << i for i in range(halvings))


def dcgan(
    shape: tuple[int, int, int],
    latent_dim: int,
    hidden: Sequence[int],
    *,
    generator_batch_norm: bool,
    discriminator_batch_norm: bool,
) -> tuple[nn.Sequential, nn.Sequential]:
    """Latents [N, Z] to images [N, C, H, W] in [-1, 1], and images to logits [N].

    4x4 convolutions of stride 2 of widths `hidden` and one linear layer; the generator mirrors the discriminator. As in
    DCGAN no batch norm touches the images: the discriminator's first layer and the generator's last have none. The weights
    start as torch's layers do: from DCGAN's N(0, 0.02^2) nets of this size learn more slowly.
    """
    sizes = [shape[1:]]
    for _ in hidden:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    if min(sizes[-1]) < 1:
        most = min(shape[1:]).bit_length() - 1
        raise fail("GAN", "hidden", f"at most {most} widths, each of which halves {shape[1:]}", len(hidden))
    smallest = (hidden[-1], *sizes[-1])
    discriminator: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise((shape[0], *hidden))):
        norm = discriminator_batch_norm and i > 0
        discriminator.append(nn.Conv2d(fan_in, fan_out, 4, stride=2, padding=1, bias=not norm))
        discriminator += [nn.BatchNorm2d(fan_out)] if norm else []
        discriminator.append(nn.LeakyReLU(0.2))
    discriminator += [nn.Flatten(), nn.Linear(math.prod(smallest), 1), nn.Flatten(0)]

    norm = generator_batch_norm
    generator: list[nn.Module] = [
        nn.Linear(latent_dim, math.prod(smallest), bias=not norm),
        nn.Unflatten(1, smallest),
        *([nn.BatchNorm2d(hidden[-1])] if norm else []),
        nn.ReLU(),
    ]
    for (fan_in, fan_out), (height, width) in zip(pairwise(reversed(hidden)), sizes[-2:0:-1], strict=True):
        generator.append(_double(fan_in, fan_out, height, width, bias=not norm))
        generator += [nn.BatchNorm2d(fan_out)] if norm else []
        generator.append(nn.ReLU())
    generator += [_double(hidden[0], shape[0], *shape[1:], bias=True), nn.Tanh()]
    return nn.Sequential(*generator), nn.Sequential(*discriminator)


def _double(fan_in: int, fan_out: int, height: int, width: int, bias: bool) -> nn.ConvTranspose2d:
    """To height x width from half of each; an odd side lost a row or column when it was halved."""
    return nn.ConvTranspose2d(
        fan_in, fan_out, 4, stride=2, padding=1, output_padding=(height % 2, width % 2), bias=bias
    )
