"""Checks of what a GAN is constructed and called with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pygen._checks import check_tensor, fail
from pygen.ops.gradient_penalty import KINDS as PENALTIES

from ._arguments import check_int

_GAMMA = 10.0  # of R1's paper and, as lambda, of WGAN-GP's and DRAGAN's


def check_penalty(
    penalty: Any, gamma: Any, every: Any, discriminator_batch_norm: bool
) -> tuple[str | None, float, int]:
    """The kind of penalty, its factor and its interval, with their defaults."""
    if penalty is None:
        for name, value in (("gamma", gamma), ("penalty_every", every)):
            if value is not None:
                raise fail("GAN", name, "None without a penalty", value)
        return None, _GAMMA, 1
    if penalty not in PENALTIES:
        raise fail("GAN", "penalty", f"None or one of {', '.join(PENALTIES)}", repr(penalty))
    if discriminator_batch_norm:
        expected = "False with a penalty, as it makes samples depend on each other"
        raise fail("GAN", "discriminator_batch_norm", expected, discriminator_batch_norm)
    gamma = _GAMMA if gamma is None else _number("gamma", gamma, "a finite number >= 0", lambda v: 0 <= v < math.inf)
    return penalty, gamma, 1 if every is None else check_int("GAN", "penalty_every", every)


def check_rates(ema_decay: Any, lr: Any, betas: Any) -> tuple[float | None, float, tuple[float, float]]:
    if ema_decay is not None:
        ema_decay = _number("ema_decay", ema_decay, "None or 0 <= ema_decay < 1", lambda v: 0 <= v < 1)
    lr = _number("lr", lr, "a finite number > 0", lambda v: 0 < v < math.inf)
    if not isinstance(betas, Sequence) or len(betas) != 2:
        raise fail("GAN", "betas", "two numbers", betas)
    first, second = (_number("betas", beta, "two numbers, 0 <= beta < 1", lambda v: 0 <= v < 1) for beta in betas)
    return ema_decay, lr, (first, second)


def check_images(argument: str, x: Tensor, shape: Sequence[int], weight: Tensor) -> None:
    """At least one image [N, *shape] of the dtype and on the device of the model's weight."""
    check_tensor("GAN", argument, x)
    if not x.is_floating_point():
        expected = "floats in [-1, 1] (levels x of 0 .. L - 1 become 2 x / (L - 1) - 1)"
        raise fail("GAN", argument, expected, x.dtype, kind=TypeError)
    if x.device != weight.device:
        raise fail("GAN", argument, f"a tensor on {weight.device}, where the model is", x.device)
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise fail("GAN", argument, f"{weight.dtype}, the dtype of the model", x.dtype, kind=TypeError)
    if x.dim() != 4 or x.shape[1:] != torch.Size(shape):
        raise fail("GAN", argument, f"shape [N, {', '.join(map(str, shape))}]", list(x.shape))
    if len(x) == 0:
        raise fail("GAN", argument, "at least one image", list(x.shape))


def _number(name: str, value: Any, expected: str, valid: Callable[[float], bool]) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise fail("GAN", name, expected, f"{value!r} ({type(value).__name__})", kind=TypeError)
    if not valid(value):
        raise fail("GAN", name, expected, value)
    return float(value)
