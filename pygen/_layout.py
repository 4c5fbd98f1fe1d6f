"""Which layout outputs have: channels_last iff the input is (and not plainly contiguous too), else contiguous."""

import torch
from torch import Tensor

from pygen.reference._layout import is_channels_last as is_channels_last


def empty_output(like: Tensor, lead: int | None = None) -> Tensor:
    """An uninitialised tensor of like's shape (or [lead, *shape], each slab laid out alike), dtype and device."""
    if lead is None:
        if like.is_contiguous() or is_channels_last(like):
            return torch.empty_like(like)
        return torch.empty_like(like, memory_format=torch.contiguous_format)
    if not is_channels_last(like):
        return torch.empty((lead, *like.shape), dtype=like.dtype, device=like.device)
    n, c, h, w = like.shape
    return torch.empty((lead, n, h, w, c), dtype=like.dtype, device=like.device).permute(0, 1, 4, 2, 3)


def empty_images(like: Tensor, channels: int, dtype: torch.dtype | None = None) -> Tensor:
    """An uninitialised [N, channels, ...] for an input [N, C, ...], in its dtype or another."""
    layout = torch.channels_last if is_channels_last(like) else torch.contiguous_format
    shape = (like.shape[0], channels, *like.shape[2:])
    return torch.empty(shape, dtype=dtype or like.dtype, device=like.device, memory_format=layout)


def empty_levels(params: Tensor, channels: int, num_levels: int) -> Tensor:
    """Uninitialised levels [N, channels, ...] for parameters [N, P, ...]: uint8 up to 256 of them, else int64."""
    return empty_images(params, channels, torch.uint8 if num_levels <= 256 else torch.int64)


def empty_bytes(like: Tensor) -> Tensor:
    """Uninitialised uint8 of like's shape."""
    layout = torch.channels_last if is_channels_last(like) else torch.contiguous_format
    return torch.empty(like.shape, dtype=torch.uint8, device=like.device, memory_format=layout)


def empty_gradient(like: Tensor, shape: torch.Size) -> Tensor:
    """Where the gradient of `like` goes; a broadcast input's is as wide as `shape` and still to be summed."""
    if like.shape == shape:
        return torch.empty_like(like)
    return torch.empty(shape, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)


def empty_like_input(like: Tensor, shape: torch.Size) -> Tensor:
    """The finished gradient of `like`, for fakes: what sum_to makes of empty_gradient."""
    return (
        torch.empty_like(like) if like.shape == shape else torch.empty(like.shape, dtype=like.dtype, device=like.device)
    )


def to_output_layout(t: Tensor, like: Tensor) -> Tensor:
    """`t` [.., *like.shape] in the layout of empty_output."""
    if not is_channels_last(like):
        return t.contiguous()
    if t.dim() == 4:
        return t.contiguous(memory_format=torch.channels_last)
    return t.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


def in_memory_order(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """Tensors [N, ...] of one shape, their dims after the first turned so that the first tensor's strides descend.

    For what does not ask where in a sample an element stands: a channels_last tensor is one run of memory then.
    """
    first = tensors[0]
    if first is None or first.dim() < 3 or first.is_contiguous():
        return tensors
    strides = first.stride()
    order = (0, *sorted(range(1, first.dim()), key=lambda d: -strides[d]))
    return tuple(None if t is None else t.permute(order) for t in tensors)
