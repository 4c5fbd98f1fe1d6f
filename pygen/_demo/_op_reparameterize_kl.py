"""reparameterize_kl beside the lines people write for it: the same work to time, and both errors against float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pygen.functional import reparameterize_kl

EPS = torch.finfo(torch.float32).eps


def plain_reparameterize_kl(mu: Tensor, logvar: Tensor, eps: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """z like mu [N, Z] and the batch's mean KL in nats, as people write them."""
    std = torch.exp(0.5 * logvar)
    z = mu + (torch.randn_like(std) if eps is None else eps) * std
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / mu.shape[0]
    return z, kl


def workloads(n: int, z: int, device: torch.device) -> list[Callable[[], object]]:
    """Forward and backward of both, plain PyTorch first, on the same inputs [n, z]."""
    mu, logvar, grad_z = _inputs(n, z, device)

    def work(function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        out, kl = function(mu, logvar)
        torch.autograd.grad((out, kl), (mu, logvar), (grad_z, torch.ones_like(kl)))

    return [lambda: work(plain_reparameterize_kl), lambda: work(reparameterize_kl)]


def errors(n: int, z: int, device: torch.device) -> tuple[float, float]:
    """Largest error of z, KL and both gradients against float64, each over its largest value: (plain, pygen)."""
    inputs = _inputs(n, z, device)
    wide = [t.detach().double().requires_grad_(t.requires_grad) for t in inputs]
    eps = torch.randn(n, z, generator=torch.Generator().manual_seed(1)).to(device)
    plain = _results(plain_reparameterize_kl, *inputs, eps=eps)
    plain_truth = _results(plain_reparameterize_kl, *wide, eps=eps.double())
    ours = _results(reparameterize_kl, *inputs, seed=1)
    our_truth = _results(reparameterize_kl, *wide, seed=1, backend="reference")
    return largest_error(plain, plain_truth), largest_error(ours, our_truth)


def _inputs(n: int, z: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mu, logvar, grad_z = (torch.randn(n, z, generator=generator).to(device) for _ in range(3))
    return mu.requires_grad_(), logvar.requires_grad_(), grad_z


def _results(function: Callable, mu: Tensor, logvar: Tensor, grad_z: Tensor, **noise: object) -> list[Tensor]:
    z, kl = function(mu, logvar, **noise)
    return [z, kl, *torch.autograd.grad((z, kl), (mu, logvar), (grad_z, torch.ones_like(kl)))]


def largest_error(got: list[Tensor], truth: list[Tensor]) -> float:
    return max(((g.double() - t).abs().max() / t.abs().max()).item() for g, t in zip(got, truth, strict=True))
