"""NADE (Larochelle and Murray, "The Neural Autoregressive Distribution Estimator", 2011)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pygen.functional import nade_nll
from pygen.nn.nade_nll import register_parameters
from pygen.ops.nade_nll import logits_of

from ._arguments import check_int
from ._ordered import Degrees, OrderedModel, order_degrees
from ._program import NadeProgram


class NADE(OrderedModel):
    """A density of binary vectors, p(x) = prod_d p(x_d | x_<d), whose hidden units carry what the inputs before d were.

    Their sums are carried from input to input, so that a likelihood and a sample take O(D H) alike; see
    `pygen.functional.nade_nll`. With several orderings one set of weights serves them all, and the model is their
    mixture: the mean of their joint probabilities (Uria, Murray, Larochelle 2014, "A Deep and Tractable Density
    Estimator"). The twin is `pygen.reference.models.NADE`: same keys, same methods.

    Args:
        num_inputs: D; inputs are levels 0 and 1.
        hidden_size: H.
        num_orders: K orderings; the first is raster order, the others are random and fixed. The cost is K-fold.

    Example:
        >>> model = pygen.models.NADE(16, 8)
        >>> x = torch.randint(2, (8, 16))
        >>> model.loss(x).backward()
        >>> model.log_prob(x).shape, model.sample(4).shape
        (torch.Size([8]), torch.Size([4, 16]))
    """

    program_type = NadeProgram
    num_levels = 2
    weight: nn.Parameter  # [D, H]
    hidden_bias: nn.Parameter  # [H]
    output_weight: nn.Parameter  # [D, H]
    output_bias: nn.Parameter  # [D]

    def __init__(self, num_inputs: int, hidden_size: int, *, num_orders: int = 1) -> None:
        super().__init__()
        self.num_inputs = check_int("NADE", "num_inputs", num_inputs)
        self.hidden_size = check_int("NADE", "hidden_size", hidden_size)
        self.num_orders = check_int("NADE", "num_orders", num_orders)
        register_parameters(self, self.num_inputs, self.hidden_size)
        self._orders = tuple(order_degrees(self.num_inputs, k) for k in range(self.num_orders))

    def _when(self, order: int) -> Degrees:
        return self._orders[order]

    def _turns(self, order: int) -> Tensor | None:
        """The inputs in the order in which they come; None: as they lie."""
        if order == 0:
            return None
        when = self._orders[order]
        return torch.tensor(sorted(range(self.num_inputs), key=when.__getitem__), device=self.weight.device)

    def _in_turn(self, turns: Tensor | None) -> tuple[Tensor, ...]:
        """The parameters, a row for each input in turn."""
        if turns is None:
            return self.weight, self.hidden_bias, self.output_weight, self.output_bias
        return self.weight[turns], self.hidden_bias, self.output_weight[turns], self.output_bias[turns]

    def _inputs(self, levels: Tensor) -> Tensor:
        return levels

    def _logits(self, inputs: Tensor, order: int) -> Tensor:
        turns = self._turns(order)
        ones = logits_of(inputs if turns is None else inputs[:, turns], *self._in_turn(turns))
        if turns is not None:
            ones = ones[:, turns.argsort()]
        return torch.stack((torch.zeros_like(ones), ones), 2)

    def _nll(self, inputs: Tensor, levels: Tensor, order: int, reduction: str) -> Tensor:
        turns = self._turns(order)
        return nade_nll(inputs if turns is None else inputs[:, turns], *self._in_turn(turns), reduction=reduction)

    def _program(self, order: int) -> NadeProgram:
        turns = self._turns(order)
        weight, hidden_bias, output_weight, output_bias = (t.detach() for t in self._in_turn(turns))
        return NadeProgram(weight, hidden_bias, output_weight, output_bias, turns)
