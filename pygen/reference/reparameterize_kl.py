"""reparameterize_kl and gaussian_kl in plain PyTorch (Kingma and Welling 2014, appendix B; nats).

    z  = mu + exp(logvar / 2) eps
    kl = (expm1(d) - d + ((mu - prior_mu) exp(-prior_logvar / 2))^2) / 2,   d = logvar - prior_logvar

`forward` differentiates by autograd; `backward` is the closed form, itself differentiable, so it serves second order.
Both compute in float32 (float64 for float64 inputs) and round once.
"""

import math

import torch
from torch import Tensor

from pygen.reference import noise
from pygen.reference._layout import is_channels_last

NOISE_DOMAIN = 0


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _largest(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).max


def _log_variance_ratio(logvar: Tensor, prior_logvar: Tensor | None) -> Tensor:
    return logvar if prior_logvar is None else logvar - prior_logvar


def _scaled_difference(
    mu: Tensor, prior_mu: Tensor | None, prior_logvar: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """((mu - prior_mu) / prior sigma, 1 / prior sigma). The scale stays finite, so that equal means give exactly 0."""
    if prior_mu is None or prior_logvar is None:
        return mu, None
    most = math.log(_largest(mu.dtype)) * (1 - 2 * torch.finfo(mu.dtype).eps)  # its exp is finite however it is rounded
    scale = torch.exp((-0.5 * prior_logvar).clamp(max=most))
    return (mu - prior_mu) * scale, scale


def kl_elements(mu: Tensor, logvar: Tensor, prior_mu: Tensor | None, prior_logvar: Tensor | None) -> Tensor:
    """KL of each element, before free bits. +inf at logvar = -inf and +inf."""
    d = _log_variance_ratio(logvar, prior_logvar)
    scaled, _ = _scaled_difference(mu, prior_mu, prior_logvar)
    return 0.5 * (torch.expm1(d) - d.clamp(max=_largest(d.dtype)) + scaled.square())


def _floor(free_bits: float, dtype: torch.dtype) -> float:
    """free_bits as a number of that dtype: torch refuses one that it cannot hold."""
    return free_bits if free_bits <= _largest(dtype) else math.inf


def reduce_kl(kl: Tensor, reduction: str) -> Tensor:
    """kl [N, ...] -> [N] or a scalar."""
    if reduction == "none":
        return kl.sum(dim=tuple(range(1, kl.dim()))) if kl.dim() > 1 else kl
    return kl.sum() / kl.shape[0] if reduction == "batchmean" else kl.sum()


def draw(mu: Tensor, eps: Tensor | None, seed: Tensor | None, num_samples: int | None) -> Tensor:
    """The noise in compute dtype: the caller's, or that of the seed. [N, ...] or [K, N, ...]."""
    wide = compute_dtype(mu.dtype)
    if eps is not None:
        return eps.to(wide)
    assert seed is not None
    return noise.normal(tuple(mu.shape), seed, num_samples, NOISE_DOMAIN, wide)


def forward(
    mu: Tensor,  # [N, ...]
    logvar: Tensor,  # broadcasts to mu, as the next two
    prior_mu: Tensor | None,
    prior_logvar: Tensor | None,
    eps: Tensor | None,  # [N, ...] or [K, N, ...]
    seed: Tensor | None,  # []
    num_samples: int | None,
    free_bits: float,
    reduction: str,
    sample: bool,
) -> tuple[Tensor | None, Tensor]:
    """(z, kl); z is None without `sample`."""
    wide = compute_dtype(mu.dtype)
    m, lv = mu.to(wide), logvar.to(wide).expand(mu.shape)
    pm = None if prior_mu is None else prior_mu.to(wide)
    plv = None if prior_logvar is None else prior_logvar.to(wide)
    kl = kl_elements(m, lv, pm, plv)
    if free_bits > 0:
        kl = kl.clamp(min=_floor(free_bits, wide))
    kl = reduce_kl(kl, reduction)
    if not sample:
        return None, kl
    z = m + torch.exp(0.5 * lv) * draw(mu, eps, seed, num_samples)
    return _laid_out(z.to(mu.dtype), mu), kl


def _laid_out(z: Tensor, mu: Tensor) -> Tensor:
    """Each sample channels_last iff mu is (and is not plainly contiguous too), else contiguous."""
    if not is_channels_last(mu):
        return z.contiguous()
    return z.movedim(-3, -1).contiguous().movedim(-1, -3)


def _sum_to(grad: Tensor, like: Tensor | None) -> Tensor | None:
    return None if like is None else grad.sum_to_size(like.shape).to(like.dtype)


def backward(
    grad_z: Tensor | None,  # [N, ...] or [K, N, ...]
    grad_kl: Tensor | None,  # [N] or []
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor | None,
    prior_logvar: Tensor | None,
    eps: Tensor | None,
    seed: Tensor | None,
    num_samples: int | None,
    free_bits: float,
    reduction: str,
    needs: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Gradients of mu, logvar, prior_mu, prior_logvar; None where needs is False."""
    wide = compute_dtype(mu.dtype)
    m, lv = mu.to(wide), logvar.to(wide).expand(mu.shape)
    pm = None if prior_mu is None else prior_mu.to(wide)
    plv = None if prior_logvar is None else prior_logvar.to(wide)
    grads = [torch.zeros(mu.shape, dtype=wide, device=mu.device) for _ in range(4)]
    if grad_kl is not None:
        scaled, scale = _scaled_difference(m, pm, plv)
        em1 = torch.expm1(_log_variance_ratio(lv, plv))
        grad_mu = scaled if scale is None else scaled * scale
        terms = [grad_mu, 0.5 * em1, -grad_mu, -0.5 * (em1 + scaled.square())]
        if free_bits > 0:
            clamped = kl_elements(m, lv, pm, plv) <= _floor(free_bits, wide)
            terms = [torch.where(clamped, 0.0, t) for t in terms]
        g = grad_kl / mu.shape[0] if reduction == "batchmean" else grad_kl
        if reduction == "none":
            g = g.reshape(-1, *[1] * (mu.dim() - 1))
        grads = [g * t for t in terms]
    if grad_z is not None:
        gz = grad_z.to(wide)
        weighted = gz * draw(mu, eps, seed, num_samples)
        if num_samples is not None:
            gz, weighted = gz.sum(0), weighted.sum(0)
        grads[0] = grads[0] + gz
        grads[1] = grads[1] + 0.5 * torch.exp(0.5 * lv) * weighted
    inputs = (mu, logvar, prior_mu, prior_logvar)
    return tuple(_sum_to(g, t) if n else None for g, t, n in zip(grads, inputs, needs, strict=True))
