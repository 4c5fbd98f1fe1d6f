"""MADE (Germain, Gregor, Murray, Larochelle, "MADE: Masked Autoencoder for Distribution Estimation", 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from pygen._checks import fail
from pygen.functional import categorical_nll, masked_linear
from pygen.nn._autoregressive import hidden_degrees

from ._arguments import check_input_range, check_int, check_ints
from ._levels import scale_levels
from ._ordered import Degrees, OrderedModel, order_degrees
from ._program import DenseProgram


class MADE(OrderedModel):
    """A density of discrete vectors, p(x) = prod_d p(x_d | x_<d), by one masked ReLU network: exact and quick to train.

    Input d reaches only the outputs of the inputs after it. No mask is stored: a weight is live where its output's
    degree is at least its input's (at the last layer, above it). Hidden degrees rise evenly from 0 to num_inputs - 2.
    With several orderings one set of weights serves them all, and the model is their mixture: the mean of their joint
    probabilities, which is a distribution (a mean of logits is not). Germain et al. 2015. The twin is
    `pygen.reference.models.MADE`: same keys, same methods.

    Args:
        num_inputs: D.
        hidden_sizes: widths of the hidden layers; one int is one layer.
        num_levels: L; inputs are levels 0 .. L - 1.
        num_orders: K orderings; the first is raster order, the others are random and fixed. The cost is K-fold.
        input_range: (low, high): as what the network sees levels 0 and num_levels - 1, others evenly between. (0, 1) suits
            weights of code that feeds the images of torchvision's `ToTensor`.

    Example:
        >>> model = pygen.models.MADE(16, 32)
        >>> x = torch.randint(2, (8, 16))  # levels, int64 or uint8
        >>> model.loss(x).backward()
        >>> model.log_prob(x).shape, model.sample(4).shape
        (torch.Size([8]), torch.Size([4, 16]))
    """

    program_type = DenseProgram

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
        self.num_inputs = check_int("MADE", "num_inputs", num_inputs)
        hidden_sizes = check_ints("MADE", "hidden_sizes", hidden_sizes)
        if not hidden_sizes:
            raise fail("MADE", "hidden_sizes", "at least one width", "none")
        self.num_levels = check_int("MADE", "num_levels", num_levels, at_least=2)
        self.num_orders = check_int("MADE", "num_orders", num_orders)
        self.input_range = check_input_range("MADE", input_range)
        sizes = (self.num_inputs, *hidden_sizes, self.num_inputs * self.num_levels)
        self.layers = nn.ModuleList(_Layer(fan_in, fan_out) for fan_in, fan_out in pairwise(sizes))
        hidden = tuple(hidden_degrees(size, self.num_inputs) for size in hidden_sizes)
        self._degrees: tuple[tuple[Degrees, ...], ...] = tuple(  # of each ordering, of each layer's units
            (order, *hidden, tuple(d for d in order for _ in range(self.num_levels)))
            for order in (order_degrees(self.num_inputs, k) for k in range(self.num_orders))
        )

    def _when(self, order: int) -> Degrees:
        return self._degrees[order][0]

    def _inputs(self, levels: Tensor) -> Tensor:
        return scale_levels(levels, self.num_levels, self._weight.dtype, self.input_range)

    def _logits(self, inputs: Tensor, order: int) -> Tensor:
        degrees = self._degrees[order]
        last = len(self.layers) - 1
        x = inputs
        for i, layer in enumerate(cast("list[_Layer]", self.layers)):
            x = layer(x if i == 0 else F.relu(x), degrees[i], degrees[i + 1], i == last)
        return x.unflatten(1, (self.num_inputs, self.num_levels))

    def _nll(self, inputs: Tensor, levels: Tensor, order: int, reduction: str) -> Tensor:
        return categorical_nll(self._logits(inputs, order).flatten(1), levels, reduction=reduction)

    def _program(self, order: int) -> DenseProgram:
        layers = cast("list[_Layer]", self.layers)
        weights, biases = (
            tuple(t.detach() for t in ts) for ts in zip(*((m.weight, m.bias) for m in layers), strict=True)
        )
        return DenseProgram(weights, biases, self._degrees[order][:-1], self.num_levels, self.input_range)


class _Layer(nn.Linear):
    """Degrees come with each call, as one set of weights serves all orderings. Called, so that its hooks are."""

    def forward(self, input: Tensor, in_degrees: Degrees, out_degrees: Degrees, strict: bool) -> Tensor:  # type: ignore[override]
        return masked_linear(
            input, self.weight, self.bias, in_degrees=in_degrees, out_degrees=out_degrees, strict=strict
        )
