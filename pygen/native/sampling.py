"""Launcher of the C++ sampling engine, the whole loop over pixels in one call, and of its noise."""

from __future__ import annotations

import torch
from torch import Tensor

from pygen import _backends
from pygen.models._levels import scale_levels
from pygen.models._program import Conv, Gate, Program

from ._arguments import DTYPE_NAMES


def draw(
    program: Program,
    levels: Tensor,  # [n, C, H, W], uint8 or int64, contiguous
    u: Tensor,  # [n, H, W, C], float32, contiguous
    known: Tensor | None,  # like levels
    known_mask: Tensor | None,  # [n, C, H, W], bool, contiguous
    temperature: float,
) -> None:
    """Fills `levels`. A program of bfloat16 or float16 is computed in float32, from the same weights and scaled levels."""
    n, _, height, width = levels.shape
    dtype = next(stage.weight.dtype for stage in program.stages if isinstance(stage, Conv))
    computed = torch.promote_types(dtype, torch.float32)
    kept: list[Tensor] = []  # until the call is over

    def address(t: Tensor | None) -> int | None:
        if t is None:
            return None
        if t.dtype is not computed or not t.is_contiguous():
            t = t.to(computed).contiguous()
            kept.append(t)
        return t.data_ptr()

    def described(stage: Conv | Gate) -> tuple:
        if isinstance(stage, Conv):
            weight = stage.weight
            if weight.dtype is not computed:
                weight = weight.to(computed)
                kept.append(weight)
            where = (weight.data_ptr(), weight.stride(), address(stage.bias))
            return ("conv", stage.source, stage.taps, *where, stage.relu, stage.add, stage.strict)
        is_map = stage.cond is not None and stage.cond.shape[2:] != (1, 1)
        return ("gate", stage.source, stage.groups, address(stage.cond), is_map)

    scaled = scale_levels(torch.arange(program.num_levels), program.num_levels, dtype)
    _backends.compiled("_cpu").sampling_draw(
        DTYPE_NAMES[computed],
        tuple(described(stage) for stage in program.stages),
        program.channels,
        program.early,
        program.groups,
        program.num_levels,
        (n, height, width),
        levels.data_ptr(),
        levels.dtype == torch.int64,
        u.data_ptr(),
        None if known is None else known.data_ptr(),
        None if known_mask is None else known_mask.data_ptr(),
        temperature,
        address(scaled),
        torch.get_num_threads(),
    )


def uniforms(n: int, draws: int, seed: Tensor) -> Tensor:  # seed: 0-dim int64 on the CPU
    """float32 in (0, 1], [n, draws]: the numbers of `pygen.models._sampling.uniforms`."""
    out = torch.empty(n, draws, dtype=torch.float32, device="cpu")
    _backends.compiled("_cpu").sampling_uniforms(seed.item(), n, draws, out.data_ptr(), torch.get_num_threads())
    return out
