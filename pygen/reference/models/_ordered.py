"""What the plain models of inputs in an order share, MADE and NADE: orderings, their mixture, the loop that samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pygen.reference import noise

from ._autoregressive import SAMPLING_DOMAIN, ShapeMemory, draw, uniforms


class Ordered(ShapeMemory):
    """A model says what it thinks of the inputs in each of `num_orders` orderings; their probabilities are averaged."""

    num_inputs: int
    num_levels: int
    num_orders: int
    orders: list[list[int]]  # of each the inputs' degrees

    def _nll(self, x: Tensor, order: int) -> Tensor:
        """The negative log-likelihood [N] of levels x [N, ...] under one ordering."""
        raise NotImplementedError

    def _draws(self, x: Tensor, rows: Tensor, order: int) -> Iterator[tuple[int, Tensor]]:
        """(input, its logits [rows, L]) in the ordering; before the next one is asked for, x [N, D] holds what was drawn."""
        raise NotImplementedError

    def _turns(self, order: int) -> list[int]:
        """The inputs in the order in which they come."""
        return sorted(range(self.num_inputs), key=self.orders[order].__getitem__)

    def order_log_probs(self, x: Tensor) -> Tensor:
        """log p(x) in nats under each ordering, [K, N]."""
        return -torch.stack([self._nll(x, k) for k in range(self.num_orders)])

    def log_prob(self, x: Tensor, cond: None = None) -> Tensor:
        """log of the orderings' mean probability in nats, [N]."""
        return self.order_log_probs(x).logsumexp(0) - math.log(self.num_orders)

    def loss(self, x: Tensor, cond: None = None) -> Tensor:
        """Mean negative log-likelihood in nats."""
        if self.training:
            self.trained_shape = tuple(x.shape[1:])
        return -self.log_prob(x).mean()

    forward = loss

    @torch.no_grad()
    def sample(
        self,
        n: int,
        shape: Sequence[int] | None = None,
        *,
        cond: None = None,
        known: Tensor | None = None,
        known_mask: Tensor | None = None,
        temperature: float = 1.0,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        engine: str | None = None,
        progress: bool = False,
    ) -> Tensor:
        """n samples of levels [n, *shape]: each draws an ordering, then its inputs in that order."""
        shape = tuple(shape or self.trained_shape or (self.num_inputs,))
        device = next(self.parameters()).device
        u = uniforms(n, self.num_inputs + 1, seed, generator).to(device)
        of_order = (u[:, -1].double() * self.num_orders).ceil().long() - 1
        x = torch.zeros(n, self.num_inputs, dtype=torch.uint8 if self.num_levels <= 256 else torch.int64, device=device)
        for k in range(self.num_orders):
            rows = (of_order == k).nonzero()[:, 0]
            for d, logits in self._draws(x, rows, k):
                levels = draw(logits, u[rows, d], temperature).to(x.dtype)
                if known is not None and known_mask is not None:
                    given = known_mask.expand(n, *shape).flatten(1)[rows, d]
                    levels = torch.where(given, known.to(x.dtype).expand(n, *shape).flatten(1)[rows, d], levels)
                x[rows, d] = levels
        return x.view(n, *shape)


def order_degrees(num_inputs: int, k: int) -> list[int]:
    """When each input comes in ordering k: raster order first, then fixed random ones."""
    if k == 0:
        return list(range(num_inputs))
    words = noise.words(num_inputs, torch.tensor(k), 1, SAMPLING_DOMAIN).flatten()[:num_inputs]
    return words.argsort(stable=True).tolist()
