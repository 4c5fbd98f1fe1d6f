"""The variational auto-encoder (Kingma and Welling, "Auto-Encoding Variational Bayes", 2014) on binary images."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from pygen import _dispatch
from pygen._checks import check_bool, fail
from pygen.functional import bernoulli_nll, reparameterize_kl

from ._arguments import noise_source
from ._checkpoint import Recorded
from ._levels import check_levels, scale_levels
from ._mirrored import conv_stacks, linear_stacks

_ROWS_AT_ONCE = 16384  # decoded images in memory while log_prob works through its K samples


class VAE(Recorded):
    """A variational autoencoder of binary images: learns to draw them from, and encode them as, a few Gaussian latents.

    Gaussian encoder q(z | x), standard normal prior, Bernoulli decoder p(x | z) with logits. Images are levels {0, 1},
    uint8 or int64 [N, C, H, W]. All likelihoods are in nats and summed over an image's pixels; the KL is summed over
    its latents. Kingma and Welling 2014. The twin is `pygen.reference.models.VAE`: same keys, same methods.

    Args:
        input_shape: (C, H, W) of the images.
        latent_dim: Z, the number of latents.
        hidden: width of the encoder's hidden layers, in order; the decoder mirrors them. One int is one layer.
            None means (256, 256), and (32, 64) with `conv`, where they count channels.
        conv: 3x3 convolutions of stride 2 instead of linear layers; any image size.
        beta: weight of the KL in `loss` (Higgins et al., 2017). `elbo` and `log_prob` do not use it.

    Example:
        >>> model = pygen.models.VAE((1, 8, 8), 4, hidden=32)
        >>> x = torch.randint(2, (2, 1, 8, 8))
        >>> model.loss(x).backward()  # minus the ELBO
        >>> model.elbo(x).shape, model.reconstruct(x).shape, model.sample(3).shape
        (torch.Size([2]), torch.Size([2, 1, 8, 8]), torch.Size([3, 1, 8, 8]))
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
        self.input_shape = _ints("input_shape", input_shape)
        if len(self.input_shape) != 3:
            raise fail("VAE", "input_shape", "(C, H, W)", self.input_shape)
        (self.latent_dim,) = _ints("latent_dim", latent_dim)
        hidden = _ints("hidden", hidden)
        if not hidden:
            raise fail("VAE", "hidden", "at least one width", "none")
        if isinstance(beta, bool) or not isinstance(beta, (int, float)) or not (math.isfinite(beta) and beta >= 0):
            raise fail("VAE", "beta", "a finite number >= 0", repr(beta))
        check_bool("VAE", "conv", conv)
        self.beta = float(beta)
        stacks = conv_stacks if conv else linear_stacks
        self.encoder, self.decoder = stacks(self.input_shape, self.latent_dim, hidden)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior's mu and logvar = log sigma^2, [N, Z] each, of images x [N, C, H, W]."""
        check_levels("VAE", x, 2, self.input_shape)
        mu, logvar = self.encoder(scale_levels(x, 2, self._weight.dtype)).chunk(2, dim=1)
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        """The pixels' logits [N, C, H, W] of latents z [N, Z]."""
        if z.dim() != 2 or z.shape[1] != self.latent_dim:
            raise fail("VAE", "z", f"shape [N, {self.latent_dim}]", list(z.shape))
        return self.decoder(z)

    def loss(
        self,
        x: Tensor,
        cond: None = None,
        *,
        eps: Tensor | None = None,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Minus the ELBO (with beta on its KL), a mean over the batch in nats, from one z per image.

        Args:
            x: levels [N, C, H, W].
            cond: always None, this model is unconditional.
            eps, seed, generator: the noise of z [N, Z], as in `pygen.functional.reparameterize_kl`.
        """
        _refuse_cond(cond)
        mu, logvar = self.encode(x)
        z, kl = reparameterize_kl(mu, logvar, eps=eps, seed=seed, generator=generator, reduction="batchmean")
        return self.beta * kl + bernoulli_nll(self.decode(z), _bits(x))

    def forward(self, x: Tensor, cond: None = None, **noise: Any) -> Tensor:
        """`loss`, under the name that wrappers such as DistributedDataParallel call."""
        return self.loss(x, cond, **noise)

    def elbo(
        self,
        x: Tensor,
        *,
        eps: Tensor | None = None,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The ELBO of each image, [N] nats, from one z each; its expectation is a lower bound of log p(x)."""
        mu, logvar = self.encode(x)
        z, kl = reparameterize_kl(mu, logvar, eps=eps, seed=seed, generator=generator, reduction="none")
        return -bernoulli_nll(self.decode(z), _bits(x), reduction="none") - kl

    def log_prob(
        self,
        x: Tensor,
        cond: None = None,
        *,
        num_samples: int = 500,
        eps: Tensor | None = None,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """log p(x), [N] nats, estimated by importance sampling (Burda et al., 2016): report K with it.

        The log-mean-exp of K = num_samples weights p(x, z) / q(z | x). Its expectation is a lower bound of log p(x)
        that rises with K to the exact value; K = 1 is the ELBO. Differentiable, which keeps every decoded image:
        use torch.no_grad() to evaluate.

        Args:
            x: levels [N, C, H, W].
            cond: always None, this model is unconditional.
            num_samples: K.
            eps, seed, generator: the noise of z [K, N, Z], as in `pygen.functional.reparameterize_kl`.
        """
        _refuse_cond(cond)
        (num_samples,) = _ints("num_samples", num_samples)
        mu, logvar = self.encode(x)
        z, _ = reparameterize_kl(
            mu, logvar, num_samples=num_samples, eps=eps, seed=seed, generator=generator, reduction="none"
        )
        log_weights, bits = [], _bits(x)
        for some_z in z.split(max(1, _ROWS_AT_ONCE // max(1, x.shape[0]))):  # [k, N, Z]
            logits = self.decode(some_z.flatten(0, 1))  # [k N, C, H, W]
            repeated = bits.expand(len(some_z), *bits.shape).flatten(0, 1)
            nll = bernoulli_nll(logits, repeated, reduction="none").unflatten(0, some_z.shape[:2])
            log_weights.append(_log_prior_over_posterior(some_z, mu, logvar) - nll)
        return torch.cat(log_weights).logsumexp(0) - math.log(num_samples)

    @torch.no_grad()
    def sample(self, n: int, *, seed: int | Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """n images drawn from the model: levels {0, 1}, uint8 [n, C, H, W].

        seed or generator (on the model's device) fixes them; with neither they follow torch.manual_seed.
        """
        (n,) = _ints("n", n, at_least=0)
        weight = self._weight
        source = noise_source("VAE", seed, generator, weight.device)
        z = torch.randn(n, self.latent_dim, dtype=weight.dtype, device=weight.device, generator=source)
        probabilities = torch.sigmoid(_at_least_float32(self.decode(z)))
        return torch.bernoulli(probabilities, generator=source).to(torch.uint8)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """The pixels' probabilities [N, C, H, W] decoded from the posterior mean of images x [N, C, H, W]."""
        mu, _ = self.encode(x)
        return torch.sigmoid(self.decode(mu))

    @property
    def _weight(self) -> Tensor:
        """Any parameter, for the model's dtype and device: next(parameters()) walks the modules and is slower."""
        return cast(nn.Linear, self.decoder[0]).weight


def _bits(x: Tensor) -> Tensor:
    """Levels that `encode` has looked at as bool, so that they are not looked at again; what it marked is NaN by now."""
    # A view of another dtype is free, and unknown to torch.jit and vmap.
    return x.view(torch.bool) if x.dtype == torch.uint8 and _dispatch.is_plain(x) else x.bool()


def _log_prior_over_posterior(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """log p(z) - log q(z | x), [K, N], of z [K, N, Z], mu and logvar [N, Z]; the constants cancel."""
    z, mu, logvar = _at_least_float32(z), _at_least_float32(mu), _at_least_float32(logvar)
    standardised = (z - mu) * torch.exp(-0.5 * logvar)
    return 0.5 * (standardised.square() + logvar - z.square()).sum(-1)


def _at_least_float32(t: Tensor) -> Tensor:
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t


def _ints(name: str, values: int | Sequence[int], at_least: int = 1) -> tuple[int, ...]:
    """One int or several (NumPy's too), each at least `at_least`, as a tuple."""
    values = values if isinstance(values, Sequence) else (values,)
    for value in values:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise fail(
                "VAE", name, "an int or a sequence of ints", f"{value!r} ({type(value).__name__})", kind=TypeError
            )
        if value < at_least:
            raise fail("VAE", name, f"numbers >= {at_least}", value)
    return tuple(operator.index(value) for value in values)


def _refuse_cond(cond: object) -> None:
    if cond is not None:
        raise fail("VAE", "cond", "None, as this model is unconditional", type(cond).__name__, kind=TypeError)
