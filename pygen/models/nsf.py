"""A neural spline flow (Durkan, Bekasov, Murray, Papamakarios, "Neural Spline Flows", 2019), with coupling layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pygen._checks import fail
from pygen.nn import SplineCoupling
from pygen.ops.rational_quadratic_spline import MOST_BINS

from ._arguments import check_int, check_ints
from ._flow import Flow
from .nice import network


class NSF(Flow):
    """A normalizing flow of couplings by monotonic rational-quadratic splines: exact log p of vectors, and an exact inverse.

    The couplings change the even and the odd numbers in turn. A spline's widths, heights and slopes are what a ReLU
    network makes of the other half. Outside [-bound, bound] numbers pass as they are, so data is to be scaled to lie
    inside. At the start it is the identity: the networks' last layers are zeros. Of the paper's RQ-NSF (C) it has the
    couplings, without residual networks, batch normalisation and linear layers between. Durkan et al. 2019. The twin is
    `pygen.reference.models.NSF`: same keys, same methods.

    Args:
        num_inputs: D, the numbers of a sample [N, ...] in row-major order.
        hidden_sizes: widths of the hidden layers of each coupling's network; one int is one layer.
        num_couplings: how many; below 2 half of the numbers pass as they are.
        num_bins: of each spline, 1 .. 256.
        bound: of the splines.
        prior: "normal" (the paper's) or "logistic", each number for itself.
        num_levels: None: x is continuous. Else x is levels, made continuous by noise; see `log_prob`.

    Example:
        >>> model = pygen.models.NSF(6, 32)
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
        num_bins: int = 8,
        bound: float = 3.0,
        prior: str = "normal",
        num_levels: int | None = None,
    ) -> None:
        super().__init__(prior, num_levels)
        self.num_inputs = check_int("NSF", "num_inputs", num_inputs, at_least=2)
        hidden_sizes = check_ints("NSF", "hidden_sizes", hidden_sizes)
        if not hidden_sizes:
            raise fail("NSF", "hidden_sizes", "at least one width", "none")
        number, bins = check_int("NSF", "num_couplings", num_couplings), check_int("NSF", "num_bins", num_bins)
        if bins > MOST_BINS:
            raise fail("NSF", "num_bins", f"a number <= {MOST_BINS}", bins)
        if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not 1e-6 <= bound <= 1e6:
            raise fail("NSF", "bound", "1e-6 <= bound <= 1e6", repr(bound))
        even = (self.num_inputs + 1) // 2
        self.couplings = nn.ModuleList()
        for i in range(number):
            ins, outs = (even, self.num_inputs - even)[:: -1 if i % 2 else 1]
            conditioner = network((ins, *hidden_sizes, outs * (3 * bins - 1)))
            self.couplings.append(SplineCoupling(conditioner, mask="even_odd", flip=i % 2 == 1, bound=bound))

    def _transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h, total = x.flatten(1), x.new_zeros(x.shape[0], dtype=torch.promote_types(x.dtype, torch.float32))
        for coupling in self.couplings:
            h, log_det = coupling(h)
            total = total + log_det
        return h, total

    def _inverse(self, z: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        h, total = z, z.new_zeros(z.shape[0], dtype=torch.promote_types(z.dtype, torch.float32))
        for coupling in reversed(self.couplings):
            h, log_det = coupling(h, inverse=True)
            total = total + log_det
        return h.reshape(z.shape[0], *shape), total

    def _check_shape(self, x: Tensor) -> None:
        if x.dim() < 2 or math.prod(x.shape[1:]) != self.num_inputs:
            raise fail("NSF", "x", f"shape [N, ...] with {self.num_inputs} elements a sample", list(x.shape))

    def _sample_shape(self) -> tuple[int, ...]:
        return self.trained_shape or (self.num_inputs,)
