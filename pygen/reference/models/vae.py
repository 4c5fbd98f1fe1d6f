"""The variational auto-encoder as people usually write it in plain PyTorch: oracle and baseline of `pygen.models.VAE`.

Kingma and Welling, "Auto-Encoding Variational Bayes" (2014). Same constructor, same `state_dict`, same methods.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VAE(nn.Module):
    """Gaussian encoder, Bernoulli decoder, `torch.randn_like` and the textbook KL formula.

    Args:
        input_shape: (C, H, W) of the images.
        latent_dim: Z, the number of latents.
        hidden: widths of the hidden layers of the encoder, in order; the decoder mirrors them. None: (256, 256), and
            (32, 64) with `conv`, where they count channels.
        conv: 3x3 convolutions of stride 2 instead of linear layers.
        beta: weight of the KL in `loss`.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        latent_dim: int,
        *,
        hidden: int | Sequence[int] | None = None,
        conv: bool = False,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        if hidden is None:
            hidden = (32, 64) if conv else (256, 256)
        hidden = (hidden,) if isinstance(hidden, int) else tuple(hidden)
        self.input_shape = tuple(input_shape)
        self.latent_dim = latent_dim
        self.beta = beta
        layers = _conv_layers if conv else _linear_layers
        self.encoder, self.decoder = layers(self.input_shape, latent_dim, hidden)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Levels [N, C, H, W] to mu and logvar, [N, Z] each."""
        dtype = next(self.parameters()).dtype
        mu, logvar = self.encoder(2 * x.to(dtype) - 1).chunk(2, dim=1)
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        """Latents [N, Z] to the logits of the pixels, [N, C, H, W]."""
        return self.decoder(z)

    def loss(self, x: Tensor, cond: None = None, *, eps: Tensor | None = None) -> Tensor:
        """NLL of the pixels plus beta times the KL, summed over an image, averaged over the batch."""
        mu, logvar = self.encode(x)
        std = torch.exp(0.5 * logvar)
        z = mu + (torch.randn_like(std) if eps is None else eps) * std
        logits = self.decode(z)
        nll = F.binary_cross_entropy_with_logits(logits, x.to(logits.dtype), reduction="sum")
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return (nll + self.beta * kl) / x.shape[0]

    forward = loss

    def elbo(self, x: Tensor, *, eps: Tensor | None = None) -> Tensor:
        """ELBO [N] in nats, with one sample of z."""
        mu, logvar = self.encode(x)
        std = torch.exp(0.5 * logvar)
        z = mu + (torch.randn_like(std) if eps is None else eps) * std
        logits = self.decode(z)
        nll = F.binary_cross_entropy_with_logits(logits, x.to(logits.dtype), reduction="none").flatten(1).sum(1)
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), dim=1)
        return -(nll + kl)

    def log_prob(
        self,
        x: Tensor,
        cond: None = None,
        *,
        num_samples: int = 500,
        eps: Tensor | None = None,  # [K, N, Z]
        seed: int | None = None,
        generator: torch.Generator | None = None,
        rows_at_once: int = 16384,
    ) -> Tensor:
        """Importance-sampled log p(x) in nats, [N]: the log-mean-exp of K weights p(x, z) / q(z | x)."""
        mu, logvar = self.encode(x)
        if eps is None:
            generator = _seeded(seed, generator, mu.device)
            eps = torch.randn(num_samples, *mu.shape, dtype=mu.dtype, device=mu.device, generator=generator)
        images = x.to(mu.dtype)
        log_weights = []
        for e in eps.split(max(1, rows_at_once // max(1, len(x)))):
            z = mu + e * torch.exp(0.5 * logvar)  # [k, N, Z]
            logits = self.decode(z.flatten(0, 1)).unflatten(0, z.shape[:2])
            nll = F.binary_cross_entropy_with_logits(logits, images.expand_as(logits), reduction="none")
            log_prior = -0.5 * (z.pow(2) + math.log(2 * math.pi)).sum(2)
            log_posterior = -0.5 * (e.pow(2) + logvar + math.log(2 * math.pi)).sum(2)
            log_weights.append(log_prior - nll.flatten(2).sum(2) - log_posterior)
        return torch.cat(log_weights).logsumexp(0) - math.log(num_samples)

    @torch.no_grad()
    def sample(self, n: int, *, seed: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """n images of levels, uint8 [n, C, H, W]."""
        parameter = next(self.parameters())
        generator = _seeded(seed, generator, parameter.device)
        z = torch.randn(n, self.latent_dim, dtype=parameter.dtype, device=parameter.device, generator=generator)
        return torch.bernoulli(torch.sigmoid(self.decode(z)), generator=generator).to(torch.uint8)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Pixel probabilities [N, C, H, W] decoded from the posterior mean."""
        mu, _ = self.encode(x)
        return torch.sigmoid(self.decode(mu))


def _seeded(seed: int | None, generator: torch.Generator | None, device: torch.device) -> torch.Generator | None:
    return generator if seed is None else torch.Generator(device).manual_seed(seed)


def _linear_layers(shape: tuple[int, ...], latent_dim: int, hidden: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    pixels = math.prod(shape)
    encoder: list[nn.Module] = [nn.Flatten()]
    for wide, narrow in pairwise((pixels, *hidden)):
        encoder += [nn.Linear(wide, narrow), nn.ReLU()]
    encoder.append(nn.Linear(hidden[-1], 2 * latent_dim))
    decoder: list[nn.Module] = []
    for narrow, wide in pairwise((latent_dim, *hidden[::-1])):
        decoder += [nn.Linear(narrow, wide), nn.ReLU()]
    decoder += [nn.Linear(hidden[0], pixels), nn.Unflatten(1, shape)]
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def _conv_layers(shape: tuple[int, ...], latent_dim: int, hidden: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    channels, height, width = shape
    encoder: list[nn.Module] = []
    sizes = [(height, width)]  # before each stride
    for wide, narrow in pairwise((channels, *hidden)):
        encoder += [nn.Conv2d(wide, narrow, 3, stride=2, padding=1), nn.ReLU()]
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    smallest = (hidden[-1], *sizes.pop())
    features = math.prod(smallest)
    encoder += [nn.Flatten(), nn.Linear(features, 2 * latent_dim)]
    decoder: list[nn.Module] = [nn.Linear(latent_dim, features), nn.Unflatten(1, smallest)]
    for narrow, wide in pairwise((*hidden[::-1], channels)):
        h, w = sizes.pop()
        # An even side was halved exactly and needs the extra row; an odd one comes back without it.
        output_padding = (1 - h % 2, 1 - w % 2)
        up = nn.ConvTranspose2d(narrow, wide, 3, stride=2, padding=1, output_padding=output_padding)
        decoder += [nn.ReLU(), up]
    return nn.Sequential(*encoder), nn.Sequential(*decoder)
