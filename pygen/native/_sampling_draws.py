"""The draws of one call, as csrc/cuda/sampling_draws.bind.h takes them."""

from __future__ import annotations

import torch
from torch import Tensor

from pygen.models._levels import level_scale
from pygen.models._program import DenseProgram, Program


def draws(
    program: Program | DenseProgram,
    levels: Tensor,  # [n, C, H, W], of a dense program [n, D]; uint8 or int64: written
    u: Tensor,  # [n, H, W, C] or [n, D], float32
    known: Tensor | None,  # as levels
    known_mask: Tensor | None,  # bool, as levels
    temperature: float,
) -> tuple:
    """What a CUDA sampler draws, in contiguous tensors."""
    return (
        program.num_levels,
        *level_scale(program.num_levels, program.input_range),
        temperature,
        levels.data_ptr(),
        levels.dtype == torch.int64,
        None if known is None else known.data_ptr(),
        None if known_mask is None else known_mask.data_ptr(),
        u.data_ptr(),
    )
