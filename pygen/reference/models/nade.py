"""NADE as people usually write it in plain PyTorch: oracle and baseline of `pygen.models.NADE`.

Larochelle and Murray, "The Neural Autoregressive Distribution Estimator" (2011). Same constructor, `state_dict`, methods.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._ordered import Ordered, order_degrees


class NADE(Ordered):
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

    def _nll(self, x: Tensor, order: int) -> Tensor:
        target = x.flatten(1).to(self.weight.dtype)
        return F.binary_cross_entropy_with_logits(self.logits(x, order)[:, :, 1], target, reduction="none").sum(1)

    def _draws(self, x: Tensor, rows: Tensor, order: int) -> Iterator[tuple[int, Tensor]]:
        """In one pass: what was drawn is added to the sums that the next inputs see."""
        a = self.hidden_bias.expand(len(rows), -1)
        for d in self._turns(order):
            ones = self._conditional(a, d)
            yield d, torch.stack((torch.zeros_like(ones), ones), 1)
            a = a + x[rows, d].unsqueeze(1).to(a.dtype) * self.weight[d]
