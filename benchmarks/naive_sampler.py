"""Sampling as people write it: a forward of the whole images for every value, or for every pixel whose channels it serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pygen.models import _sampling
from pygen.models._mixture import Mixture
from pygen.models.pixel_cnn_pp import MIN_LOG_SCALE

Shape = tuple[int, ...]


class Conditionals(NamedTuple):
    """What a model's values are drawn from: `of` a forward's outputs and the levels; `turns` values of a pixel share one."""

    forward: Callable[[Tensor], Tensor]
    of: Callable[[Tensor, Tensor], Tensor | Mixture]
    turns: int


def naive(model: Conditionals, levels: Tensor, u: Tensor, steps: int) -> None:
    """The last `steps` decisions of each image [n, *shape], as a sampler of whole forwards makes them."""
    with torch.no_grad():
        places = list(places_of(levels.shape[1:]))
        for i, where in enumerate(places[len(places) - steps :]):
            if i % model.turns == 0:
                outputs = model.forward(levels)
            drawn = _sampling.decide(model.of(outputs, levels)[where], u[where], 1.0)
            levels[where] = drawn.to(levels.dtype)


def places_of(shape: Shape) -> list[tuple]:
    """Indices in the order in which values are drawn: pixel by pixel, channel by channel."""
    if len(shape) == 1:
        return [(slice(None), d) for d in range(shape[0])]
    channels, height, width = shape
    return [(slice(None), c, y, x) for y in range(height) for x in range(width) for c in range(channels)]


def conditionals(model: nn.Module, forward: Callable[[Tensor], Tensor] | None = None) -> Conditionals:
    """[n, *shape, L], or mixtures [n, *shape]. forward: `forward_of` of the model, or compiled."""
    forward = forward or forward_of(model)
    if hasattr(model, "mixture_params"):
        channels, given = model.in_channels, (model.num_levels, MIN_LOG_SCALE)
        return Conditionals(forward, lambda outputs, levels: Mixture.of(outputs, levels, *given), channels)
    return Conditionals(forward, lambda outputs, levels: outputs.movedim(2, -1) if levels.dim() == 4 else outputs, 1)


def forward_of(model: nn.Module) -> Callable[[Tensor], Tensor]:
    return model.mixture_params if hasattr(model, "mixture_params") else model.logits
