"""Checks of what models are constructed and called with, in the wording of `pygen._checks`."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Generator, Tensor

from pygen._checks import fail
from pygen._noise import resolve_seed

from ._levels import InputRange


def check_int(model: str, name: str, value: object, at_least: int = 1) -> int:
    """An int (NumPy's too) of that size or more."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise fail(model, name, "an int", f"{value!r} ({type(value).__name__})", kind=TypeError)
    number = operator.index(value)
    if number < at_least:
        raise fail(model, name, f"a number >= {at_least}", number)
    return number


def check_ints(model: str, name: str, values: object, at_least: int = 1) -> tuple[int, ...]:
    """One int or several."""
    if not isinstance(values, Sequence):
        return (check_int(model, name, values, at_least),)
    return tuple(check_int(model, name, value, at_least) for value in values)


def check_odd(model: str, name: str, value: object) -> int:
    size = check_int(model, name, value)
    if size % 2 == 0:
        raise fail(model, name, f"an odd size (the nearest are {size - 1} and {size + 1})", size)
    return size


def check_multiple(model: str, name: str, value: object, of: int, why: str) -> int:
    number = check_int(model, name, value)
    if number % of:
        below = number - number % of
        near = f"{below} and {below + of}" if below else f"{of} and {2 * of}"
        raise fail(model, name, f"a multiple of {of}, {why} (the nearest are {near})", number)
    return number


def check_input_range(model: str, value: object) -> InputRange:
    """Two finite numbers (NumPy's too), the first one below the second."""
    expected = "(low, high), two numbers, what levels 0 and num_levels - 1 become"
    ends = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if len(ends) != 2 or any(isinstance(end, bool) or not isinstance(end, Real) for end in ends):
        raise fail(model, "input_range", expected, f"{value!r} ({type(value).__name__})", kind=TypeError)
    try:
        low, high = map(float, ends)
    except OverflowError:
        low = high = math.inf
    if not (math.isfinite(high - low) and low < high):
        raise fail(model, "input_range", f"{expected}, finite, low < high", value)
    return low, high


def check_color_groups(model: str, in_channels: object, color_groups: object) -> tuple[int, int]:
    """Both as ints: the image's channels are that many contiguous groups of equal size."""
    channels, groups = check_int(model, "in_channels", in_channels), check_int(model, "color_groups", color_groups)
    if channels % groups:
        raise fail(model, "color_groups", f"a divisor of in_channels = {channels}", groups)
    return channels, groups


def hidden_width(model: str, hidden_channels: object, multiple: int, why: str) -> int:
    """None: the first valid width from 64 on."""
    if hidden_channels is None:
        return -(-64 // multiple) * multiple
    return check_multiple(model, "hidden_channels", hidden_channels, multiple, why)


def noise_source(
    model: str, seed: int | Tensor | None, generator: Generator | None, device: torch.device
) -> Generator | None:
    """What to draw from on `device`: a new generator with that seed, the given one, or None, torch's default."""
    if seed is not None:
        return Generator(device).manual_seed(int(resolve_seed(model, seed, generator, device)))
    if generator is not None:
        if not isinstance(generator, Generator):
            raise fail(model, "generator", "a torch.Generator", type(generator).__name__, kind=TypeError)
        if generator.device.type != device.type:
            raise fail(model, "generator", f"a generator on {device}", generator.device)
    return generator
