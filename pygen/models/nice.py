"""NICE (Dinh, Krueger, Bengio, "NICE: Non-linear Independent Components Estimation", 2014)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pygen._checks import fail
from pygen.nn import AffineCoupling

from ._arguments import check_int, check_ints
from ._flow import Flow


class NICE(Flow):
    """A normalizing flow of additive couplings and a scale of each number's own: exact log p of vectors, an exact inverse.

    The couplings change the even and the odd numbers in turn: each adds to one half what a ReLU network makes of the
    other. z = e^s h, h the last coupling's output, so log |det dz/dx| = sum s: the couplings keep the volume. At the
    start it is the identity: the networks' last layers are zeros. Dinh et al. 2014. The twin is
    `pygen.reference.models.NICE`: same keys, same methods.

    Args:
        num_inputs: D, the numbers of a sample [N, ...] in row-major order.
        hidden_sizes: widths of the hidden layers of each coupling's network; one int is one layer.
        num_couplings: how many; below 2 half of the numbers are only scaled.
        prior: "logistic" (the paper's) or "normal", each number for itself.
        num_levels: None: x is continuous. Else x is levels, made continuous by noise; see `log_prob`.

    Example:
        >>> model = pygen.models.NICE(6, 32)
        >>> x = torch.randn(8, 6)
        >>> model.loss(x).backward()
        >>> model.log_prob(x).shape, model.sample(4).shape
        (torch.Size([8]), torch.Size([4, 6]))
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
        super().__init__(prior, num_levels)
        self.num_inputs = check_int("NICE", "num_inputs", num_inputs, at_least=2)
        hidden_sizes = check_ints("NICE", "hidden_sizes", hidden_sizes)
        if not hidden_sizes:
            raise fail("NICE", "hidden_sizes", "at least one width", "none")
        number = check_int("NICE", "num_couplings", num_couplings)
        even = (self.num_inputs + 1) // 2
        self.couplings = nn.ModuleList()
        for i in range(number):
            ins, outs = (even, self.num_inputs - even)[:: -1 if i % 2 else 1]
            conditioner = network((ins, *hidden_sizes, outs))
            self.couplings.append(AffineCoupling(conditioner, mask="even_odd", flip=i % 2 == 1, additive=True))
        self.log_scale = nn.Parameter(torch.zeros(self.num_inputs))

    def _transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = x.flatten(1)
        for coupling in self.couplings:
            h, _ = coupling(h)
        return h * torch.exp(self.log_scale), self._log_det(h)

    def _inverse(self, z: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        h = z * torch.exp(-self.log_scale)
        for coupling in reversed(self.couplings):
            h, _ = coupling(h, inverse=True)
        return h.reshape(z.shape[0], *shape), -self._log_det(h)

    def _log_det(self, h: Tensor) -> Tensor:
        wide = torch.promote_types(self.log_scale.dtype, torch.float32)
        return self.log_scale.sum(dtype=wide).expand(h.shape[0])

    def _check_shape(self, x: Tensor) -> None:
        if x.dim() < 2 or math.prod(x.shape[1:]) != self.num_inputs:
            raise fail("NICE", "x", f"shape [N, ...] with {self.num_inputs} elements a sample", list(x.shape))

    def _sample_shape(self) -> tuple[int, ...]:
        return self.trained_shape or (self.num_inputs,)

    @property
    def _weight(self) -> Tensor:
        return self.log_scale


def network(sizes: Sequence[int]) -> nn.Sequential:
    """A ReLU network of linear layers of these widths, whose last one starts as zeros."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    last = layers[-2]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers[:-1])
