"""Modules over reparameterize_kl."""

import torch
from torch import Generator, Tensor, nn

from pygen import _dispatch
from pygen._checks import check_reduction, check_size
from pygen.functional import gaussian_kl, reparameterize_kl
from pygen.ops.reparameterize_kl import check_free_bits


class ReparameterizeKL(nn.Module):
    """Draws a VAE's latents and computes their KL, in nats: (mu, logvar) -> (z, kl). No parameters.

    See pygen.functional.reparameterize_kl.

    Args:
        free_bits: nats per latent element that count at least.
        reduction: "batchmean", "sum" or "none".
        backend: as in the function.

    Example:
        >>> layer = pygen.nn.ReparameterizeKL()
        >>> z, kl = layer(torch.randn(4, 16), torch.randn(4, 16))
        >>> z.shape, kl.shape
        (torch.Size([4, 16]), torch.Size([]))
    """

    def __init__(self, *, free_bits: float = 0.0, reduction: str = "batchmean", backend: str | None = None) -> None:
        super().__init__()
        check_free_bits("ReparameterizeKL", free_bits)
        check_reduction("ReparameterizeKL", reduction)
        self.free_bits, self.reduction = free_bits, reduction
        self.backend = _dispatch.checked("ReparameterizeKL", backend)

    def forward(
        self,
        mu: Tensor,  # [N, ...]
        logvar: Tensor,
        prior_mu: Tensor | None = None,
        prior_logvar: Tensor | None = None,
        *,
        num_samples: int | None = None,
        seed: int | Tensor | None = None,
        generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        return reparameterize_kl(
            mu,
            logvar,
            prior_mu=prior_mu,
            prior_logvar=prior_logvar,
            num_samples=num_samples,
            seed=seed,
            generator=generator,
            free_bits=self.free_bits,
            reduction=self.reduction,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        return f"free_bits={self.free_bits}, reduction={self.reduction!r}"


class DiagonalGaussian(nn.Module):
    """The last layer of a VAE's encoder: features [N, D] -> (z [N, latent_dim], kl), the KL in nats.

    One linear map gives mu | logvar. The prior is standard normal. See pygen.functional.reparameterize_kl.

    Args:
        in_features: D.
        latent_dim: the size of mu and of logvar.
        free_bits, reduction, backend: as ReparameterizeKL.

    Example:
        >>> layer = pygen.nn.DiagonalGaussian(32, 8)
        >>> z, kl = layer(torch.randn(4, 32))
        >>> z.shape, kl.shape
        (torch.Size([4, 8]), torch.Size([]))
    """

    def __init__(
        self,
        in_features: int,
        latent_dim: int,
        *,
        free_bits: float = 0.0,
        reduction: str = "batchmean",
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("in_features", in_features), ("latent_dim", latent_dim)):
            check_size("DiagonalGaussian", name, value)
        _dispatch.checked("DiagonalGaussian", backend)
        self.linear = nn.Linear(in_features, 2 * latent_dim, device=device, dtype=dtype)
        self.reparameterize = ReparameterizeKL(free_bits=free_bits, reduction=reduction, backend=backend)

    def parameters_of(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """mu and logvar, [N, latent_dim] each."""
        mu, logvar = self.linear(features).chunk(2, dim=-1)
        return mu, logvar

    def forward(
        self,
        features: Tensor,  # [N, in_features]
        *,
        num_samples: int | None = None,
        seed: int | Tensor | None = None,
        generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        parameters = self.parameters_of(features)
        return self.reparameterize(*parameters, num_samples=num_samples, seed=seed, generator=generator)

    def kl(self, features: Tensor) -> Tensor:
        """The KL to the standard normal alone, without drawing."""
        return gaussian_kl(
            *self.parameters_of(features), reduction=self.reparameterize.reduction, backend=self.reparameterize.backend
        )
