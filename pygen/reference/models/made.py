"""MADE as people usually write it in plain PyTorch: oracle and baseline of `pygen.models.MADE`.

Germain, Gregor, Murray, Larochelle, "MADE: Masked Autoencoder for Distribution Estimation" (2015). Same constructor,
`state_dict`, methods.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygen.reference import noise

from ._autoregressive import SAMPLING_DOMAIN, ShapeMemory, draw, uniforms
from ._masked import MaskedLinear, degrees_mask


class MADE(ShapeMemory):
    """ReLU layers whose weights a mask multiplies at every call; one set of weights serves all orderings."""

    def __init__(
        self, num_inputs: int, hidden_sizes: int | Sequence[int], *, num_levels: int = 2, num_orders: int = 1
    ) -> None:
        super().__init__()
        hidden_sizes = (hidden_sizes,) if isinstance(hidden_sizes, int) else tuple(hidden_sizes)
        self.num_inputs, self.num_levels, self.num_orders = num_inputs, num_levels, num_orders
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
        h = 2 * x.flatten(1).to(self.layers[0].weight.dtype) / (self.num_levels - 1) - 1
        for i, layer in enumerate(self.layers):
            h = layer(h if i == 0 else F.relu(h), getattr(self, f"mask_{order}_{i}"))
        return h.unflatten(1, (self.num_inputs, self.num_levels))

    def order_log_probs(self, x: Tensor) -> Tensor:
        """log p(x) in nats under each ordering, [K, N]."""
        target = x.flatten(1).long()
        nlls = [
            F.cross_entropy(self.logits(x, k).transpose(1, 2), target, reduction="none").sum(1)
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
        """n samples of levels [n, *shape]: each draws an ordering, then its inputs in that order."""
        shape = tuple(shape or self.trained_shape or (self.num_inputs,))
        device = self.layers[0].weight.device
        u = uniforms(n, self.num_inputs + 1, seed, generator).to(device)
        of_order = (u[:, -1].double() * self.num_orders).ceil().long() - 1
        x = torch.zeros(n, self.num_inputs, dtype=torch.uint8 if self.num_levels <= 256 else torch.int64, device=device)
        for k, degrees in enumerate(self.orders):
            rows = (of_order == k).nonzero()[:, 0]
            for d in sorted(range(self.num_inputs), key=degrees.__getitem__):
                levels = draw(self.logits(x[rows], k)[:, d], u[rows, d], temperature).to(x.dtype)
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
