"""The inverse of a masked autoregressive layer in plain PyTorch, number after number: of y = x e^f + t, where the shift t and
log scale f of a number are made by a network of the numbers before it (Papamakarios, Pavlakou and Murray 2017, "Masked
Autoregressive Flow for Density Estimation", whose layers are the other way round), or of y = a spline of x, whose numbers are
made so (Durkan, Bekasov, Murray and Papamakarios 2019, "Neural Spline Flows").

Append-only: each unit is computed once, when the last number that it sees is known. Units are sorted by degree, so that what a
unit sees is a prefix of the layer before, and what a step completes is a slice.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pygen.reference import rational_quadratic_spline
from pygen.reference.affine_coupling import _factor, _root

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "elu": F.elu,
    "silu": F.silu,
}


def slope(activation: str, x: Tensor, value: Tensor) -> Tensor:
    """The derivative by x, value being that of x."""
    if activation == "relu":
        return (value > 0).to(x.dtype)
    if activation == "tanh":
        return 1 - value * value
    if activation == "elu":
        return torch.where(x > 0, torch.ones_like(x), value + 1)
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


Activate = Callable[[int, slice, Tensor], object]  # (hidden layer, which of its units, their sums [units, n]): in place


@dataclass(frozen=True)
class DenseNetwork:
    """Layers over flat inputs that come one after the other: hidden units see sources of a degree up to their own, outputs
    those below it. Degrees are from 0 on; what they make dead may be anything.

    An input gives the first layer one number or several, and the last layer has `numbers` rows for each input: number k of
    input d is row d * input_stride + k * number_stride.
    """

    weights: tuple[Tensor, ...]  # [out, in]
    biases: tuple[Tensor, ...]  # [out], or [n, out]: each sample's own
    degrees: tuple[tuple[int, ...], ...]  # of each layer's sources
    when: tuple[int, ...]  # each input's turn
    numbers: int
    input_stride: int
    number_stride: int
    activation: str = "relu"  # of ACTIVATIONS

    def orders(self) -> list[list[int]]:
        """Of the sources of each layer, then of the outputs: which comes when."""
        outputs = [
            d * self.input_stride + k * self.number_stride for d in _sorted(self.when) for k in range(self.numbers)
        ]
        return [*map(_sorted, self.degrees), outputs]


def _sorted(degrees: Sequence[int]) -> list[int]:
    return sorted(range(len(degrees)), key=degrees.__getitem__)


class AppendOnly:
    """units: of each layer of sources, [units, n], by degree. Prefixes of it are contiguous matrices."""

    def __init__(self, network: DenseNetwork, n: int) -> None:
        weight = network.weights[0]
        orders = [torch.tensor(order, dtype=torch.int64, device=weight.device) for order in network.orders()]
        self.degrees = [sorted(degrees) for degrees in network.degrees]
        self.weights = [
            w[rows][:, columns] for w, (columns, rows) in zip(network.weights, pairwise(orders), strict=True)
        ]
        self.biases = [torch.atleast_2d(b)[:, rows].T for b, rows in zip(network.biases, orders[1:], strict=True)]
        self.units = [weight.new_empty(len(degrees), n) for degrees in self.degrees]
        self.numbers, self.sources = network.numbers, len(self.degrees[0]) // len(network.when)

    def outputs(self, step: int) -> Tensor:
        """[numbers, n], of the hidden units enabled before the step."""
        rows, seen = slice(step * self.numbers, (step + 1) * self.numbers), bisect_left(self.degrees[-1], step)
        return torch.addmm(self.biases[-1][rows], self.weights[-1][rows, :seen], self.units[-1][:seen])

    def given(self, step: int) -> Tensor:
        """[sources, n]: where the numbers of the step's input go."""
        return self.units[0][step * self.sources : (step + 1) * self.sources]

    def enable(self, step: int, activate: Activate) -> None:
        """Computes the hidden units that see the input of this step, and none after it."""
        for layer, (weight, bias) in enumerate(zip(self.weights[:-1], self.biases[:-1], strict=True)):
            degrees = self.degrees[layer + 1]
            made = slice(bisect_left(degrees, step), bisect_right(degrees, step))
            if made.start < made.stop:
                seen = bisect_right(self.degrees[layer], step)
                units = self.units[layer + 1][made]
                torch.addmm(bias[made], weight[made, :seen], self.units[layer][:seen], out=units)
                activate(layer, made, units)


Invert = Callable[
    [Tensor, Tensor], tuple[Tensor, Tensor | float]
]  # of y [n] and made [numbers, n]: x, its log-derivative


def _run(y: Tensor, network: DenseNetwork, invert: Invert) -> tuple[Tensor, Tensor]:
    """x [n, D] and log_det [n]. In the weights' dtype, which is y's; log_det in float64."""
    net = AppendOnly(network, len(y))
    log_det, activation = y.new_zeros(len(y), dtype=torch.float64), ACTIVATIONS[network.activation]
    x = torch.empty_like(y, memory_format=torch.contiguous_format)
    for step, at in enumerate(_sorted(network.when)):
        value, log = invert(y[:, at], net.outputs(step))
        net.given(step)[0] = x[:, at] = value
        log_det += log
        net.enable(step, lambda layer, made, units: units.copy_(activation(units)))
    return x, log_det


