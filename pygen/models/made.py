"""MADE (Germain, Gregor, Murray, Larochelle, "MADE: Masked Autoencoder for Distribution Estimation", 2015)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygen._checks import check_tensor, fail
from pygen._noise import DOMAINS
from pygen.functional import categorical_nll, masked_linear
from pygen.reference import noise

from . import _engines, _sampling
from ._arguments import check_int, check_ints
from ._levels import check_levels, scale_levels
from ._pixel_model import ShapeMemory
from ._program import DenseProgram
from ._task import Task, Watch, evaluating

Degrees = tuple[int, ...]


class MADE(ShapeMemory):
    """A ReLU network in which input d reaches only the outputs of the inputs after it: p(x) = prod_d p(x_d | x_<d).

    No mask is stored: a weight is live where its output's degree is at least its input's (at the last layer, above it).
    Hidden degrees rise evenly from 0 to num_inputs - 2. With several orderings one set of weights serves them all, and the
    model is their mixture: the mean of their joint probabilities, which is a distribution (a mean of logits is not).
    The twin is `pygen.reference.models.MADE`: same keys, same methods.

    Args:
        num_inputs: D.
        hidden_sizes: widths of the hidden layers; one int is one layer.
        num_levels: L; inputs are levels 0 .. L - 1.
        num_orders: K orderings; the first is raster order, the others are random and fixed. The cost is K-fold.
    """

    program_type: type = DenseProgram

    def __init__(
        self, num_inputs: int, hidden_sizes: int | Sequence[int], *, num_levels: int = 2, num_orders: int = 1
    ) -> None:
        super().__init__()
        self.num_inputs = check_int("MADE", "num_inputs", num_inputs)
        hidden_sizes = check_ints("MADE", "hidden_sizes", hidden_sizes)
        if not hidden_sizes:
            raise fail("MADE", "hidden_sizes", "at least one width", "none")
        self.num_levels = check_int("MADE", "num_levels", num_levels, at_least=2)
        self.num_orders = check_int("MADE", "num_orders", num_orders)
        sizes = (self.num_inputs, *hidden_sizes, self.num_inputs * self.num_levels)
        self.layers = nn.ModuleList(nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(sizes))
        hidden = tuple(_hidden_degrees(size, self.num_inputs) for size in hidden_sizes)
        self._degrees: tuple[tuple[Degrees, ...], ...] = tuple(  # of each ordering, of each layer's units
            (order, *hidden, tuple(d for d in order for _ in range(self.num_levels)))
            for order in (_order_degrees(self.num_inputs, k) for k in range(self.num_orders))
        )

    @property
    def orders(self) -> list[list[int]]:
        """When each input comes, in each ordering."""
        return [list(degrees[0]) for degrees in self._degrees]

    def logits(self, x: Tensor, order: int = 0) -> Tensor:
        """The levels' logits of each input given those before it in that ordering, [N, D, num_levels]."""
        if check_int("MADE", "order", order, at_least=0) >= self.num_orders:
            raise fail("MADE", "order", f"0 .. {self.num_orders - 1}", order)
        return self._logits(self._scaled(x), order)

    def order_log_probs(self, x: Tensor) -> Tensor:
        """log p(x) under each ordering, [K, N] nats."""
        scaled = self._scaled(x)
        return -torch.stack([self._nll(scaled, x, order, "none") for order in range(self.num_orders)])

    def _nll(self, scaled: Tensor, x: Tensor, order: int, reduction: str) -> Tensor:
        return categorical_nll(self._logits(scaled, order).flatten(1), x.flatten(1), reduction=reduction)

    def log_prob(self, x: Tensor, cond: None = None) -> Tensor:
        """log p(x) of the mixture of orderings, [N] nats, exact.

        Args:
            x: levels [N, ...] with D inputs each.
            cond: always None, this model is unconditional.
        """
        _refuse_cond(cond)
        log_probs = self.order_log_probs(x)
        return log_probs[0] if self.num_orders == 1 else log_probs.logsumexp(0) - math.log(self.num_orders)

    def loss(self, x: Tensor, cond: None = None) -> Tensor:
        """Minus the batch's mean of log p(x), in nats."""
        _refuse_cond(cond)
        one = self.num_orders == 1  # whose gradient needs no scaling when it comes back
        loss = self._nll(self._scaled(x), x, 0, "batchmean") if one else -self.log_prob(x).mean()
        if self.training:
            self.trained_shape = tuple(x.shape[1:])
        return loss

    def forward(self, x: Tensor, cond: None = None) -> Tensor:
        """`loss`, under the name that wrappers such as DistributedDataParallel call."""
        return self.loss(x, cond)

    def sample(
        self,
        n: int,
        shape: Sequence[int] | None = None,
        *,
        cond: None = None,
        known: Tensor | None = None,
        known_mask: Tensor | None = None,
        temperature: float = 1.0,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        engine: str | None = None,
        progress: bool = False,
    ) -> Tensor:
        """n samples of levels [n, *shape], uint8 (int64 beyond 256 levels): each in an ordering of its own draw.

        Sample i depends on the seed, on i and on what is known of it: not on its batch-mates.

        Args:
            n: how many.
            shape: with D elements. None means that of the last training batch, and (D,) before there was one.
            cond: always None.
            known, known_mask, temperature, seed, generator, engine, progress: as in `PixelCNN.sample`. Known inputs guide
                those that come after them in the sample's ordering.
        """
        _refuse_cond(cond)
        n = check_int("MADE", "n", n, at_least=0)
        shape = check_ints("MADE", "shape", tuple(self.trained_shape or (self.num_inputs,) if shape is None else shape))
        if math.prod(shape) != self.num_inputs:
            raise fail("MADE", "shape", f"{self.num_inputs} elements", shape)
        engine = _engines.choose(self, engine)
        drawing, extra = _sampling.prepare(
            "MADE",
            n,
            shape,
            self.num_levels,
            self._weight.device,
            known=known,
            known_mask=known_mask,
            temperature=temperature,
            seed=seed,
            generator=generator,
            extra_draws=1,
        )
        flat = drawing.flat()
        watch = Watch(self, flat.levels.numel(), progress)
        at_once = _engines.images_at_once(watch, engine, self.num_inputs, 1)
        with evaluating(self, watch.modules):
            if self.num_orders == 1:  # in place
                parts = (flat.rows(slice(first, first + at_once)) for first in range(0, n, at_once))
                _engines.run(engine, (self._task(some, 0) for some in parts), watch)
                return drawing.levels
            ordering = (extra[:, 0].double() * self.num_orders).ceil().long() - 1
            for order in range(self.num_orders):
                for rows in (ordering == order).nonzero()[:, 0].split(at_once):
                    some = flat.rows(rows)
                    _engines.run(engine, [self._task(some, order)], watch)
                    flat.levels[rows] = some.levels
        return drawing.levels

    def _task(self, drawing: _sampling.Drawing, order: int) -> Task:
        when = self._degrees[order][0]

        def steps() -> list[tuple]:
            return [(slice(None), d) for d in sorted(range(self.num_inputs), key=when.__getitem__)]

        def logits(levels: Tensor, rows: slice | Tensor) -> Tensor:
            return self._logits(scale_levels(levels, self.num_levels, self._weight.dtype), order)

        return Task(self, drawing, steps, logits, lambda outputs, levels: outputs, lambda: self._program(order))

    def _program(self, order: int) -> DenseProgram:
        layers = cast("list[nn.Linear]", self.layers)
        weights, biases = (
            tuple(t.detach() for t in ts) for ts in zip(*((m.weight, m.bias) for m in layers), strict=True)
        )
        return DenseProgram(weights, biases, self._degrees[order][:-1], self.num_levels)

    def _logits(self, x: Tensor, order: int) -> Tensor:  # scaled [N, D] -> [N, D, L]
        degrees = self._degrees[order]
        last = len(self.layers) - 1
        for i, layer in enumerate(cast("list[nn.Linear]", self.layers)):
            x = masked_linear(
                x if i == 0 else F.relu(x),
                layer.weight,
                layer.bias,
                in_degrees=degrees[i],
                out_degrees=degrees[i + 1],
                strict=i == last,
            )
        return x.unflatten(1, (self.num_inputs, self.num_levels))

    def _scaled(self, x: Tensor) -> Tensor:
        """Checked levels [N, ...] as [N, D] in [-1, 1]."""
        check_tensor("MADE", "x", x)
        if x.dim() < 2 or math.prod(x.shape[1:]) != self.num_inputs:
            raise fail("MADE", "x", f"shape [N, ...] with {self.num_inputs} elements a sample", list(x.shape))
        check_levels("MADE", x, self.num_levels, x.shape[1:])
        return scale_levels(x.flatten(1), self.num_levels, self._weight.dtype)

    @property
    def _weight(self) -> Tensor:
        return cast(nn.Linear, self.layers[0]).weight


def _hidden_degrees(size: int, num_inputs: int) -> Degrees:
    """Evenly from 0 to num_inputs - 2, rising, so that live weights lie in blocks. The last input feeds nothing."""
    return tuple(i * max(1, num_inputs - 1) // size for i in range(size))


def _order_degrees(num_inputs: int, k: int) -> Degrees:
    """Ordering k: raster order first, then random ones that no version of torch's generators can change."""
    if k == 0:
        return tuple(range(num_inputs))
    words = noise.words(num_inputs, torch.tensor(k), 1, DOMAINS["sampling"]).flatten()[:num_inputs]
    return tuple(words.argsort(stable=True).tolist())


def _refuse_cond(cond: object) -> None:
    if cond is not None:
        raise fail("MADE", "cond", "None, as this model is unconditional", type(cond).__name__, kind=TypeError)
