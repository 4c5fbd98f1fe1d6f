"""The halves of a tensor along dim 1, whose gradients need not be put together where they already lie so."""

from typing import Any

import torch
from torch import Tensor

from pygen import _dispatch


def halves(t: Tensor) -> tuple[Tensor, Tensor]:
    """t.chunk(2, 1); of an even number of channels t's gradient is no copy where a kernel has written both halves of it."""
    if t.requires_grad and torch.is_grad_enabled() and t.shape[1] % 2 == 0 and _dispatch.is_plain(t):
        return _Halves.apply(t)
    first, second = t.chunk(2, 1)
    return first, second


def are_halves(first: Tensor, second: Tensor | None) -> bool:
    """Whether `halves` made them, in this order, so that gradients that lie together need no copy."""
    node = first.grad_fn
    made = second is not None and node is not None and second.grad_fn is node
    return made and type(node).__name__ == "_HalvesBackward" and (first.output_nr, second.output_nr) == (0, 1)


class _Halves(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor) -> tuple[Tensor, Tensor]:
        first, second = t.chunk(2, 1)
        return first, second

    @staticmethod
    def backward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:  # zeros where one was not used
        if not torch.is_grad_enabled() and _dispatch.is_plain(first, second) and _adjacent(first, second):
            shape = (first.shape[0], 2 * first.shape[1], *first.shape[2:])
            return first.as_strided(shape, first.stride())
        return torch.cat((first, second), 1)


def _adjacent(first: Tensor, second: Tensor) -> bool:
    """Whether they are the halves of one tensor in memory."""
    return (
        first.stride() == second.stride()
        and first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr() != 0
        and second.storage_offset() - first.storage_offset() == first.shape[1] * first.stride(1) > 0
    )