def forward(
    y: Tensor,  # [n, D]
    network: DenseNetwork,  # an input gives one number; two numbers of it, shift and log_scale, or the shift alone
    scale: str,
    bound: float,
) -> tuple[Tensor, Tensor]:
    def invert(u: Tensor, made: Tensor) -> tuple[Tensor, Tensor | float]:
        if network.numbers == 1:
            return u - made[0], 0.0
        root, rest, f, _ = _factor(made[1], scale, bound, True)
        return (u - made[0]) * root * root * rest, -f

    return _run(y, network, invert)


def forward_spline(
    y: Tensor,  # [n, D]
    network: DenseNetwork,  # an input gives one number; all numbers of its spline
    *options: Any,  # tails .. beta of rational_quadratic_spline
) -> tuple[Tensor, Tensor]:
    def invert(u: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
        x, log = rational_quadratic_spline.compose(u.unsqueeze(1), made.T, "all", False, *options, True)
        return x[:, 0], log

    return _run(y, network, invert)


def transposed(network: DenseNetwork) -> DenseNetwork:
    """What takes gradients of the outputs to those of the inputs: a network of the same kind, in which turns are the other way
    round. Its inputs give it `numbers` numbers each, and it has no biases."""
    last = len(network.when) - 1
    when = tuple(last - turn for turn in network.when)
    hidden = [tuple(last - 1 - degree for degree in degrees) for degrees in network.degrees[:0:-1]]
    sources = [0] * (len(when) * network.numbers)
    for d, turn in enumerate(when):
        for k in range(network.numbers):
            sources[d * network.input_stride + k * network.number_stride] = turn
    weights = tuple(weight.T for weight in reversed(network.weights))
    biases = tuple(weight.new_zeros(len(weight)) for weight in weights)
    return DenseNetwork(weights, biases, (tuple(sources), *hidden), when, 1, 1, 0)


def solve(
    grad: Tensor,  # [n, D]: g
    network: DenseNetwork,  # transposed
    root: Tensor | None,  # [n, D]: what v is multiplied by twice; None: 1
    slope: Tensor | None,  # [n, D, factors], as offset: an input's last gradients are slope v + offset each
    offset: Tensor | None,
    hidden: Sequence[Tensor],  # [n, units], of each layer made: derivatives of units by their sums
) -> Tensor:
    """v [n, D], of which J^T v = g. Of an input's gradients that the network takes the first is v where it has one more than
    there are factors. For y = x e^f + t, with J the derivative of y by x: e^(-f / 2), and one factor, log_scale's."""
    net = AppendOnly(network, len(grad))
    orders = [torch.tensor(order, dtype=torch.int64, device=grad.device) for order in network.orders()[1:-1]]
    slopes = [of_units.T[order] for of_units, order in zip(hidden, orders, strict=True)]
    solved = torch.empty_like(grad, memory_format=torch.contiguous_format)
    for step, at in enumerate(_sorted(network.when)):
        value = grad[:, at] - net.outputs(step)[0]
        if root is not None:
            value = value * root[:, at] * root[:, at]
        solved[:, at] = value
        given = net.given(step)
        if slope is not None and offset is not None:
            given[net.sources - slope.shape[2] :] = slope[:, at].T * value + offset[:, at].T
        if slope is None or net.sources > slope.shape[2]:
            given[0] = value
        net.enable(step, lambda layer, made, units: units.mul_(slopes[layer][made]))
    return solved


def factors(
    y: Tensor, shift: Tensor, log_scale: Tensor, grad_log_det: Tensor | None, scale: str, bound: float
) -> tuple[Tensor, Tensor, Tensor]:
    """root, slope and offset [n, D] of `solve`. The gradient of log_det, minus the sum of f, reaches log_scale as -grad f'."""
    f = _factor(log_scale, scale, bound, True)[2]
    derivative = _derivative(log_scale, scale, bound)
    offset = torch.zeros_like(f) if grad_log_det is None else derivative * grad_log_det.unsqueeze(1).to(f.dtype)
    return _root(-f), (y - shift) * derivative, offset


def _derivative(s: Tensor, scale: str, bound: float) -> Tensor:
    """df / ds, of an exponential: torch.sigmoid rounds the last places of a tensor otherwise than the others, so that a sample
    would depend on its neighbours."""
    if scale == "exp":
        return torch.ones_like(s)
    a = 2 * s / bound if scale == "tanh" else s + 2
    e = torch.exp(-a.abs())
    return 4 * e / (1 + e).square() if scale == "tanh" else torch.where(a < 0, 1, e) / (1 + e)
