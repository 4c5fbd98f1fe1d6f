"""Tensors as the CUDA kernels of gan_loss take them: each one run of memory, all of a segment's in the same order."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen._layout import is_channels_last
from pygen.native._arguments import strided


def _laid_as(t: Tensor, like: Tensor) -> Tensor:
    """`t` in the memory order of `like`, which is contiguous or channels_last."""
    return t.contiguous(memory_format=torch.contiguous_format if like.is_contiguous() else torch.channels_last)


def flat_logits(real: Sequence[Tensor], fake: Sequence[Tensor], other: str) -> tuple[list[Tensor], list[Tensor]]:
    """The logits, copied where they are neither contiguous nor channels_last; pairs in one order, that of real."""
    both = [[t if is_channels_last(t) else t.contiguous() for t in side] for side in (real, fake)]
    if other == "pair":
        both[1] = [_laid_as(f, r) for r, f in zip(*both, strict=True)]
    return both[0], both[1]


def flat_upstream(grad: Tensor | None, like: Tensor) -> Tensor | None:
    """The gradient of terms in the order of their logits `like`; one that is a single number stays so."""
    if grad is None or (grad.numel() > 1 and not any(grad.stride())):
        return grad
    return _laid_as(grad, like)


def flat_gradient(grad: Tensor | None, like: Tensor) -> Tensor | None:
    """Where the kernel writes the gradient that `grad` gets: itself, or memory in the order of the logits `like`."""
    if grad is None or grad.stride() == like.stride():
        return grad
    return torch.empty_like(like)


def view(t: Tensor | None) -> tuple | None:
    if t is None:
        return None
    address, strides = strided(t)
    if t.numel() > 1 and not any(strides):
        return address, t.shape, strides
    return address, t.numel()
