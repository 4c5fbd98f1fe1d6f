"""What layers of autoregressive flows share: a masked network of the numbers before, and both ways of a rule."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from pygen import _dispatch
from pygen._checks import (
    autocast_enabled,
    check_floating,
    check_like,
    check_size,
    check_tensor,
    fail,
    promote_under_autocast,
    without_autocast,
)
from pygen.nn.masked_linear import MaskedLinear
from pygen.ops._autoregressive_inverse import by_passes
from pygen.ops._autoregressive_rules import Rule
from pygen.ops.autoregressive_inverse import autoregressive_inverse
from pygen.reference.autoregressive_inverse import ACTIVATIONS


class AutoregressiveLayer(nn.Module):
    """x -> (y, log_det), each number by a rule of its own; with inverse=True y -> (x, log_det). A subclass gives the rule.

    The last layer is zeros at the start.
    """

    _name: str

    def __init__(
        self,
        num_inputs: int,
        hidden_sizes: int | Sequence[int],
        order: Sequence[int] | None,
        cond_features: int | None,
        numbers: int,  # that the rule needs of an input
        together: bool,  # whether those of an input lie side by side
        activation: str,
        backend: str | None,
    ) -> None:
        super().__init__()
        name = self._name
        check_size(name, "num_inputs", num_inputs)
        sizes = (hidden_sizes,) if isinstance(hidden_sizes, int) else hidden_sizes
        if not isinstance(sizes, Sequence) or not sizes:
            raise fail(name, "hidden_sizes", "an int, or a sequence of at least one", repr(hidden_sizes))
        for size in sizes:
            check_size(name, "hidden_sizes", size)
        if cond_features is not None:
            check_size(name, "cond_features", cond_features)
        if not isinstance(activation, str) or activation not in ACTIVATIONS:
            raise fail(name, "activation", " or ".join(map(repr, ACTIVATIONS)), repr(activation))
        turns = tuple(range(num_inputs)) if order is None else _turns(name, order, num_inputs)
        self.num_inputs, self.order, self.cond_features = num_inputs, turns, cond_features
        self.activation = activation
        self.backend = _dispatch.checked(name, backend)
        first = 0 if cond_features is None else -1  # units that see cond alone
        hidden = tuple(hidden_degrees(size, num_inputs, first) for size in sizes)
        outputs = tuple(turn for turn in turns for _ in range(numbers)) if together else turns * numbers
        self._degrees = (turns, *hidden, outputs)
        pairs = list(pairwise(self._degrees))
        self.layers = nn.ModuleList(
            MaskedLinear(ins, outs, strict=i + 1 == len(pairs), backend=backend) for i, (ins, outs) in enumerate(pairs)
        )
        self.cond = None if cond_features is None else nn.Linear(cond_features, sizes[0], bias=False)
        last = self._layers[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    @property
    def _layers(self) -> list[MaskedLinear]:
        return cast("list[MaskedLinear]", list(self.layers))

    @property
    def _rule(self) -> Rule:
        raise NotImplementedError

    def forward(
        self,
        x: Tensor,  # [N, D]
        cond: Tensor | None = None,  # [N, cond_features]
        *,
        inverse: bool = False,
    ) -> tuple[Tensor, Tensor]:
        self._check(x, cond, "y" if inverse else "x")
        return self._inverse(x, cond) if inverse else self._rule.run(x, self._make(x, cond), False, self.backend)

    def inverse(self, y: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(x, log_det of the inverse map)"""
        return self(y, cond, inverse=True)

    def _make(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """What the rule needs of each number."""
        activation = ACTIVATIONS[self.activation]
        for i, layer in enumerate(self.layers):
            x = layer(x if i == 0 else activation(x))
            if i == 0 and self.cond is not None:
                x = x + self.cond(cond)
        return x

    def _inverse(self, y: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        first = next(self.layers.parameters(), y)
        y, cond = cast("tuple[Tensor, Tensor | None]", promote_under_autocast(y, cond, first)[:2])
        with without_autocast(y):  # the rounding of narrow layers would grow from number to number
            return self._undone(y, cond)

    def _undone(self, y: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        if not self._is_plain():
            return by_passes(y, self.order, lambda x: self._make(x, cond), self._rule, self.backend)
        layers = self._layers
        weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
        check_like(self._name, "y", y, "the weights", weights[0])
        if self.cond is not None:
            biases[0] = biases[0] + self.cond(cond)
        return autoregressive_inverse(y, weights, biases, self._degrees, self.activation, self._rule, self.backend)

    def _is_plain(self) -> bool:
        """Whether the layers are those that this one made, and their weights and biases say all that they do."""
        pairs, last = list(pairwise(self._degrees)), len(self._degrees) - 2
        return len(self.layers) == len(pairs) and all(
            _is_plain(layer) and (layer.in_degrees, layer.out_degrees, layer.strict) == (*degrees, i == last)
            for i, (layer, degrees) in enumerate(zip(self._layers, pairs, strict=True))
        )

    def _check(self, x: object, cond: object, name: str) -> None:
        check_tensor(self._name, name, x)
        assert isinstance(x, Tensor)
        check_floating(self._name, name, x)
        if x.dim() != 2 or x.shape[1] != self.num_inputs:
            raise fail(self._name, name, f"shape [N, {self.num_inputs}]", list(x.shape))
        if self.cond_features is None:
            if cond is not None:
                expected = "None, as the layer has no cond_features"
                raise fail(self._name, "cond", expected, type(cond).__name__, kind=TypeError)
            return
        shape = [x.shape[0], self.cond_features]
        if cond is None:
            raise fail(self._name, "cond", f"features {shape}", "None", kind=TypeError)
        check_tensor(self._name, "cond", cond)
        assert isinstance(cond, Tensor)
        if list(cond.shape) != shape:
            raise fail(self._name, "cond", f"shape {shape}", list(cond.shape))
        if not autocast_enabled():
            check_like(self._name, "cond", cond, name, x)
        else:
            check_floating(self._name, "cond", cond)

    def extra_repr(self) -> str:
        cond = "" if self.cond_features is None else f", cond_features={self.cond_features}"
        turns = tuple(range(self.num_inputs))
        named = "range(D)[::-1]" if self.order == turns[::-1] else "of its own"
        order = "" if self.order == turns else f", order={named}"
        activation = "" if self.activation == "relu" else f", activation={self.activation!r}"
        return f"{self.num_inputs}, {self._extra()}{cond}{order}{activation}"

    def _extra(self) -> str:
        """The rule's options."""
        raise NotImplementedError


def _turns(name: str, order: object, num_inputs: int) -> tuple[int, ...]:
    listed = order.tolist() if hasattr(order, "tolist") else order  # of a tensor or an array
    if isinstance(listed, Sequence) and all(isinstance(turn, int) for turn in listed):
        turns = tuple(int(turn) for turn in listed)
        if sorted(turns) == list(range(num_inputs)):
            return turns
    raise fail(name, "order", f"each of 0 .. {num_inputs - 1} once", repr(listed))


def hidden_degrees(size: int, num_inputs: int, first: int = 0) -> tuple[int, ...]:
    """Evenly from `first` to num_inputs - 2, rising, so that live weights lie in blocks. The last input feeds nothing."""
    return tuple(i * max(1, num_inputs - 1 - first) // size + first for i in range(size))


def _is_plain(layer: nn.Module) -> bool:
    """Whether its weight and bias say all that it does."""
    return (
        isinstance(layer, MaskedLinear)
        and type(layer).forward is MaskedLinear.forward
        and "forward" not in vars(layer)
        and layer.bias is not None
        and not (layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)
    )
