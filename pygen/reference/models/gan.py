"""The GAN as people usually write it in plain PyTorch: oracle and baseline of `pygen.models.GAN`.

Goodfellow et al., "Generative Adversarial Networks" (2014); Radford et al., DCGAN (2016). Same constructor, same
`state_dict`, same methods.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GAN(nn.Module):
    """DCGAN's two networks, binary cross entropies with targets, one Adam each.

    Args:
        image_shape: (C, H, W) of the images, floats in [-1, 1].
        latent_dim: Z.
        kind: of the losses.
        hidden: channels of the discriminator's convolutions; the generator mirrors them.
        generator_batch_norm, discriminator_batch_norm: batch norms in them.
        label_smoothing: the target of real images is 1 minus this.
        n_dis: discriminator steps for each generator step.
        penalty, gamma, penalty_every: "r1", "r2", "wgan_gp" or "dragan", its factor, and at which steps it is taken.
        ema_decay: of the generator's moving average.
        lr, betas: of both optimizers.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int,
        *,
        kind: str = "nonsaturating",
        hidden: int | Sequence[int] | None = None,
        generator_batch_norm: bool = True,
        discriminator_batch_norm: bool = False,
        label_smoothing: float = 0.0,
        n_dis: int = 1,
        penalty: str | None = None,
        gamma: float | None = None,
        penalty_every: int | None = None,
        ema_decay: float | None = 0.999,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
    ) -> None:
        super().__init__()
        self.image_shape, self.latent_dim, self.kind = tuple(image_shape), latent_dim, kind
        self.label_smoothing, self.n_dis, self.ema_decay = label_smoothing, n_dis, ema_decay
        self.penalty, self.gamma, self.penalty_every = penalty, 10.0 if gamma is None else gamma, penalty_every or 1
        if hidden is None:
            hidden = tuple(64 * 2**i for i in range(max(2, int(math.log2(min(image_shape[1:]))) - 2)))
        hidden = (hidden,) if isinstance(hidden, int) else tuple(hidden)
        self.generator = make_generator(self.image_shape, latent_dim, hidden, generator_batch_norm)
        self.discriminator = make_discriminator(self.image_shape, hidden, discriminator_batch_norm)
        self.generator_ema = None
        if ema_decay is not None:
            self.generator_ema = copy.deepcopy(self.generator).eval()
            set_requires_grad(self.generator_ema, False)
        self.discriminator_steps = self.generator_steps = 0
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=lr, betas=betas)
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), lr=lr, betas=betas)

    def forward(self, z: Tensor) -> Tensor:
        """Images of latents z [N, Z]."""
        return self.generator(z)

    def discriminator_step(
        self, x: Tensor, *, seed: int | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Loss, penalty if it is its turn, and the logits' means and accuracies on real and generated images."""
        generator = self._seeded(seed, generator)
        set_statistics(self.generator, False)
        with torch.no_grad():
            fakes = self.generator(self._latents(len(x), generator))
        set_statistics(self.generator, True)
        self.discriminator_optimizer.zero_grad()
        real = self.discriminator(x)
        fake = self.discriminator(fakes)
        loss = discriminator_loss(real, fake, self.kind, self.label_smoothing)
        penalty = None
        total = loss
        if self.penalty is not None and self.discriminator_steps % self.penalty_every == 0:
            penalty = gradient_penalty(self.discriminator, x, fakes, self.penalty, self.gamma, generator)
            total = loss + self.penalty_every * penalty
            penalty = penalty.detach()
        total.backward()
        self.discriminator_optimizer.step()
        self.discriminator_steps += 1
        return loss.detach(), penalty, statistics(real.detach(), fake.detach(), self.kind)

    def generator_step(
        self,
        n: int,
        *,
        real: Tensor | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Loss and the mean of the generated images' logits."""
        set_requires_grad(self.discriminator, False)
        set_statistics(self.discriminator, False)
        self.generator_optimizer.zero_grad()
        fake = self.discriminator(self.generator(self._latents(n, self._seeded(seed, generator))))
        loss = generator_loss(None if real is None else self.discriminator(real), fake, self.kind)
        loss.backward()
        self.generator_optimizer.step()
        set_statistics(self.discriminator, True)
        set_requires_grad(self.discriminator, True)
        if self.generator_ema is not None:
            decay = min(self.ema_decay, (1 + self.generator_steps) / (10 + self.generator_steps))
            with torch.no_grad():
                for average, p in zip(self.generator_ema.parameters(), self.generator.parameters(), strict=True):
                    average.mul_(decay).add_(p, alpha=1 - decay)
                for average, b in zip(self.generator_ema.buffers(), self.generator.buffers(), strict=True):
                    if b.is_floating_point():
                        average.mul_(decay).add_(b, alpha=1 - decay)
                    else:
                        average.copy_(b)
        self.generator_steps += 1
        return loss.detach(), fake.detach().mean()

    def step(
        self, x: Tensor, *, seed: int | None = None, generator: torch.Generator | None = None
    ) -> tuple[tuple, tuple[Tensor, Tensor] | None]:
        """A discriminator step and, after every n_dis-th, a generator step."""
        generator = self._seeded(seed, generator)
        of_discriminator = self.discriminator_step(x, generator=generator)
        if self.discriminator_steps % self.n_dis != 0:
            return of_discriminator, None
        real = x if self.kind.startswith("relativistic") else None
        return of_discriminator, self.generator_step(len(x), real=real, generator=generator)

    @torch.no_grad()
    def sample(self, n: int, *, seed: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """n images of the averaged generator, floats in [-1, 1]."""
        network = self.generator if self.generator_ema is None else self.generator_ema
        was_training = network.training
        network.eval()
        images = network(self._latents(n, self._seeded(seed, generator)))
        network.train(was_training)
        return images

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.discriminator_steps, self.generator_steps])

    def set_extra_state(self, state: Tensor) -> None:
        self.discriminator_steps, self.generator_steps = state.tolist()

    def _latents(self, n: int, generator: torch.Generator | None) -> Tensor:
        weight = next(self.generator.parameters())
        return torch.randn(n, self.latent_dim, dtype=weight.dtype, device=weight.device, generator=generator)

    def _seeded(self, seed: int | None, generator: torch.Generator | None) -> torch.Generator | None:
        device = next(self.generator.parameters()).device
        return generator if seed is None else torch.Generator(device).manual_seed(seed)


def set_requires_grad(network: nn.Module, flag: bool) -> None:
    for parameter in network.parameters():
        parameter.requires_grad = flag


def set_statistics(network: nn.Module, flag: bool) -> None:
    """Whether batch norms update their running statistics."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = flag


def discriminator_loss(real: Tensor, fake: Tensor, kind: str, label_smoothing: float) -> Tensor:
    if kind in ("minimax", "nonsaturating"):
        target = torch.full_like(real, 1 - label_smoothing)
        on_real = F.binary_cross_entropy_with_logits(real, target)
        return on_real + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    if kind == "least_squares":
        return F.mse_loss(real, torch.full_like(real, 1 - label_smoothing)) + F.mse_loss(fake, torch.zeros_like(fake))
    if kind == "wasserstein":
        return fake.mean() - real.mean()
    if kind == "relativistic":
        return F.softplus(fake - real).mean()
    return F.softplus(fake.mean() - real).mean() + F.softplus(fake - real.mean()).mean()


def generator_loss(real: Tensor | None, fake: Tensor, kind: str) -> Tensor:
    if kind == "minimax":
        return -F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    if kind == "nonsaturating":
        return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))
    if kind in ("hinge", "wasserstein"):
        return -fake.mean()
    if kind == "least_squares":
        return F.mse_loss(fake, torch.ones_like(fake))
    if kind == "relativistic":
        return F.softplus(real - fake).mean()
    return F.softplus(real.mean() - fake).mean() + F.softplus(real - fake.mean()).mean()


def gradient_penalty(
    discriminator: nn.Module, real: Tensor, fake: Tensor, kind: str, gamma: float, generator: torch.Generator | None
) -> Tensor:
    x = {"r1": real, "r2": fake}.get(kind)
    if x is None:
        u = torch.rand(len(real), 1, 1, 1, dtype=real.dtype, device=real.device, generator=generator)
        if kind == "wgan_gp":
            x = u * real + (1 - u) * fake
        else:
            v = torch.rand(real.shape, dtype=real.dtype, device=real.device, generator=generator)
            x = real + 0.5 * real.std() * u * v
    x = x.detach().requires_grad_(True)
    (grad,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    if kind in ("r1", "r2"):
        return 0.5 * gamma * grad.pow(2).flatten(1).sum(1).mean()
    return gamma * (grad.flatten(1).norm(2, dim=1) - 1).pow(2).mean()


def statistics(real: Tensor, fake: Tensor, kind: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means of the logits, and how many of them are on the right side."""
    r, f = real, fake
    if kind == "relativistic":
        right = (r > f).to(r.dtype).mean()
        return r.mean(), f.mean(), right, right
    if kind == "relativistic_average":
        r, f = real - fake.mean(), fake - real.mean()
    border = 0.5 if kind == "least_squares" else 0.0
    return real.mean(), fake.mean(), (r > border).to(r.dtype).mean(), (f < border).to(f.dtype).mean()


def make_discriminator(shape: tuple[int, ...], hidden: tuple[int, ...], batch_norm: bool) -> nn.Sequential:
    """Images to logits [N]."""
    channels, height, width = shape
    layers: list[nn.Module] = []
    for i, width_out in enumerate(hidden):
        if batch_norm and i > 0:
            layers += [nn.Conv2d(channels, width_out, 4, 2, 1, bias=False), nn.BatchNorm2d(width_out)]
        else:
            layers += [nn.Conv2d(channels, width_out, 4, 2, 1)]
        layers += [nn.LeakyReLU(0.2)]
        channels, height, width = width_out, height // 2, width // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, 1), nn.Flatten(0))


def make_generator(shape: tuple[int, ...], latent_dim: int, hidden: tuple[int, ...], batch_norm: bool) -> nn.Sequential:
    """Latents [N, Z] to images in [-1, 1]."""
    heights, widths = [shape[1]], [shape[2]]
    for _ in hidden:
        heights.append(heights[-1] // 2)
        widths.append(widths[-1] // 2)
    first = (hidden[-1], heights[-1], widths[-1])
    layers: list[nn.Module] = [nn.Linear(latent_dim, math.prod(first), bias=not batch_norm), nn.Unflatten(1, first)]
    for i in reversed(range(len(hidden))):
        if batch_norm:
            layers += [nn.BatchNorm2d(hidden[i])]
        layers += [nn.ReLU()]
        last = i == 0
        padding = (heights[i] % 2, widths[i] % 2)
        out = shape[0] if last else hidden[i - 1]
        bias = last or not batch_norm
        layers += [nn.ConvTranspose2d(hidden[i], out, 4, 2, 1, output_padding=padding, bias=bias)]
    return nn.Sequential(*layers, nn.Tanh())
