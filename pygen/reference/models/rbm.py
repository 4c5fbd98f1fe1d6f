"""A restricted Boltzmann machine as people usually write it in plain PyTorch: oracle and baseline of `pygen.models.RBM`.

Hinton, "A Practical Guide to Training Restricted Boltzmann Machines" (2012); Tieleman 2008 for persistent chains.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygen.reference.rbm import uniforms

from ._autoregressive import ShapeMemory


class RBM(ShapeMemory):
    """Same constructor, parameters and training as `pygen.models.RBM`."""

    def __init__(self, num_visible: int, num_hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.01 * torch.randn(num_hidden, num_visible))
        self.visible_bias = nn.Parameter(torch.zeros(num_visible))
        self.hidden_bias = nn.Parameter(torch.zeros(num_hidden))
        self.register_buffer("chains", torch.empty((0, num_visible), dtype=torch.uint8))

    def free_energy(self, x: Tensor) -> Tensor:
        """[N]"""
        v = x.flatten(1).to(self.weight.dtype)
        return -(v @ self.visible_bias) - F.softplus(F.linear(v, self.weight, self.hidden_bias)).sum(1)

    @torch.no_grad()
    def gibbs(self, x: Tensor, steps: int = 1, *, seed: Tensor | None = None) -> Tensor:
        """[N, D] uint8 after so many steps; seed: 0-dim int64, for pygen's noise instead of torch's."""
        v = x.flatten(1).to(self.weight.dtype)
        for step in range(steps):
            h = self._drawn(F.linear(v, self.weight, self.hidden_bias), 2 * step, seed)
            v = self._drawn(F.linear(h, self.weight.t(), self.visible_bias), 2 * step + 1, seed)
        return v.to(torch.uint8)

    @staticmethod
    def _drawn(a: Tensor, half: int, seed: Tensor | None) -> Tensor:
        p = a.sigmoid()
        u = torch.rand_like(p) if seed is None else uniforms(*p.shape, half, seed)
        return (u <= p).to(p.dtype)

    def loss(self, x: Tensor, *, k: int = 1, persistent: bool = False, seed: Tensor | None = None) -> Tensor:
        """CD-k, or PCD with persistent chains."""
        ends = self.gibbs(self.chains if persistent and len(self.chains) else x, k, seed=seed)
        if persistent:
            self.chains = ends
        return self.free_energy(x).mean() - self.free_energy(ends).mean()
