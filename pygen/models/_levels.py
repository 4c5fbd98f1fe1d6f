"""Integer pixel levels: the one form of image that every pixel model takes and gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen import _dispatch
from pygen._checks import check_tensor, fail, instead_of_levels

_DTYPES = (torch.uint8, torch.int64)

InputRange = tuple[float, float]
INPUT_RANGE: InputRange = (-1.0, 1.0)


def check_levels(model: str, x: Tensor, num_levels: int, image_shape: Sequence[int | None]) -> None:
    """Refuse anything but levels 0 .. num_levels - 1, uint8 or int64, [N, *image_shape] (None: any size).

    Values are read where that is free, which is in eager mode on a CPU; elsewhere `scale_levels` marks wrong ones.
    """
    check_tensor(model, "x", x)
    if x.dtype not in _DTYPES:
        expected = f"levels 0 .. {num_levels - 1} as torch.uint8 or torch.int64"
        raise fail(model, "x", expected, instead_of_levels(x, num_levels), kind=TypeError)
    if x.dim() != 1 + len(image_shape) or any(
        e is not None and e != s for e, s in zip(image_shape, x.shape[1:], strict=True)
    ):
        names = ", ".join(name if e is None else str(e) for e, name in zip(image_shape, "CHW", strict=False))
        raise fail(model, "x", f"shape [N, {names}]", list(x.shape))
    check_level_range(model, "x", x, num_levels)


def free_to_look_at(x: Tensor) -> bool:
    """Whether a look at its values waits for no device, nor is barred: by torch.func.vmap, or as a fake tensor has none."""
    return x.device.type == "cpu" and (torch.compiler.is_compiling() or _dispatch.is_plain(x))


def check_level_range(model: str, argument: str, x: Tensor, num_levels: int) -> None:
    """Refuse values beyond 0 .. num_levels - 1, where they can be read for free."""
    if not free_to_look_at(x) or torch.compiler.is_compiling() or not x.numel():
        return
    if int(x.max()) >= num_levels or (x.dtype == torch.int64 and int(x.min()) < 0):
        raise fail(model, argument, f"levels 0 .. {num_levels - 1}", f"{int(x.min())} .. {int(x.max())}")


def level_scale(num_levels: int, input_range: InputRange) -> tuple[float, float]:
    """(scale, shift): a network's input is level * scale + shift, which takes 0 and num_levels - 1 to the range's two ends."""
    low, high = input_range
    return (high - low) / (num_levels - 1), low


def scale_levels(x: Tensor, num_levels: int, dtype: torch.dtype, input_range: InputRange = INPUT_RANGE) -> Tensor:
    """Levels to numbers of input_range, as `level_scale` says, rounded after each step.

    On a GPU, where looking at the values would wait for the device, and under vmap, where one cannot look, a wrong level
    becomes NaN and so does the loss.
    """
    scale, shift = level_scale(num_levels, input_range)
    scaled = x.to(dtype).mul_(scale).add_(shift)
    if free_to_look_at(x):
        return scaled
    return scaled.masked_fill_(no_levels(x, num_levels), float("nan"))


def no_levels(x: Tensor, num_levels: int) -> Tensor:
    """bool: where x is none of 0 .. num_levels - 1. Compared in int64, as 256 would become 0 in uint8."""
    return (x.long() < 0) | (x.long() >= num_levels)
