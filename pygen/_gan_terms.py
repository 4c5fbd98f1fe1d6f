"""What the kernels of gan_loss need to know of a kind: one form for each side, applied to y = sign (x - other)."""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from pygen._layout import is_channels_last

KINDS = (
    "minimax",
    "nonsaturating",
    "hinge",
    "least_squares",
    "wasserstein",
    "relativistic",
    "relativistic_average",
)
SMOOTHABLE = ("minimax", "nonsaturating", "least_squares")
RELATIVISTIC = ("relativistic", "relativistic_average")


class Side(NamedTuple):
    """The terms of one side's logits x: weight * form(y), y = sign (x - other)."""

    form: str  # softplus: sp(y); smoothed_softplus: sp(y) - offset y; hinge: relu(1 + y); square: (y - offset)^2; linear: y
    sign: float
    offset: float
    weight: float
    limit: float  # the discriminator is right where y < limit


class Terms(NamedTuple):
    """real, fake: None where that side has no terms. other: "none" 0, "pair" the other side's logit, "mean" its mean."""

    real: Side | None
    fake: Side | None
    other: str


@cache
def terms(kind: str, player: str, label_smoothing: float) -> Terms:
    """The table of pygen/reference/gan_loss.py in this form."""
    if player == "discriminator":
        form = {"hinge": "hinge", "least_squares": "square", "wasserstein": "linear"}.get(kind, "softplus")
        square = form == "square"
        on_real = "smoothed_softplus" if label_smoothing and form == "softplus" else form
        real = Side(on_real, -1.0, label_smoothing - 1.0 if square else label_smoothing, 1.0, -0.5 if square else 0.0)
        fake = Side(form, 1.0, 0.0, 1.0, 0.5 if square else 0.0)
        if kind == "relativistic":
            return Terms(real, None, "pair")
        return Terms(real, fake, "mean" if kind == "relativistic_average" else "none")
    if kind == "relativistic":
        return Terms(Side("softplus", 1.0, 0.0, 1.0, 0.0), None, "pair")
    if kind == "relativistic_average":
        return Terms(Side("softplus", 1.0, 0.0, 1.0, 0.0), Side("softplus", -1.0, 0.0, 1.0, 0.0), "mean")
    fake = {
        "minimax": Side("softplus", 1.0, 0.0, -1.0, 0.0),
        "nonsaturating": Side("softplus", -1.0, 0.0, 1.0, 0.0),
        "least_squares": Side("square", 1.0, 1.0, 1.0, 0.0),
    }.get(kind, Side("linear", -1.0, 0.0, 1.0, 0.0))
    return Terms(None, fake, "none")


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """What losses are computed and returned in."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def made_by_forward(other: str, dtype: torch.dtype) -> bool:
    """Whether a GPU's forward also writes the gradients for an upstream gradient of 1.

    It saves a pass where the upstream gradient is 1, and costs one where it is not, as with a scaled loss, which float16 needs.
    What moves a mean has a gradient only when all is summed.
    """
    return other != "mean" and dtype is not torch.float16


def term_likes(real: tuple[Tensor, ...], fake: tuple[Tensor, ...], kind: str) -> list[Tensor]:
    """The logits whose shapes and layouts the terms of reduction "none" have, in order."""
    if kind == "relativistic":
        return list(real)
    if not real or not fake:
        return [*real, *fake]
    return [t for pair in zip(real, fake, strict=True) for t in pair]


def empty_terms(like: Tensor) -> Tensor:
    """Where the terms of logits `like` go: channels_last iff they are (and are not plainly contiguous too)."""
    dense = like.is_contiguous() or is_channels_last(like)
    layout = torch.preserve_format if dense else torch.contiguous_format
    return torch.empty_like(like, dtype=wide_dtype(like.dtype), memory_format=layout)
