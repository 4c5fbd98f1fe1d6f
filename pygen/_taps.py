"""Which taps of a masked kernel are live: from what the user writes to the numbers the kernels take.

A kernel is told (taps, color_groups, strict): `taps`, indices ky * kW + kx of the taps that join all channels; and, with
color_groups > 1, the centre besides, which joins input group i to output group o where i < o (strict) or i <= o.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import torch

from pygen import _checks

MaskType = str | tuple[tuple[bool, ...], ...]


def check_kernel_size(op: str, argument: str, size: Iterable[int], *, patterns: bool = True) -> None:
    """patterns: whether the op takes them."""
    for side, name in zip(size, ("height", "width"), strict=True):
        if side % 2 == 0:
            hint = " (padded by zeros to an odd one it is a pattern of live taps: docs/from_pytorch.md)"
            raise _checks.fail(op, argument, f"an odd kernel {name}", f"{side}{hint if patterns else ''}")


def kernel_sides(op: str, size: Any, *, patterns: bool = False) -> tuple[int, int]:
    """Of a module: (height, width), both odd."""
    sides = size if isinstance(size, (tuple, list)) else (size, size)
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) for side in sides):
        raise _checks.fail(op, "kernel_size", "an int, or two (height, width)", repr(size), kind=TypeError)
    if min(sides) < 1:
        raise _checks.fail(op, "kernel_size", "at least 1", repr(size))
    check_kernel_size(op, "kernel_size", sides, patterns=patterns)
    return sides[0], sides[1]


def normalize_mask_type(op: str, mask_type: object) -> MaskType:
    """ "A", "B", or a pattern as nested tuples of bool."""
    if isinstance(mask_type, str):
        if mask_type not in ("A", "B"):
            raise _checks.fail(op, "mask_type", "'A', 'B' or a pattern of live taps", repr(mask_type))
        return mask_type
    if isinstance(mask_type, tuple) and all(
        isinstance(row, tuple) and all(isinstance(tap, bool) for tap in row) for row in mask_type
    ):
        return mask_type
    if isinstance(mask_type, torch.Tensor) and mask_type.device.type != "cpu":
        raise _checks.fail(
            op, "mask_type", "a pattern on the CPU (reading this one would wait for its device)", mask_type.device
        )
    rows = mask_type.tolist() if hasattr(mask_type, "tolist") else mask_type
    expected = "'A', 'B', nested tuples of bool, or a bool tensor or array [kH, kW]"
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, (list, tuple)) for row in rows):
        raise _checks.fail(op, "mask_type", expected, type(mask_type).__name__, kind=TypeError)
    for row in rows:
        for tap in row:
            if not isinstance(tap, bool):
                got = f"a pattern of {type(tap).__name__}"
                shape = list(getattr(mask_type, "shape", ()))
                if len(shape) == 4:
                    got = f"one of all channels, {shape}: mask[0, 0].bool() where they share it"
                raise _checks.fail(op, "mask_type", expected, got, kind=TypeError)
    return tuple(tuple(row) for row in rows)


def check_groups(op: str, mask_type: MaskType, color_groups: Any, in_channels: int, out_channels: int) -> None:
    check_color_groups(op, color_groups)
    if color_groups == 1:
        return
    if not isinstance(mask_type, str):
        raise _checks.fail(op, "color_groups", "1 with a pattern (groups apply to types 'A' and 'B')", color_groups)
    for name, channels in (("input", in_channels), ("weight (output)", out_channels)):
        if channels % color_groups:
            below = channels - channels % color_groups
            near = f"{below} or {below + color_groups}" if below else f"{color_groups}"
            raise _checks.fail(
                op,
                "color_groups",
                f"a divisor of the {name} channels (the nearest are {near})",
                f"{channels} channels in {color_groups} groups",
            )


def check_dilation(op: str, dilation: object) -> None:
    if isinstance(dilation, bool) or not isinstance(dilation, int):
        raise _checks.fail(op, "dilation", "an int", type(dilation).__name__, kind=TypeError)
    if dilation < 1:
        raise _checks.fail(op, "dilation", "at least 1", dilation)
    if dilation >= 2**31:  # taps times dilation must fit 64 bits
        raise _checks.fail(op, "dilation", "less than 2^31", dilation)


def check_color_groups(op: str, color_groups: object) -> None:
    if isinstance(color_groups, bool) or not isinstance(color_groups, int):
        raise _checks.fail(op, "color_groups", "an int", type(color_groups).__name__, kind=TypeError)
    if color_groups < 1:
        raise _checks.fail(op, "color_groups", "at least 1", color_groups)


def live_taps(op: str, mask_type: MaskType, color_groups: int, height: int, width: int) -> tuple[int, ...]:
    """The taps that join all channels, in raster order."""
    if torch.compiler.is_compiling():
        return _live_taps(op, mask_type, color_groups, height, width)
    return _live_taps_once(op, mask_type, color_groups, height, width)


def _live_taps(op: str, mask_type: MaskType, color_groups: int, height: int, width: int) -> tuple[int, ...]:
    if isinstance(mask_type, str):
        centre = (height // 2) * width + width // 2
        joins_centre = mask_type == "B" and color_groups == 1
        return tuple(range(centre + 1 if joins_centre else centre))  # torch 2.11's Dynamo adds no bool of symbols
    if len(mask_type) != height or any(len(row) != width for row in mask_type):
        shape = f"{len(mask_type)} rows of {sorted({len(row) for row in mask_type})}"
        raise _checks.fail(op, "mask_type", f"a pattern [{height}, {width}], the kernel's size", shape)
    return tuple(i * width + j for i, row in enumerate(mask_type) for j, live in enumerate(row) if live)


_live_taps_once = cache(_live_taps)


def dense_mask(mask_type: MaskType, color_groups: int, shape: Sequence[int]) -> torch.Tensor:
    """The mask of the weight as other code writes it: bool [Cout, Cin, kH, kW]."""
    out_channels, in_channels, height, width = shape
    mask = torch.zeros(out_channels, in_channels, height * width, dtype=torch.bool, device="cpu")
    mask[:, :, list(_live_taps("mask", mask_type, color_groups, height, width))] = True
    if color_groups > 1:
        group_out = torch.arange(out_channels, device="cpu").unsqueeze(1) // (out_channels // color_groups)
        group_in = torch.arange(in_channels, device="cpu") // (in_channels // color_groups)
        centre = (height // 2) * width + width // 2
        mask[:, :, centre] = group_in < group_out if mask_type == "A" else group_in <= group_out
    return mask.view(shape)
