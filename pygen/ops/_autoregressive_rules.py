"""What maps the inputs of a masked autoregressive layer, of the numbers that its network makes of them: how it runs, how kernels
undo it input after input, and what the gradients of that are solved from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from pygen import _dispatch
from pygen.functional import affine_coupling, rational_quadratic_spline
from pygen.ops._halves import halves
from pygen.reference import autoregressive_inverse as reference
from pygen.reference.autoregressive_inverse import DenseNetwork


class Linear(NamedTuple):
    """What a kernel's `solve` takes, in terms of its solution v [n, D]: of a layer at a solution x of y."""

    root: Tensor | None
    slope: Tensor | None
    offset: Tensor | None
    finish: Callable[[Tensor], tuple[Tensor, Tensor]]  # v: the gradients of y and of what the network makes


class Rule(Protocol):
    """Of made, [n, D * P], the P numbers of input d are the columns d * stride + k * step, k = 0 .. P - 1."""

    def options(self) -> tuple[str, list[float]]:
        """As the op's schema takes them; `parse` takes them back."""

    def strides(self, inputs: int, outputs: int) -> tuple[int, int]:
        """stride and step"""

    def run(self, x: Tensor, made: Tensor, inverse: bool, backend: str | None) -> tuple[Tensor, Tensor]:
        """y and log_det of x [n, d]; the other way round, x and log_det of y. Differentiable to any order."""

    def invert(self, launcher: Any, y: Tensor, network: DenseNetwork) -> tuple[Tensor, Tensor]:
        """x and log_det by a kernel."""

    def linear(self, y: Tensor, made: Tensor, grad_log_det: Tensor | None, backend: str) -> Linear: ...


class Affine(NamedTuple):
    """y = x e^f + t: made is shifts and log_scales, or shifts alone."""

    scale: str
    bound: float | None

    def options(self) -> tuple[str, list[float]]:
        return self.scale, [] if self.bound is None else [self.bound]

    def strides(self, inputs: int, outputs: int) -> tuple[int, int]:
        return 1, inputs

    def run(self, x: Tensor, made: Tensor, inverse: bool, backend: str | None) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._parts(x, made)
        return affine_coupling(
            x, shift, log_scale, mask=None, scale=self.scale, bound=self.bound, inverse=inverse, backend=backend
        )

    def invert(self, launcher: Any, y: Tensor, network: DenseNetwork) -> tuple[Tensor, Tensor]:
        return launcher.forward(y, network, self.scale, self._bound)

    def linear(self, y: Tensor, made: Tensor, grad_log_det: Tensor | None, backend: str) -> Linear:
        shift, log_scale = self._parts(y, made)
        if log_scale is None:
            return Linear(None, None, None, lambda v: (v, -v))
        root, slope, offset = reference.factors(y, shift, log_scale, grad_log_det, self.scale, self._bound)
        parts = slope.unsqueeze(2), offset.unsqueeze(2)
        return Linear(root, *parts, lambda v: (v, -torch.cat((v, slope * v + offset), 1)))

    @property
    def _bound(self) -> float:
        return 1.0 if self.bound is None else self.bound

    def _parts(self, x: Tensor, made: Tensor) -> tuple[Tensor, Tensor | None]:
        return (made, None) if made.shape[1] == x.shape[1] else halves(made)


class Spline(NamedTuple):
    """y is a spline of x, as pygen.functional.rational_quadratic_spline's: made is its params."""

    tails: str | None
    low: float
    high: float
    min_bin_width: float
    min_bin_height: float
    min_derivative: float
    identity_init: bool

    def options(self) -> tuple[str, list[float]]:
        return "spline", [float(self.tails == "linear"), *self[1:-1], float(self.identity_init)]

    def strides(self, inputs: int, outputs: int) -> tuple[int, int]:
        return outputs // inputs, 1

    def run(self, x: Tensor, made: Tensor, inverse: bool, backend: str | None) -> tuple[Tensor, Tensor]:
        return rational_quadratic_spline(
            x,
            made,
            tails=self.tails,
            bound=(self.low, self.high),
            min_bin_width=self.min_bin_width,
            min_bin_height=self.min_bin_height,
            min_derivative=self.min_derivative,
            identity_init=self.identity_init,
            inverse=inverse,
            backend=backend,
        )

    def invert(self, launcher: Any, y: Tensor, network: DenseNetwork) -> tuple[Tensor, Tensor]:
        return launcher.forward_spline(y, network, *self._numbers())

    def linear(self, y: Tensor, made: Tensor, grad_log_det: Tensor | None, backend: str) -> Linear:
        """x = F(y, made): gradients v of x and c of log_det reach made as v dF / dmade + c dlog_det / dmade, and y likewise."""
        launcher = _dispatch.launcher("rational_quadratic_spline", "rational_quadratic_spline", backend, y)

        def back(grad: Tensor | None, grad_log: Tensor | None) -> tuple[Tensor, Tensor]:
            how = "all", False, *self._numbers(), True
            of_y, of_made = launcher.backward(grad, grad_log, y, made, *how, (True, True))
            return of_y, of_made.unflatten(1, (y.shape[1], -1))

        (by_y, slope), (own, offset) = back(-torch.ones_like(y), None), (torch.zeros_like(y), None)
        if grad_log_det is not None:
            own, offset = back(None, -grad_log_det.to(y.dtype))
        offset = torch.zeros_like(slope) if offset is None else offset

        def finish(v: Tensor) -> tuple[Tensor, Tensor]:
            of_made = offset.addcmul_(slope, v.unsqueeze(2)).neg_()  # in place: it is as large as all of made
            return own.addcmul_(by_y, v).neg_(), of_made.flatten(1)

        return Linear(None, slope, offset, finish)

    def _numbers(self) -> tuple[Any, ...]:
        """tails .. beta of the kernels"""
        beta = math.log(2) / (1 - self.min_derivative) if self.identity_init else 1.0
        return self.tails or "none", *self[1:-1], beta


def parse(name: str, numbers: Sequence[float]) -> Rule:
    if name == "spline":
        linear, low, high, width, height, derivative, identity = numbers
        return Spline("linear" if linear else None, low, high, width, height, derivative, bool(identity))
    return Affine(name, *numbers or [None])
