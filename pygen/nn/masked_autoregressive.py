"""A layer of masked autoregressive flows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from pygen import _dispatch
from pygen._checks import (
    autocast_enabled,
    check_bool,
    check_floating,
    check_like,
    check_size,
    check_tensor,
    fail,
    promote_under_autocast,
)
from pygen.functional import affine_coupling
from pygen.nn.masked_linear import MaskedLinear
from pygen.ops._autoregressive_inverse import by_passes
from pygen.ops._halves import halves
from pygen.ops.affine_coupling import check_scale
from pygen.ops.autoregressive_inverse import autoregressive_inverse

_NAME = "MaskedAutoregressive"


class MaskedAutoregressive(nn.Module):
    """A layer of masked autoregressive flows (MAF, IAF): x -> (y, log_det), y = x e^f + t, from a MADE's shift t and scale f.

    With inverse=True y -> (x, log_det). t and f of a number are what a masked ReLU network makes of the numbers before
    it, and of cond. One way takes one pass of that network. The other has to find number after number, each of which
    the network needs for the next: it computes every unit once, when the last number that it sees is known, so it takes
    about one pass too, where code that runs the whole network for each number takes as many passes as there are
    numbers. Both ways are differentiable to any order; the first order of the inverse goes through the transposed
    network in the same way. At the start it is the identity: the last layer is zeros. Papamakarios et al. 2017, "Masked
    Autoregressive Flow for Density Estimation"; Kingma et al. 2016, "Improving Variational Inference with Inverse
    Autoregressive Flow".

    Args:
        num_inputs: D.
        hidden_sizes: widths of the network's hidden layers; one int is one layer.
        order: when each number comes, 0 .. D - 1 each once; None: as they lie. `range(D)[::-1]`: the last one first.
        cond_features: of cond, which a linear layer without bias adds to the first hidden layer; None: there is none.
        scale, bound: of f, as in pygen.functional.affine_coupling.
        additive: y = x + t.
        backend: of all that runs: "reference", "cpu", "triton" (but for the inverse) or "cuda"; None chooses.

    Example:
        >>> layer = pygen.nn.MaskedAutoregressive(6, (32, 32), cond_features=2)
        >>> x, cond = torch.randn(8, 6), torch.randn(8, 2)
        >>> y, log_det = layer(x, cond)
        >>> y.shape, log_det.shape
        (torch.Size([8, 6]), torch.Size([8]))
        >>> torch.allclose(layer.inverse(y, cond)[0], x, atol=1e-4)
        True
    """

    def __init__(
        self,
        num_inputs: int,
        hidden_sizes: int | Sequence[int],
        *,
        order: Sequence[int] | None = None,
        cond_features: int | None = None,
        scale: str = "exp",
        bound: float | None = None,
        additive: bool = False,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        check_size(_NAME, "num_inputs", num_inputs)
        sizes = (hidden_sizes,) if isinstance(hidden_sizes, int) else hidden_sizes
        if not isinstance(sizes, Sequence) or not sizes:
            raise fail(_NAME, "hidden_sizes", "an int, or a sequence of at least one", repr(hidden_sizes))
        for size in sizes:
            check_size(_NAME, "hidden_sizes", size)
        if cond_features is not None:
            check_size(_NAME, "cond_features", cond_features)
        check_scale(_NAME, scale, bound)
        if check_bool(_NAME, "additive", additive) and scale != "exp":
            raise fail(_NAME, "scale", "'exp', the default, since an additive layer has none", repr(scale))
        turns = tuple(range(num_inputs)) if order is None else _turns(order, num_inputs)
        self.num_inputs, self.order, self.cond_features = num_inputs, turns, cond_features
        self.scale, self.bound, self.additive = scale, bound, additive
        self.backend = _dispatch.checked(_NAME, backend)
        first = 0 if cond_features is None else -1  # units that see cond alone
        hidden = tuple(hidden_degrees(size, num_inputs, first) for size in sizes)
        self._degrees = (turns, *hidden, turns if additive else turns * 2)
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

    def forward(
        self,
        x: Tensor,  # [N, D]
        cond: Tensor | None = None,  # [N, cond_features]
        *,
        inverse: bool = False,
    ) -> tuple[Tensor, Tensor]:
        self._check(x, cond, "y" if inverse else "x")
        if inverse:
            return self._inverse(x, cond)
        shift, log_scale = self._shift_and_scale(x, cond)
        return affine_coupling(x, shift, log_scale, mask=None, scale=self.scale, bound=self.bound, backend=self.backend)

    def inverse(self, y: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(x, log_det of the inverse map)"""
        return self(y, cond, inverse=True)

    def _shift_and_scale(self, x: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor | None]:
        for i, layer in enumerate(self.layers):
            x = layer(x if i == 0 else x.relu())
            if i == 0 and self.cond is not None:
                x = x + self.cond(cond)
        return (x, None) if self.additive else halves(x)

    def _inverse(self, y: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        if not self._is_plain():
            given = (lambda x: self._shift_and_scale(x, cond)), self.scale, self.bound, self.backend
            return by_passes(y, self.order, *given)
        layers = self._layers
        weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
        y = cast("Tensor", promote_under_autocast(y, weights[0])[0])
        check_like(_NAME, "y", y, "the weights", weights[0])
        if self.cond is not None:
            biases[0] = biases[0] + self.cond(cond)
        return autoregressive_inverse(
            y,
            weights,
            biases,
            self._degrees,
            scale=self.scale,
            bound=self.bound,
            backend=self.backend,
        )

    def _is_plain(self) -> bool:
        """Whether the layers are those that this one made, and their weights and biases say all that they do."""
        pairs, last = list(pairwise(self._degrees)), len(self._degrees) - 2
        return len(self.layers) == len(pairs) and all(
            _is_plain(layer) and (layer.in_degrees, layer.out_degrees, layer.strict) == (*degrees, i == last)
            for i, (layer, degrees) in enumerate(zip(self._layers, pairs, strict=True))
        )

    def _check(self, x: object, cond: object, name: str) -> None:
        check_tensor(_NAME, name, x)
        assert isinstance(x, Tensor)
        check_floating(_NAME, name, x)
        if x.dim() != 2 or x.shape[1] != self.num_inputs:
            raise fail(_NAME, name, f"shape [N, {self.num_inputs}]", list(x.shape))
        if self.cond_features is None:
            if cond is not None:
                expected = "None, as the layer has no cond_features"
                raise fail(_NAME, "cond", expected, type(cond).__name__, kind=TypeError)
            return
        shape = [x.shape[0], self.cond_features]
        if cond is None:
            raise fail(_NAME, "cond", f"features {shape}", "None", kind=TypeError)
        check_tensor(_NAME, "cond", cond)
        assert isinstance(cond, Tensor)
        if list(cond.shape) != shape:
            raise fail(_NAME, "cond", f"shape {shape}", list(cond.shape))
        if not autocast_enabled():
            check_like(_NAME, "cond", cond, name, x)
        else:
            check_floating(_NAME, "cond", cond)

    def extra_repr(self) -> str:
        scale = "additive=True" if self.additive else f"scale={self.scale!r}"
        bound = "" if self.bound is None else f", bound={self.bound}"
        cond = "" if self.cond_features is None else f", cond_features={self.cond_features}"
        turns = tuple(range(self.num_inputs))
        named = "range(D)[::-1]" if self.order == turns[::-1] else "of its own"
        order = "" if self.order == turns else f", order={named}"
        return f"{self.num_inputs}, {scale}{bound}{cond}{order}"


def _turns(order: object, num_inputs: int) -> tuple[int, ...]:
    listed = order.tolist() if hasattr(order, "tolist") else order  # of a tensor or an array
    if isinstance(listed, Sequence) and all(isinstance(turn, int) for turn in listed):
        turns = tuple(int(turn) for turn in listed)
        if sorted(turns) == list(range(num_inputs)):
            return turns
    raise fail(_NAME, "order", f"each of 0 .. {num_inputs - 1} once", repr(listed))


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
