"""What the flows have in common: a density by the change of variables, its prior, and images of levels made continuous."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from pygen._checks import check_floating, check_tensor, fail
from pygen.functional import bernoulli_nll, gaussian_kl

from ._arguments import check_int, noise_source
from ._levels import check_levels, free_to_look_at, no_levels
from ._pixel_model import ShapeMemory

PRIORS = ("logistic", "normal")


class Flow(ShapeMemory):
    """log p(x) = log prior(z) + log |det dz/dx|, z = transform(x). A subclass defines `_transform` and `_inverse`, on [N, ...].

    Without num_levels x is continuous: real numbers of the model's dtype, and log_prob their density. With it x is levels
    0 .. num_levels - 1, uint8 or int64, as of the pixel models: the flow's data is 2 (x + u) / num_levels - 1 with u drawn
    uniformly from [0, 1), and log_prob, which counts the change of scale, is of one draw of u: a lower bound of log P(x) on
    average (Theis, van den Oord and Bethge 2016, section 3.1).

    A subclass that takes conditions sets cond_features, and its two methods have cond [N, cond_features] as a last argument.
    """

    cond_features: int | None = None

    def __init__(self, prior: object, num_levels: object) -> None:
        super().__init__()
        if not isinstance(prior, str) or prior not in PRIORS:
            raise fail(self._name, "prior", "'logistic' or 'normal'", repr(prior))
        self.prior = prior
        self.num_levels = None if num_levels is None else check_int(self._name, "num_levels", num_levels, at_least=2)

    def _transform(self, x: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _inverse(self, z: Tensor, shape: tuple[int, ...], *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _check_shape(self, x: Tensor) -> None:
        """Of x [N, ...]."""
        raise NotImplementedError

    def _sample_shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    @property
    def _weight(self) -> Tensor:
        return next(self.parameters())

    @property
    def _name(self) -> str:
        return type(self).__name__

    def transform(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z [N, D] of continuous data x [N, ...], and log |det dz/dx| [N] in nats; cond as in `log_prob`."""
        self._check_continuous(x)
        return self._transform(x, *self._given(cond, x.shape[0]))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The data x [N, ...] that `transform` makes z [N, D] of, and log |det dx/dz| [N]; the shape as in `sample`."""
        check_tensor(self._name, "z", z)
        shape = self._sample_shape()
        if z.dim() != 2 or z.shape[1] != math.prod(shape):
            raise fail(self._name, "z", f"shape [N, {math.prod(shape)}]", list(z.shape))
        return self._inverse(z, shape, *self._given(cond, z.shape[0]))

    def log_prob(
        self,
        x: Tensor,
        cond: Tensor | None = None,
        *,
        seed: int | Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """log p(x), [N] nats: exact of continuous x; of levels the bound of one draw.

        Args:
            x: [N, ...], continuous, or levels where the model has num_levels.
            cond: floating [N, cond_features] where the model has them, else None.
            seed, generator: of the draw that makes levels continuous, with torch's own generator; refused without num_levels.
        """
        given = self._given(cond, x.shape[0] if isinstance(x, Tensor) and x.dim() else None)
        x, log_scale = self._continuous(x, seed, generator)
        z, log_det = self._transform(x, *given)
        return log_det + self._log_prior(z) + log_scale

    def loss(
        self,
        x: Tensor,
        cond: Tensor | None = None,
        *,
        seed: int | Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Minus the batch's mean of log_prob(x), in nats."""
        loss = -self.log_prob(x, cond, seed=seed, generator=generator).mean()
        if self.training:
            self.trained_shape = tuple(x.shape[1:])
        return loss

    def forward(self, x: Tensor, cond: Tensor | None = None, **noise: Tensor | Generator | int | None) -> Tensor:
        """`loss`, under the name that wrappers such as DistributedDataParallel call."""
        return self.loss(x, cond, **noise)  # type: ignore[arg-type]

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        cond: Tensor | None = None,
        temperature: float = 1.0,
        seed: int | Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """n draws: continuous [n, ...], or with num_levels levels (uint8, int64 beyond 256), of the last training batch's shape.

        Args:
            n: how many.
            cond: [n, cond_features] where the model has them, else None.
            temperature: what the prior's draws are multiplied by; 0 gives the data of z = 0.
            seed, generator: of the draws, made by torch's own generator on the model's device; with neither they follow
                torch.manual_seed.
        """
        n = check_int(self._name, "n", n, at_least=0)
        if (
            isinstance(temperature, bool)
            or not isinstance(temperature, (int, float))
            or not 0 <= temperature < math.inf
        ):
            raise fail(self._name, "temperature", "a finite number >= 0", repr(temperature))
        weight, shape = self._weight, self._sample_shape()
        given = tuple(t.to(weight.dtype) for t in self._given(cond, n))
        source = noise_source(self._name, seed, generator, weight.device)
        size = (n, math.prod(shape))
        if self.prior == "normal":
            z = torch.randn(size, dtype=torch.float64, device=weight.device, generator=source)
        else:
            u = torch.rand(size, dtype=torch.float64, device=weight.device, generator=source).clamp_(min=2.0**-54)
            z = u.log() - torch.log1p(-u)
        x, _ = self._inverse((z * temperature).to(weight.dtype), shape, *given)
        if self.num_levels is None:
            return x
        levels = ((x + 1) * (self.num_levels / 2)).floor_().clamp_(0, self.num_levels - 1)
        return levels.to(torch.uint8 if self.num_levels <= 256 else torch.int64)

    def _log_prior(self, z: Tensor) -> Tensor:
        """[N]: each by a pass of a kernel that makes it up of what it has.

        logistic: -softplus(z) - softplus(-z), twice the log-likelihood of one half by the logit z; normal: -(z^2 + log 2 pi) / 2,
        the square being the KL of N(z, 1) and the prior.
        """
        if self.prior == "logistic":
            return -2 * bernoulli_nll(z, z.new_full((), 0.5).expand(z.shape), reduction="none")
        return -gaussian_kl(z, z.new_zeros(()), reduction="none") - z.shape[1] * (0.5 * math.log(2 * math.pi))

    def _continuous(self, x: Tensor, seed: int | Tensor | None, generator: Generator | None) -> tuple[Tensor, float]:
        """The flow's data, and the logarithm of its change of scale."""
        if self.num_levels is None:
            if seed is not None or generator is not None:
                name = "generator" if seed is None else "seed"
                raise fail(
                    self._name, name, "None, as nothing is drawn without num_levels", type(generator or seed).__name__
                )
            self._check_continuous(x)
            return x, 0.0
        check_tensor(self._name, "x", x)
        self._check_shape(x)
        check_levels(self._name, x, self.num_levels, x.shape[1:])
        weight = self._weight
        source = noise_source(self._name, seed, generator, weight.device)
        if source is None:
            u = torch.rand_like(
                x, dtype=weight.dtype, memory_format=torch.contiguous_format
            )  # also of a size unknown as yet
        else:
            u = torch.rand(x.shape, dtype=weight.dtype, device=weight.device, generator=source)
        data = (x + u).mul_(2 / self.num_levels).sub_(1)
        if not free_to_look_at(x):  # as in scale_levels
            data.masked_fill_(no_levels(x, self.num_levels), float("nan"))
        return data, math.log(2 / self.num_levels) * math.prod(x.shape[1:])

    def _check_continuous(self, x: Tensor) -> None:
        check_tensor(self._name, "x", x)
        check_floating(self._name, "x", x)
        self._check_shape(x)

    def _given(self, cond: object, n: int | None) -> tuple[Tensor, ...]:
        """What `_transform` and `_inverse` take of it. n: what it must belong to; None where that is not known yet."""
        if self.cond_features is None:
            if cond is not None:
                expected = "None, as this model is unconditional"
                raise fail(self._name, "cond", expected, type(cond).__name__, kind=TypeError)
            return ()
        if cond is None:
            expected = f"features [N, {self.cond_features}], as this model is conditional"
            raise fail(self._name, "cond", expected, "None", kind=TypeError)
        check_tensor(self._name, "cond", cond)
        assert isinstance(cond, Tensor)
        check_floating(self._name, "cond", cond)
        if n is not None and tuple(cond.shape) != (n, self.cond_features):
            raise fail(self._name, "cond", f"shape {[n, self.cond_features]}", list(cond.shape))
        return (cond,)
