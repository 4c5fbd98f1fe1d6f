"""Masked autoregressive flows (Papamakarios, Pavlakou, Murray, "Masked Autoregressive Flow for Density Estimation", 2017), with
splines those of Durkan, Bekasov, Murray, Papamakarios, "Neural Spline Flows" (2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pygen._checks import fail
from pygen.nn import MaskedAutoregressive, MaskedAutoregressiveSpline
from pygen.ops.rational_quadratic_spline import MOST_BINS

from ._arguments import check_int, check_ints
from ._flow import Flow


class MAF(Flow):
    """A masked autoregressive flow: exact log p of vectors in one pass, given conditions or none, and samples in about one.

    Each layer shifts and scales a number by what a MADE makes of the numbers before it: first to last in one layer,
    last to first in the next. With num_bins each number goes through a spline instead, whose numbers the MADE makes: an
    autoregressive neural spline flow. Samples take the layers backwards, number after number, each unit of a network
    computed once (`pygen.nn.MaskedAutoregressive`, `MaskedAutoregressiveSpline`). The paper's layers are the other way
    round, z = (x - t) e^-f where here z = x e^f + t, which is as expressive; there is no batch normalisation. At the
    start it is the identity. Papamakarios et al. 2017; Durkan et al. 2019. The twin is `pygen.reference.models.MAF`:
    same keys, same methods.

    Args:
        num_inputs: D, the numbers of a sample [N, ...] in row-major order.
        hidden_sizes: widths of the hidden layers of each layer's network; one int is one layer.
        num_layers: how many.
        cond_features: of the conditions [N, cond_features], as in simulation-based inference; None: unconditional.
        activation: of hidden units: "relu", "tanh", "elu" or "silu".
        num_bins: of each spline, 1 .. 256; None: shifts and scales.
        bound: log scales are bound tanh(s / bound), s what the network gives; None: s itself. With num_bins splines map
            [-bound, bound] to itself, and what lies outside passes as it is.
        prior: "normal" (the paper's) or "logistic", each number for itself.
        num_levels: None: x is continuous. Else x is levels, made continuous by noise; see `log_prob`.

    Example:
        >>> model = pygen.models.MAF(6, (32, 32), cond_features=2)
        >>> x, cond = torch.randn(8, 6), torch.randn(8, 2)
        >>> model.loss(x, cond).backward()
        >>> model.log_prob(x, cond).shape, model.sample(4, cond=cond[:4]).shape
        (torch.Size([8]), torch.Size([4, 6]))
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
        super().__init__(prior, num_levels)
        self.num_inputs = check_int("MAF", "num_inputs", num_inputs)
        hidden_sizes = check_ints("MAF", "hidden_sizes", hidden_sizes)
        if not hidden_sizes:
            raise fail("MAF", "hidden_sizes", "at least one width", "none")
        number = check_int("MAF", "num_layers", num_layers)
        self.cond_features = None if cond_features is None else check_int("MAF", "cond_features", cond_features)
        if bound is not None and (
            isinstance(bound, bool) or not isinstance(bound, (int, float)) or not 1e-6 <= bound <= 1e6
        ):
            raise fail("MAF", "bound", "1e-6 <= bound <= 1e6, or None", repr(bound))
        if num_bins is not None:
            if check_int("MAF", "num_bins", num_bins) > MOST_BINS:
                raise fail("MAF", "num_bins", f"a number <= {MOST_BINS}", num_bins)
            if bound is None:
                raise fail("MAF", "bound", "a number, as splines have one", "None")

        def layer(order: range) -> nn.Module:
            how: dict[str, Any] = {"order": order, "cond_features": self.cond_features, "activation": activation}
            if num_bins is not None and bound is not None:
                return MaskedAutoregressiveSpline(self.num_inputs, hidden_sizes, num_bins=num_bins, bound=bound, **how)
            return MaskedAutoregressive(
                self.num_inputs, hidden_sizes, scale="exp" if bound is None else "tanh", bound=bound, **how
            )

        turns = range(self.num_inputs)
        self.layers = nn.ModuleList(layer(turns[::-1] if i % 2 else turns) for i in range(number))

    def _transform(self, x: Tensor, *cond: Tensor) -> tuple[Tensor, Tensor]:
        h, total = x.flatten(1), x.new_zeros(x.shape[0], dtype=torch.promote_types(x.dtype, torch.float32))
        for layer in self.layers:
            h, log_det = layer(h, *cond)
            total = total + log_det
        return h, total

    def _inverse(self, z: Tensor, shape: tuple[int, ...], *cond: Tensor) -> tuple[Tensor, Tensor]:
        h, total = z, z.new_zeros(z.shape[0], dtype=torch.promote_types(z.dtype, torch.float32))
        for layer in reversed(self.layers):
            h, log_det = layer(h, *cond, inverse=True)
            total = total + log_det
        return h.reshape(z.shape[0], *shape), total

    def _check_shape(self, x: Tensor) -> None:
        if x.dim() < 2 or math.prod(x.shape[1:]) != self.num_inputs:
            raise fail("MAF", "x", f"shape [N, ...] with {self.num_inputs} elements a sample", list(x.shape))

    def _sample_shape(self) -> tuple[int, ...]:
        return self.trained_shape or (self.num_inputs,)
