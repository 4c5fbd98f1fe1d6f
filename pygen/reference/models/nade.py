"""NADE as people usually write it in plain PyTorch: oracle and baseline of `pygen.models.NADE`.

Larochelle and Murray, "The Neural Autoregressive Distribution Estimator" (2011). Same constructor, `state_dict`, methods.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._autoregressive import ShapeMemory, draw, uniforms
from .made import order_degrees


class NADE(ShapeMemory):
    """A loop over the inputs, which carries what the hidden units know; one set of weights serves all orderings."""

    num_levels = 2

    def __init__(self, num_inputs: int, hidden_size: int, *, num_orders: int = 1) -> None:
        super().__init__()
        self.num_inputs, self.hidden_size, self.num_orders = num_inputs, hidden_size, num_orders
        self.weight = nn.Parameter(torch.empty(num_inputs, hidden_size).uniform_(-1, 1) / num_inputs**0.5)
        self.output_weight = nn.Parameter(torch.empty(num_inputs, hidden_size).uniform_(-1, 1) / hidden_size**0.5)
        self.hidden_bias = nn.Parameter(torch.zeros(hidden_size))
        self.output_bias = nn.Parameter(torch.zeros(num_inputs))
        self.orders = [order_degrees(num_inputs, k) for k in range(num_orders)]

    def _turns(self, order: int) -> list[int]:
        """The inputs in the order in which they come."""
        return sorted(range(self.num_inputs), key=self.orders[order].__getitem__)

    def _conditional(self, a: Tensor, d: int) -> Tensor:
        """The logit [N] of input d being 1, of the hidden units' sums a [N, H]."""
        return F.linear(torch.sigmoid(a), self.output_weight[d : d + 1], self.output_bias[d : d + 1])[:, 0]

    def logits(self, x: Tensor, order: int = 0) -> Tensor:
        """[N, D, 2] of levels x, under one ordering: 0, and the logit of being 1."""
        x = x.flatten(1).to(self.weight.dtype)
        a = self.hidden_bias.expand(len(x), -1)
        found = [a[:, 0]] * self.num_inputs
        for d in self._turns(order):
            found[d] = self._conditional(a, d)
            a = a + x[:, d : d + 1] * self.weight[d]
        ones = torch.stack(found, 1)
        return torch.stack((torch.zeros_like(ones), ones), 2)

    def order_log_probs(self, x: Tensor) -> Tensor:
        """log p(x) in nats under each ordering, [K, N]."""
        target = x.flatten(1).to(self.weight.dtype)
        nlls = [
            F.binary_cross_entropy_with_logits(self.logits(x, k)[:, :, 1], target, reduction="none").sum(1)
            for k in range(self.num_orders)
        ]
        return -torch.stack(nlls)

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
        """n samples of levels [n, *shape]: each draws an ordering, then its inputs in that order, in one pass."""
        shape = tuple(shape or self.trained_shape or (self.num_inputs,))
        device = self.weight.device
        u = uniforms(n, self.num_inputs + 1, seed, generator).to(device)
        of_order = (u[:, -1].double() * self.num_orders).ceil().long() - 1
        x = torch.zeros(n, self.num_inputs, dtype=torch.uint8, device=device)
        for k in range(self.num_orders):
            rows = (of_order == k).nonzero()[:, 0]
            a = self.hidden_bias.expand(len(rows), -1)
            for d in self._turns(k):
                ones = self._conditional(a, d)
                levels = draw(torch.stack((torch.zeros_like(ones), ones), 1), u[rows, d], temperature).to(x.dtype)
                if known is not None and known_mask is not None:
                    given = known_mask.expand(n, *shape).flatten(1)[rows, d]
                    levels = torch.where(given, known.to(x.dtype).expand(n, *shape).flatten(1)[rows, d], levels)
                x[rows, d] = levels
                a = a + levels.unsqueeze(1).to(a.dtype) * self.weight[d]
        return x.view(n, *shape)
