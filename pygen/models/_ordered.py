"""What MADE and NADE share: flat inputs in one or several orderings, the mixture of these, and its samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pygen._checks import check_tensor, fail
from pygen._noise import DOMAINS
from pygen.reference import noise

from . import _engines, _sampling
from ._arguments import check_int, check_ints
from ._levels import check_levels
from ._pixel_model import ShapeMemory
from ._task import Task, Watch, evaluating

Degrees = tuple[int, ...]


class OrderedModel(ShapeMemory):
    """p(x) = the orderings' mean of prod_d p(x_d | those before it), x levels [N, ...] with D inputs each.

    A subclass sets the numbers below and defines what raises here; `_program` speaks for its `_logits` to the samplers' engines.
    """

    program_type: type
    num_inputs: int
    num_levels: int
    num_orders: int

    def _when(self, order: int) -> Degrees:
        """When each input comes in that ordering."""
        raise NotImplementedError

    def _inputs(self, levels: Tensor) -> Tensor:
        """Levels [N, D] as `_logits` takes them."""
        raise NotImplementedError

    def _logits(self, inputs: Tensor, order: int) -> Tensor:
        """[N, D, num_levels]"""
        raise NotImplementedError

    def _nll(self, inputs: Tensor, levels: Tensor, order: int, reduction: str) -> Tensor:
        """Of levels [N, D], which inputs are made of."""
        raise NotImplementedError

    def _program(self, order: int) -> object:
        """`_logits` for the samplers' engines, with the weights of now."""
        raise NotImplementedError

    @property
    def _name(self) -> str:
        return type(self).__name__

    @property
    def _weight(self) -> Tensor:
        """Any parameter, for the model's dtype and device."""
        return next(self.parameters())

    @property
    def orders(self) -> list[list[int]]:
        """When each input comes, in each ordering."""
        return [list(self._when(order)) for order in range(self.num_orders)]

    def logits(self, x: Tensor, order: int = 0) -> Tensor:
        """The levels' logits of each input given those before it in that ordering, [N, D, num_levels]."""
        if check_int(self._name, "order", order, at_least=0) >= self.num_orders:
            raise fail(self._name, "order", f"0 .. {self.num_orders - 1}", order)
        return self._logits(self._inputs(self._checked(x)), order)

    def order_log_probs(self, x: Tensor) -> Tensor:
        """log p(x) under each ordering, [K, N] nats."""
        levels = self._checked(x)
        inputs = self._inputs(levels)
        return -torch.stack([self._nll(inputs, levels, order, "none") for order in range(self.num_orders)])

    def log_prob(self, x: Tensor, cond: None = None) -> Tensor:
        """log p(x) of the mixture of orderings, [N] nats, exact.

        Args:
            x: levels [N, ...] with D inputs each.
            cond: always None, this model is unconditional.
        """
        self._refuse_cond(cond)
        log_probs = self.order_log_probs(x)
        return log_probs[0] if self.num_orders == 1 else log_probs.logsumexp(0) - math.log(self.num_orders)

    def loss(self, x: Tensor, cond: None = None) -> Tensor:
        """Minus the batch's mean of log p(x), in nats."""
        self._refuse_cond(cond)
        if self.num_orders == 1:  # whose gradient needs no scaling when it comes back
            levels = self._checked(x)
            loss = self._nll(self._inputs(levels), levels, 0, "batchmean")
        else:
            loss = -self.log_prob(x).mean()
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
        self._refuse_cond(cond)
        n = check_int(self._name, "n", n, at_least=0)
        shape = tuple(self.trained_shape or (self.num_inputs,) if shape is None else shape)
        shape = check_ints(self._name, "shape", shape)
        if math.prod(shape) != self.num_inputs:
            raise fail(self._name, "shape", f"{self.num_inputs} elements", shape)
        engine = _engines.choose(self, engine)
        drawing, extra = _sampling.prepare(
            self._name,
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
        when = self._when(order)

        def steps() -> list[tuple]:
            return [(slice(None), d) for d in sorted(range(self.num_inputs), key=when.__getitem__)]

        def logits(levels: Tensor, rows: slice | Tensor) -> Tensor:
            return self._logits(self._inputs(levels), order)

        return Task(self, drawing, steps, logits, lambda outputs, levels: outputs, lambda: self._program(order))

    def _checked(self, x: Tensor) -> Tensor:
        """Levels [N, ...] as [N, D]."""
        check_tensor(self._name, "x", x)
        if x.dim() < 2 or math.prod(x.shape[1:]) != self.num_inputs:
            raise fail(self._name, "x", f"shape [N, ...] with {self.num_inputs} elements a sample", list(x.shape))
        check_levels(self._name, x, self.num_levels, x.shape[1:])
        return x.flatten(1)

    def _refuse_cond(self, cond: object) -> None:
        if cond is not None:
            expected = "None, as this model is unconditional"
            raise fail(self._name, "cond", expected, type(cond).__name__, kind=TypeError)


def order_degrees(num_inputs: int, k: int) -> Degrees:
    """Ordering k: raster order first, then random ones that no version of torch's generators can change."""
    if k == 0:
        return tuple(range(num_inputs))
    words = noise.words(num_inputs, torch.tensor(k, device="cpu"), 1, DOMAINS["sampling"]).flatten()[:num_inputs]
    return tuple(words.argsort(stable=True).tolist())
