"""Triton's interpreter with the errors of the instructions that float32 arithmetic becomes on a GPU, for a run of the tests:

    python -m pytest -p tools.gpu_arithmetic tests -k triton

A quotient is a product with a reciprocal that is off by 1 ulp at most (`div.full`), exp a power of two of a rounded product
(`ex2.approx`, 2 ulp), square roots are approximate (`sqrt.approx`, 1 ulp); logarithms, sines and cosines come from libdevice.
Which way a result goes follows from its bits. Products are rounded before they are added, which a GPU does not do: so the model
is the harder side to be on. float64, `tl.div_rn` and `tl.sqrt_rn` stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

LOG2_E = np.float32(1.4426950408889634)
Array = np.ndarray


def moved(y: Array) -> Array:
    """Normal numbers of float32 by -1, 0 or 1 step; others as they are."""
    if np.asarray(y).dtype != np.float32:
        return y
    bits = np.array(y, copy=True, ndmin=1).view(np.int32)
    return np.where(_normal(bits), bits + _draw(bits, 3) - 1, bits).view(np.float32).reshape(np.shape(y))


def reciprocal(b: Array) -> Array:
    """One of the two numbers of float32 that 1 / b lies between; of what is not normal the nearest."""
    exact = 1 / np.array(b, np.float64, ndmin=1)
    nearest = exact.astype(np.float32)
    bits = nearest.view(np.int32)
    beyond = np.where(np.abs(nearest) < np.abs(exact), 1, -1)  # the other one, counted in steps away from 0
    move = _normal(bits) & (nearest != exact) & (_draw(bits, 2) == 1)
    return np.where(move, bits + beyond, bits).astype(np.int32).view(np.float32).reshape(np.shape(b))


def _draw(bits: Array, of: int) -> Array:
    return (((bits.astype(np.uint32) * np.uint32(2654435761)) >> np.uint32(9)) % np.uint32(of)).astype(np.int32)


def _normal(bits: Array) -> Array:
    """And so are its neighbours."""
    size = np.abs(bits.view(np.float32))
    return (size > 2 * np.finfo(np.float32).tiny) & (size < 0.5 * np.finfo(np.float32).max)


def near(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Exact where a result is 0 or 1, as at exp(0), log(1), sqrt(1)."""

    def approximate(x: Array) -> Array:
        y = function(x)
        return np.where((y == 0) | (y == 1), y, moved(y)).astype(y.dtype)

    return approximate


def power_of_two(x: Array) -> Array:
    y = np.exp2(x)
    return np.where(x == np.floor(x), y, moved(y)).astype(y.dtype)


def exp(x: Array) -> Array:
    return power_of_two(x * LOG2_E) if np.asarray(x).dtype == np.float32 else np.exp(x)


def quotient(a: Array, b: Array) -> Array:
    exact = np.divide(a, b)
    if exact.dtype != np.float32:
        return exact
    powers = np.frexp(np.abs(b))[0] == 0.5
    return np.where(powers, exact, a * reciprocal(b)).astype(np.float32)


def pytest_sessionstart() -> None:
    from triton.runtime import interpreter  # after tests/conftest.py has chosen it

    def unary(function: Callable[[Array], Array]) -> Callable[..., object]:
        return lambda self, x: self.unary_op(x, function)

    builder = interpreter.InterpreterBuilder
    builder.create_fdiv = lambda self, a, b: self.binary_op(a, b, quotient)
    builder.create_exp, builder.create_exp2 = unary(exp), unary(power_of_two)
    for name, function in {"log": np.log, "log2": np.log2, "sqrt": np.sqrt, "sin": np.sin, "cos": np.cos}.items():
        setattr(builder, f"create_{name}", unary(near(function)))
