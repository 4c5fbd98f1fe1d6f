"""NICE as people usually write it in plain PyTorch: oracle and baseline of `pygen.models.NICE`.

Dinh, Krueger, Bengio, "NICE: Non-linear Independent Components Estimation" (2014). Same constructor, same `state_dict`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._autoregressive import ShapeMemory


class Flow(ShapeMemory):
    """Density and samples of a flow, with torch's noise."""

    prior: str
    num_levels: int | None

    def _transform(self, x: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def log_prob(self, x: Tensor, cond: Tensor | None = None, *, noise: Tensor | None = None) -> Tensor:
        """[N] nats; noise: uniform, of x's shape, that makes levels continuous."""
        extra = 0.0
        if self.num_levels is not None:
            dtype = next(self.parameters()).dtype
            u = torch.rand(x.shape, dtype=dtype, device=x.device) if noise is None else noise
            x = (x + u) * (2 / self.num_levels) - 1
            extra = math.log(2 / self.num_levels) * math.prod(x.shape[1:])
        z, log_det = self._transform(x) if cond is None else self._transform(x, cond)
        if self.prior == "logistic":
            log_prior = -(F.softplus(z) + F.softplus(-z)).sum(1)
        else:
            log_prior = -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)
        return log_prior + log_det + extra

    def loss(self, x: Tensor, cond: Tensor | None = None, *, noise: Tensor | None = None) -> Tensor:
        if self.training:
            self.trained_shape = tuple(x.shape[1:])
        return -self.log_prob(x, cond, noise=noise).mean()

    forward = loss


class _Coupling(nn.Module):
    """Cuts the numbers into even and odd ones, adds, and puts them together again."""

    def __init__(self, sizes: Sequence[int], flip: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.conditioner = nn.Sequential(*layers[:-1])
        self.flip = flip
        last = self.conditioner[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, h: Tensor, sign: float = 1.0) -> Tensor:
        even, odd = h[:, ::2], h[:, 1::2]
        if self.flip:
            even = even + sign * self.conditioner(odd)
        else:
            odd = odd + sign * self.conditioner(even)
        out = torch.empty_like(h)
        out[:, ::2], out[:, 1::2] = even, odd
        return out


class NICE(Flow):
    """Additive couplings and a diagonal scale.

    Args:
        num_inputs: D.
        hidden_sizes: widths of the networks' hidden layers.
        num_couplings: how many.
        prior: "logistic" or "normal".
        num_levels: of x, or None where it is continuous.
    """

    def __init__(
        self,
        num_inputs: int,
        hidden_sizes: int | Sequence[int],
        *,
        num_couplings: int = 4,
        prior: str = "logistic",
        num_levels: int | None = None,
    ) -> None:
        super().__init__()
        hidden = (hidden_sizes,) if isinstance(hidden_sizes, int) else tuple(hidden_sizes)
        self.prior, self.num_levels = prior, num_levels
        sizes = (num_inputs + 1) // 2, num_inputs // 2
        self.couplings = nn.ModuleList(
            _Coupling((sizes[i % 2], *hidden, sizes[1 - i % 2]), i % 2 == 1) for i in range(num_couplings)
        )
        self.log_scale = nn.Parameter(torch.zeros(num_inputs))

    def _transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = x.flatten(1)
        for coupling in self.couplings:
            h = coupling(h)
        return h * torch.exp(self.log_scale), self.log_scale.sum().expand(len(h))

    def inverse(self, z: Tensor) -> Tensor:
        h = z * torch.exp(-self.log_scale)
        for coupling in reversed(self.couplings):
            h = coupling(h, -1.0)
        return h
