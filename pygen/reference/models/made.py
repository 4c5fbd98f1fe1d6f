"""MADE as people usually write it in plain PyTorch: oracle and baseline of `pygen.models.MADE`.

Germain, Gregor, Murray, Larochelle, "MADE: Masked Autoencoder for Distribution Estimation" (2015). Same constructor,
`state_dict`, methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from ._masked import MaskedLinear, degrees_mask
from ._ordered import Ordered, order_degrees


class MADE(Ordered):
    """ReLU layers whose weights a mask multiplies at every call; one set of weights serves all orderings."""

    def __init__(
        self,
        num_inputs: int,
        hidden_sizes: int | Sequence[int],
        *,
        num_levels: int = 2,
        num_orders: int = 1,
        input_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        hidden_sizes = (hidden_sizes,) if isinstance(hidden_sizes, int) else tuple(hidden_sizes)
        self.num_inputs, self.num_levels, self.num_orders = num_inputs, num_levels, num_orders
        self.input_range = input_range
        sizes = (num_inputs, *hidden_sizes, num_inputs * num_levels)
        self.layers = nn.ModuleList(MaskedLinear(i, o) for i, o in pairwise(sizes))
        # A hidden unit of degree d sees the inputs of degrees 0 .. d; nothing may see the last one.
        hidden = [[i * max(1, num_inputs - 1) // size for i in range(size)] for size in hidden_sizes]
        self.orders = [order_degrees(num_inputs, k) for k in range(num_orders)]
        for k, inputs in enumerate(self.orders):
            degrees = [inputs, *hidden, [d for d in inputs for _ in range(num_levels)]]
            for i in range(len(sizes) - 1):
                mask = degrees_mask(degrees[i], degrees[i + 1], strict=i == len(hidden_sizes))
                self.register_buffer(f"mask_{k}_{i}", mask, persistent=False)

    def logits(self, x: Tensor, order: int = 0) -> Tensor:
        """[N, D, L] of levels x, under one ordering."""
        low, high = self.input_range
        h = low + (high - low) * x.flatten(1).to(self.layers[0].weight.dtype) / (self.num_levels - 1)
        for i, layer in enumerate(self.layers):
            h = layer(h if i == 0 else F.relu(h), getattr(self, f"mask_{order}_{i}"))
        return h.unflatten(1, (self.num_inputs, self.num_levels))

    def _nll(self, x: Tensor, order: int) -> Tensor:
        return F.cross_entropy(self.logits(x, order).transpose(1, 2), x.flatten(1).long(), reduction="none").sum(1)

    def _draws(self, x: Tensor, rows: Tensor, order: int) -> Iterator[tuple[int, Tensor]]:
        for d in self._turns(order):
            yield d, self.logits(x[rows], order)[:, d]
