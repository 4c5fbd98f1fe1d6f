"""discriminator_loss and generator_loss beside the lines people write for them: times, and errors against float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType

import torch
from torch import Tensor

from pygen import functional
from pygen.reference.models import gan as plain

from ._op_reparameterize_kl import largest_error


def workloads(n: int, device: torch.device) -> list[Callable[[], object]]:
    """Forward and backward of the non-saturating discriminator loss, plain PyTorch first, n logits a side."""
    real, fake = (t.requires_grad_() for t in _logits(n, device))

    def work(side: ModuleType) -> None:
        torch.autograd.grad(_losses(side, real, fake)[0], (real, fake))

    return [partial(work, side) for side in _SIDES]


def errors(n: int, device: torch.device) -> tuple[float, float]:
    """Largest error of both players' losses and gradients against float64, each over its largest value: (plain, pygen)."""
    truth = _results(plain, *_logits(n, device, torch.float64))
    theirs, ours = (largest_error(_results(side, *_logits(n, device)), truth) for side in _SIDES)
    return theirs, ours


_SIDES: tuple[ModuleType, ModuleType] = (plain, functional)


def _logits(n: int, device: torch.device, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [(3 * torch.randn(n, generator=generator)).to(device, dtype) for _ in range(2)]


def _losses(side: ModuleType, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Of the discriminator and of the generator."""
    if side is plain:
        return plain.discriminator_loss(real, fake, "nonsaturating", 0.0), plain.generator_loss(
            None, fake, "nonsaturating"
        )
    return functional.discriminator_loss(real=real, fake=fake), functional.generator_loss(fake=fake)


def _results(side: ModuleType, real: Tensor, fake: Tensor) -> list[Tensor]:
    real.requires_grad_()
    fake.requires_grad_()
    of_discriminator, of_generator = _losses(side, real, fake)
    grads = (*torch.autograd.grad(of_discriminator, (real, fake)), *torch.autograd.grad(of_generator, fake))
    return [of_discriminator.detach(), of_generator.detach(), *grads]
