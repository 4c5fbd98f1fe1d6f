"""Restricted Boltzmann machines (Smolensky 1986; Hinton 2002, "Training Products of Experts by Contrastive Divergence")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from pygen import _noise
from pygen._checks import check_tensor, fail
from pygen.functional import rbm_free_energy, rbm_gibbs
from pygen.nn.rbm import register_parameters

from . import _partition, _sampling
from ._arguments import check_int, check_ints
from ._levels import check_levels
from ._partition import LogPartition
from ._pixel_model import ShapeMemory


class RBM(ShapeMemory):
    """A restricted Boltzmann machine: a density of binary vectors, known up to Z, trained by contrastive divergence.

    p(v) = sum_h e^(v.b + h.c + h.W v) / Z of binary v [D] and h [H]. x is levels 0 and 1, uint8 or int64, [N, ...] with
    D units each. The twin is `pygen.reference.models.RBM`.

    Args:
        num_visible: D.
        num_hidden: H.

    Attributes:
        chains: [M, D] uint8, where persistent chains stand; none before the first call that needs them. They are no parameter,
            but part of the state_dict. DistributedDataParallel's broadcast_buffers=False leaves each process its own.

    Example:
        >>> model = pygen.models.RBM(16, 8)
        >>> x = torch.randint(2, (4, 16))
        >>> model.loss(x, k=1).backward()  # its gradient is contrastive divergence
        >>> model.free_energy(x).shape, model.sample(2, steps=10).shape
        (torch.Size([4]), torch.Size([2, 16]))
    """

    weight: nn.Parameter  # [H, D]
    visible_bias: nn.Parameter  # [D]
    hidden_bias: nn.Parameter  # [H]
    chains: Tensor

    def __init__(self, num_visible: int, num_hidden: int) -> None:
        super().__init__()
        self.num_visible = check_int("RBM", "num_visible", num_visible)
        self.num_hidden = check_int("RBM", "num_hidden", num_hidden)
        register_parameters(self, self.num_visible, self.num_hidden)
        self.register_buffer("chains", torch.empty((0, self.num_visible), dtype=torch.uint8))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        given = state_dict.get(prefix + "chains")
        if isinstance(given, Tensor) and given.dim() == 2 and given.shape[1] == self.num_visible:
            self.chains = self.chains.new_empty(given.shape)  # however many there are
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        return f"{self.num_visible}, {self.num_hidden}"

    @property
    def _parameters_in_order(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.weight, self.visible_bias, self.hidden_bias

    def free_energy(self, x: Tensor) -> Tensor:
        """-log p(x) - log Z, [N] nats."""
        return rbm_free_energy(self._checked(x), *self._parameters_in_order, reduction="none")

    def log_prob(self, x: Tensor, cond: None = None, *, log_partition: Tensor | float | None = None) -> Tensor:
        """log p(x), [N] nats.

        Args:
            x: levels [N, ...] with D units each.
            cond: always None, this model is unconditional.
            log_partition: log Z, as `log_partition().value`; None: by enumeration, anew in each call and differentiable, where
                the smaller layer has 20 units at most. By annealed importance sampling log Z is too low on average, and so
                the likelihood too good.
        """
        self._refuse_cond(cond)
        flat = self._checked(x)
        if log_partition is None:
            log_partition = self._exact("log_partition")
        return -rbm_free_energy(flat, *self._parameters_in_order, reduction="none") - log_partition

    def loss(
        self,
        x: Tensor,
        cond: None = None,
        *,
        k: int = 1,
        persistent: bool = False,
        seed: int | Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """The mean free energy of the data less that of samples: its gradient is contrastive divergence, its value no likelihood.

        Args:
            x: levels [N, ...] with D units each.
            cond: always None.
            k: steps of Gibbs sampling that make the samples.
            persistent: PCD (Tieleman 2008): chains go on where they stood after the last call, in training mode; the first call
                begins as many as x has samples, at these. False: CD-k, from x in each call.
            seed, generator: where the noise comes from; None: torch's default generator.
        """
        self._refuse_cond(cond)
        data = self._checked(x)
        start = data
        if persistent:
            start = self.chains if len(self.chains) else data.to(torch.uint8)
        steps = check_int("RBM", "k", k)
        ends = rbm_gibbs(start, *self._parameters_in_order, steps=steps, seed=seed, generator=generator)
        assert isinstance(ends, Tensor)
        if self.training:
            self.trained_shape = tuple(x.shape[1:])
            if persistent:
                self.chains = ends
        parameters = self._parameters_in_order
        return rbm_free_energy(data, *parameters) - rbm_free_energy(ends, *parameters)

    def forward(self, x: Tensor, cond: None = None, **options: Any) -> Tensor:
        """`loss`, under the name that wrappers such as DistributedDataParallel call."""
        return self.loss(x, cond, **options)

    def gibbs(
        self,
        x: Tensor,
        steps: int = 1,
        *,
        temperature: float = 1.0,
        seed: int | Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Levels like x after so many steps of block Gibbs sampling from x: see pygen.functional.rbm_gibbs."""
        options = {"steps": steps, "temperature": temperature, "seed": seed, "generator": generator}
        drawn = rbm_gibbs(self._checked(x), *self._parameters_in_order, **options)  # type: ignore[arg-type]
        assert isinstance(drawn, Tensor)
        return drawn.view(x.shape)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The visible units' probabilities given the hidden units' probabilities given x, like x in the parameters' dtype."""
        v = self._checked(x).to(self.weight.dtype)
        units = F.linear(v, self.weight, self.hidden_bias).sigmoid()
        return F.linear(units, self.weight.t(), self.visible_bias).sigmoid().view(x.shape)

    def sample(
        self,
        n: int,
        shape: Sequence[int] | None = None,
        *,
        cond: None = None,
        steps: int = 1000,
        known: Tensor | None = None,
        known_mask: Tensor | None = None,
        temperature: float = 1.0,
        seed: int | Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """n samples of levels [n, *shape], uint8: chains of so many steps, which begin with fair coins.

        Sample i depends on the seed, on i and on what is known of it: not on its batch-mates. How many steps a chain takes to
        forget where it began depends on the weights; one that begins elsewhere: `gibbs`.

        Args:
            n: how many.
            shape: with D elements. None means that of the last training batch, and (D,) before there was one.
            cond: always None.
            steps: of block Gibbs sampling.
            known: levels that broadcast to [n, *shape], uint8 or int64, taken over where known_mask says so.
            known_mask: bool, broadcasts to [n, *shape], true where known; in-painting draws the rest given these.
            temperature: of each unit's chance; below 1 more of what is likely.
            seed, generator: where the noise comes from; None: torch's default generator.
        """
        self._refuse_cond(cond)
        n = check_int("RBM", "n", n, at_least=0)
        steps = check_int("RBM", "steps", steps, at_least=0)
        shape = check_ints("RBM", "shape", tuple(self.trained_shape or (self.num_visible,) if shape is None else shape))
        if math.prod(shape) != self.num_visible:
            raise fail("RBM", "shape", f"{self.num_visible} elements", shape)
        drawing, _ = _sampling.prepare(
            "RBM",
            n,
            shape,
            2,
            self.weight.device,
            known=known,
            known_mask=known_mask,
            temperature=temperature,
            seed=seed,
            generator=generator,
        )
        flat = drawing.flat()
        start, mask = (flat.u <= 0.5).to(torch.uint8), flat.known_mask
        if flat.known is not None and mask is not None:
            start = torch.where(mask, flat.known, start)
        drawn = rbm_gibbs(
            start,
            *self._parameters_in_order,
            steps=steps,
            temperature=temperature,
            known_mask=mask,
            seed=seed,
            generator=generator,
        )
        assert isinstance(drawn, Tensor)
        return drawn.view(n, *shape)

    def log_partition(
        self,
        method: str | None = None,
        *,
        num_chains: int = 128,
        num_temperatures: int = 1000,
        seed: int | Tensor | None = None,
        generator: Generator | None = None,
    ) -> LogPartition:
        """log Z in nats, with its standard error: (value, standard_error, method), float64.

        Args:
            method: "exact" by enumeration, differentiable, where the smaller layer has 20 units at most; "ais" by annealed
                importance sampling (Salakhutdinov and Murray 2008) from independent visible units of chances
                sigmoid(visible_bias). Unbiased for Z, so too low for log Z on average; the standard error knows nothing of
                modes that no chain found. None: "exact" where that goes.
            num_chains: of AIS.
            num_temperatures: of AIS, evenly spaced.
            seed, generator: of AIS; None: torch's default generator.
        """
        if method not in (None, "exact", "ais"):
            raise fail("RBM", "method", "'exact', 'ais' or None", repr(method))
        chains = check_int("RBM", "num_chains", num_chains, at_least=2)
        temperatures = check_int("RBM", "num_temperatures", num_temperatures)
        small = min(self.num_visible, self.num_hidden) <= _partition.MOST_UNITS
        if method == "exact" or (method is None and small):
            value = self._exact("method")
            return LogPartition(value, torch.zeros_like(value), "exact")
        drawn = _noise.resolve_seed("RBM", seed, generator, self.weight.device)
        return LogPartition(*_partition.annealed(*self._parameters_in_order, chains, temperatures, drawn), "ais")

    def _exact(self, argument: str) -> Tensor:
        smaller = min(self.num_visible, self.num_hidden)
        if smaller > _partition.MOST_UNITS:
            expected = f"a layer of at most {_partition.MOST_UNITS} units to enumerate (method='ais' estimates log Z)"
            raise fail("RBM", argument, expected, f"{smaller} in the smaller one")
        return _partition.exact(*self._parameters_in_order)

    def _checked(self, x: Tensor) -> Tensor:
        """Levels [N, ...] as [N, D]."""
        check_tensor("RBM", "x", x)
        if x.dim() < 2 or math.prod(x.shape[1:]) != self.num_visible:
            raise fail("RBM", "x", f"shape [N, ...] with {self.num_visible} elements a sample", list(x.shape))
        check_levels("RBM", x, 2, x.shape[1:])
        return x.flatten(1)

    def _refuse_cond(self, cond: object) -> None:
        if cond is not None:
            raise fail("RBM", "cond", "None, as this model is unconditional", type(cond).__name__, kind=TypeError)
