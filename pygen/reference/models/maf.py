"""Masked autoregressive flows as people usually write them in plain PyTorch: oracle and baseline of `pygen.models.MAF`.

Papamakarios, Pavlakou, Murray, "Masked Autoregressive Flow for Density Estimation" (2017); with splines Durkan, Bekasov, Murray,
Papamakarios, "Neural Spline Flows" (2019). Same constructor, same `state_dict`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .nice import Flow
from .nsf import spline


class _Masked(nn.Linear):
    """Multiplies its weight by a mask."""

    mask: Tensor

    def __init__(self, ins: Tensor, outs: Tensor, strict: bool) -> None:
        super().__init__(len(ins), len(outs))
        live = outs[:, None] > ins if strict else outs[:, None] >= ins
        self.register_buffer("mask", live, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight * self.mask, self.bias)


class _Layer(nn.Module):
    """y = x e^f + t, t and f from a network of the numbers before, or a spline of x. Its inverse runs the network once for each
    number."""

    def __init__(
        self,
        order: Tensor,
        hidden: Sequence[int],
        cond_features: int | None,
        activation: str,
        num_bins: int | None,
        bound: float | None,
    ) -> None:
        super().__init__()
        first = 0 if cond_features is None else -1
        spread = max(1, len(order) - 1 - first)
        outputs = order.repeat(2) if num_bins is None else order.repeat_interleave(3 * num_bins - 1)
        degrees = [order, *(torch.arange(size) * spread // size + first for size in hidden), outputs]
        pairs = list(pairwise(degrees))
        self.layers = nn.ModuleList(_Masked(a, b, i + 1 == len(pairs)) for i, (a, b) in enumerate(pairs))
        self.cond = None if cond_features is None else nn.Linear(cond_features, hidden[0], bias=False)
        self.activation, self.num_bins, self.bound = getattr(F, activation), num_bins, bound
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def made(self, x: Tensor, cond: Tensor | None) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(x if i == 0 else self.activation(x))
            if i == 0 and self.cond is not None:
                x = x + self.cond(cond)
        return x

    def shift_and_scale(self, made: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = made.chunk(2, 1)
        return shift, log_scale if self.bound is None else self.bound * torch.tanh(log_scale / self.bound)

    def spline(self, v: Tensor, made: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        assert self.bound is not None
        beta = math.log(2) / (1 - 1e-3)  # zeros are the identity
        return spline(v, made.reshape(*v.shape, -1), inverse, low=-self.bound, high=self.bound, beta=beta)

    def forward(self, x: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        made = self.made(x, cond)
        if self.num_bins is not None:
            y, log = self.spline(x, made, False)
            return y, log.sum(1)
        shift, log_scale = self.shift_and_scale(made)
        return x * log_scale.exp() + shift, log_scale.sum(1)

    def inverse(self, y: Tensor, cond: Tensor | None) -> Tensor:
        x = torch.zeros_like(y)
        for _ in range(y.shape[1]):
            made = self.made(x, cond)
            if self.num_bins is not None:
                x = self.spline(y, made, True)[0]
                continue
            shift, log_scale = self.shift_and_scale(made)
            x = (y - shift) * (-log_scale).exp()
        return x


class MAF(Flow):
    """Layers of which every second one goes from the last number to the first.

    Args:
        num_inputs: D.
        hidden_sizes: widths of the networks' hidden layers.
        num_layers: how many.
        cond_features: of the conditions, or None.
        activation: of hidden units.
        num_bins: of splines; None: shifts and scales.
        bound: of log scales, or None; of splines.
        prior: "normal" or "logistic".
        num_levels: of x, or None where it is continuous.
    """

    def __init__(
        self,
        num_inputs: int,
        hidden_sizes: int | Sequence[int],
        *,
        num_layers: int = 5,
        cond_features: int | None = None,
        activation: str = "relu",
        num_bins: int | None = None,
        bound: float | None = 5.0,
        prior: str = "normal",
        num_levels: int | None = None,
    ) -> None:
        super().__init__()
        hidden = (hidden_sizes,) if isinstance(hidden_sizes, int) else tuple(hidden_sizes)
        self.prior, self.num_levels = prior, num_levels
        turns = torch.arange(num_inputs)
        self.layers = nn.ModuleList(
            _Layer(turns.flip(0) if i % 2 else turns, hidden, cond_features, activation, num_bins, bound)
            for i in range(num_layers)
        )

    def _transform(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h, total = x.flatten(1), x.new_zeros(len(x))
        for layer in self.layers:
            h, log_det = layer(h, cond)
            total = total + log_det
        return h, total

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        for layer in reversed(self.layers):
            z = layer.inverse(z, cond)
        return z
