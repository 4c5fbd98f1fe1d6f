"""Generative adversarial networks (Goodfellow et al., 2014) with every loss of `pygen.functional.discriminator_loss`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from pygen._checks import fail, without_autocast
from pygen._gan_terms import RELATIVISTIC
from pygen.functional import GanStats, discriminator_loss, generator_loss, gradient_penalty
from pygen.ops._gan_checks import check_options, check_players

from ._arguments import check_int, check_ints, noise_source
from ._checkpoint import Recorded
from ._dcgan import dcgan, default_hidden
from ._gan_arguments import check_images, check_penalty, check_rates
from ._players import Average, couples_samples, evaluating, frozen


class DiscriminatorStep(NamedTuple):
    """What a discriminator step gives to log: 0-dim tensors on the model's device, without a gradient."""

    loss: Tensor  # without the penalty
    penalty: Tensor | None  # its mean over the samples; None at steps that do not take it
    stats: GanStats  # real_mean, fake_mean (of the logits D(x), D(G(z))), real_accuracy, fake_accuracy


class GeneratorStep(NamedTuple):
    """What a generator step gives to log, likewise."""

    loss: Tensor
    fake_mean: Tensor  # of the logits D(G(z)), after the discriminator's last update


class GAN(Recorded):
    """A generator G and a discriminator D of images, in the manner of DCGAN, and the steps that train them.

    Images are floats in [-1, 1], [N, C, H, W], in the model's dtype: levels x of 0 .. L - 1 become 2 x / (L - 1) - 1. A
    step is complete: losses, backward, update. It returns tensors and never waits for a GPU.

    While one player learns the other is frozen: it takes no gradient, and its batch norms use the batch they see but
    keep their running statistics. The optimizers are made at their first use, Adam with `lr` and `betas`; assign to
    `discriminator_optimizer` and `generator_optimizer` to have others. As everywhere in PyTorch they are not in the
    model's `state_dict`; the averaged generator and the number of steps are. Under autocast take bfloat16: no loss is
    scaled, as float16 would need. The twin is `pygen.reference.models.GAN`: same keys, same methods.

    Args:
        image_shape: (C, H, W) of the images.
        latent_dim: Z, the number of latents, standard normal.
        kind: of both losses, see `pygen.functional.discriminator_loss`.
        hidden: channels of the discriminator's convolutions in order, each of which halves the image; the generator mirrors
            them. One int is one layer. None means 64, 128, ..., as many as bring the shorter side to 4 .. 7, at least two.
        generator_batch_norm: batch norm in the generator.
        discriminator_batch_norm: batch norm in the discriminator, as in DCGAN; not together with a penalty, as it makes
            samples depend on each other (real and generated images are then two batches).
        label_smoothing: of the discriminator's real targets, as in `discriminator_loss`.
        n_dis: discriminator steps for each generator step, of `step`.
        penalty: "r1", "r2", "wgan_gp" or "dragan", see `pygen.functional.gradient_penalty`; None for none.
        gamma: its factor, gamma / 2 times the squared norm for r1 and r2; None means 10, as in the papers.
        penalty_every: the penalty is taken at the first of so many discriminator steps and then counts so many times (Karras
            et al., 2020); None means 1.
        ema_decay: of the generator's moving average, from which `sample` draws: after t generator steps the next moves it
            by 1 - min(ema_decay, (1 + t) / (10 + t)) of the way. Running statistics are averaged too. None for no average.
        lr, betas: of both Adams.

    Example:
        >>> gan = pygen.models.GAN((1, 8, 8), 4, hidden=8, penalty="r1", penalty_every=16)
        >>> for x in torch.rand(2, 16, 1, 8, 8) * 2 - 1:  # a loader's batches
        ...     of_discriminator, of_generator = gan.step(x)  # or gan.discriminator_step(x), gan.generator_step(len(x))
        >>> of_discriminator.loss.shape, gan.sample(4).shape
        (torch.Size([]), torch.Size([4, 1, 8, 8]))
    """

    generator_ema: Average | None

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
        shape = check_ints("GAN", "image_shape", image_shape)
        if len(shape) != 3:
            raise fail("GAN", "image_shape", "(C, H, W)", shape)
        self.image_shape = (shape[0], shape[1], shape[2])
        self.latent_dim = check_int("GAN", "latent_dim", latent_dim)
        check_options("GAN", kind, label_smoothing, 1.0, "mean")
        self.kind, self.label_smoothing = kind, float(label_smoothing)
        self.n_dis = check_int("GAN", "n_dis", n_dis)
        self.penalty, self.gamma, self.penalty_every = check_penalty(
            penalty, gamma, penalty_every, discriminator_batch_norm
        )
        self.ema_decay, self.lr, self.betas = check_rates(ema_decay, lr, betas)
        widths = default_hidden(self.image_shape) if hidden is None else check_ints("GAN", "hidden", hidden)
        if not widths:
            raise fail("GAN", "hidden", "at least one width", "none")
        self.generator, self.discriminator = dcgan(
            self.image_shape,
            self.latent_dim,
            widths,
            generator_batch_norm=generator_batch_norm,
            discriminator_batch_norm=discriminator_batch_norm,
        )
        height, width = cast(nn.Unflatten, self.generator[1]).unflattened_size[
            1:
        ]  # now, as players may be compiled later
        self._least_pixels = height * width
        self.generator_ema = None if ema_decay is None else Average.of(self.generator)
        self.discriminator_steps = self.generator_steps = 0
        self._optimizers: dict[str, Optimizer] = {}

    def forward(self, z: Tensor) -> Tensor:
        """The generator's images [N, C, H, W] of latents z [N, Z]."""
        if z.dim() != 2 or z.shape[1] != self.latent_dim:
            raise fail("GAN", "z", f"shape [N, {self.latent_dim}]", list(z.shape))
        return self.generator(z)

    @torch.enable_grad()
    def discriminator_step(
        self, x: Tensor, *, seed: int | Tensor | None = None, generator: torch.Generator | None = None
    ) -> DiscriminatorStep:
        """One update of the discriminator: D(x) up, D(G(z)) down, as many z as x, G frozen.

        Args:
            x: real images [N, C, H, W].
            seed, generator: of z and of the penalty's noise (generator on the model's device); with neither they follow
                torch.manual_seed.
        """
        check_images("x", x, self.image_shape, self._weight)
        self._check_statistics("x", len(x))
        source = noise_source("GAN", seed, generator, self._weight.device)
        x = x.detach()
        with frozen(self.generator):
            fakes = self.generator(self._latents(len(x), source)).to(x.dtype)
        if couples_samples(self.discriminator):
            real, fake = self.discriminator(x), self.discriminator(fakes)
        else:
            real, fake = self.discriminator(torch.cat((x, fakes))).split(len(x))
        loss, stats = discriminator_loss(
            real=real, fake=fake, kind=self.kind, label_smoothing=self.label_smoothing, return_stats=True
        )
        penalty = self._penalty_of(x, fakes, source)
        self._update("discriminator", loss if penalty is None else loss + self.penalty_every * penalty)
        self.discriminator_steps += 1
        return DiscriminatorStep(loss.detach(), None if penalty is None else penalty.detach(), stats)

    @torch.enable_grad()
    def generator_step(
        self,
        n: int,
        *,
        real: Tensor | None = None,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> GeneratorStep:
        """One update of the generator: D(G(z)) up for n fresh z, D frozen; then of the generator's average.

        Args:
            n: the number of latents.
            real: images [N, C, H, W] that the relativistic kinds compare with (n of them for "relativistic"); else None.
            seed, generator: of z, as in `discriminator_step`.
        """
        n = check_int("GAN", "n", n)
        self._check_statistics("n", n)
        check_players("GAN", self.kind, real)
        if real is not None:
            check_images("real", real, self.image_shape, self._weight)
            if self.kind == "relativistic" and len(real) != n:
                raise fail("GAN", "real", f"{n} images, as n, which they are compared with in pairs", len(real))
            self._check_statistics("real", len(real))
        source = noise_source("GAN", seed, generator, self._weight.device)
        fakes = self.generator(self._latents(n, source))
        with frozen(self.discriminator):
            fake = self.discriminator(fakes)
            compared = None if real is None else self.discriminator(real.detach())
        loss = generator_loss(fake=fake, real=compared, kind=self.kind)
        self._update("generator", loss)
        if self.generator_ema is not None:
            assert self.ema_decay is not None
            t = self.generator_steps
            self.generator_ema.update(self.generator, min(self.ema_decay, (1 + t) / (10 + t)))
        self.generator_steps += 1
        return GeneratorStep(loss.detach(), fake.detach().mean())

    def step(
        self, x: Tensor, *, seed: int | Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[DiscriminatorStep, GeneratorStep | None]:
        """`discriminator_step(x)`, and after every n_dis-th of them a `generator_step` of as many images; else None."""
        source = noise_source("GAN", seed, generator, self._weight.device)
        of_discriminator = self.discriminator_step(x, generator=source)
        if self.discriminator_steps % self.n_dis:
            return of_discriminator, None
        real = x if self.kind in RELATIVISTIC else None
        return of_discriminator, self.generator_step(len(x), real=real, generator=source)

    @torch.no_grad()
    def sample(self, n: int, *, seed: int | Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """n images in [-1, 1], [n, C, H, W], from the averaged generator (the generator where there is no average).

        Batch norms use their running statistics, whatever mode the model is in. seed or generator (on the model's device)
        fixes the images; with neither they follow torch.manual_seed.
        """
        n = check_int("GAN", "n", n, at_least=0)
        source = noise_source("GAN", seed, generator, self._weight.device)
        network = self.generator if self.generator_ema is None else self.generator_ema
        z = self._latents(n, source)
        with evaluating(network):
            return network(z.to(next(network.parameters()).dtype)).to(z.dtype)

    @property
    def discriminator_optimizer(self) -> Optimizer:
        return self._optimizer("discriminator")

    @discriminator_optimizer.setter
    def discriminator_optimizer(self, optimizer: Optimizer) -> None:
        self._optimizers["discriminator"] = optimizer

    @property
    def generator_optimizer(self) -> Optimizer:
        return self._optimizer("generator")

    @generator_optimizer.setter
    def generator_optimizer(self, optimizer: Optimizer) -> None:
        self._optimizers["generator"] = optimizer

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.discriminator_steps, self.generator_steps], device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        self.discriminator_steps, self.generator_steps = state.tolist()

    def extra_repr(self) -> str:
        penalty = f", penalty={self.penalty!r}, gamma={self.gamma}, penalty_every={self.penalty_every}"
        return f"kind={self.kind!r}, n_dis={self.n_dis}, ema_decay={self.ema_decay}{penalty if self.penalty else ''}"

    @property
    def _weight(self) -> Tensor:
        """A parameter, for the model's dtype and device."""
        return next(self.generator.parameters())

    def _latents(self, n: int, source: torch.Generator | None) -> Tensor:
        weight = self._weight
        return torch.randn(n, self.latent_dim, dtype=weight.dtype, device=weight.device, generator=source)

    def _penalty_of(self, x: Tensor, fakes: Tensor, source: torch.Generator | None) -> Tensor | None:
        if self.penalty is None or self.discriminator_steps % self.penalty_every:
            return None
        samples: dict[str, Any] = {"r1": {"real": x}, "r2": {"fake": fakes}, "dragan": {"real": x}}
        which = samples.get(self.penalty, {"real": x, "fake": fakes})
        return gradient_penalty(self.discriminator, **which, kind=self.penalty, gamma=self.gamma, generator=source)

    def _update(self, player: str, loss: Tensor) -> None:
        optimizer = self._optimizer(player)
        optimizer.zero_grad()
        with without_autocast(loss):  # backward runs in the dtypes of the forward
            loss.backward()
        optimizer.step()

    def _optimizer(self, player: str) -> Optimizer:
        if player not in self._optimizers:
            parameters = getattr(self, player).parameters()
            self._optimizers[player] = Adam(parameters, self.lr, betas=self.betas, fused=True)
        return self._optimizers[player]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Moves and casts what the optimizers remember, too."""
        super()._apply(fn, recurse)
        for optimizer in self._optimizers.values():
            optimizer.load_state_dict(optimizer.state_dict())
        return self

    def _check_statistics(self, argument: str, n: int) -> None:
        """A batch norm that trains needs two values of a channel."""
        if n * self._least_pixels > 1 or not self.training:
            return
        if couples_samples(self.generator) or couples_samples(self.discriminator):
            raise fail("GAN", argument, "at least 2 images for the batch norms of layers of 1x1 pixels", n)
