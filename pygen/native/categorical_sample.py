"""Launcher of the C++ and the CUDA C++ kernels of categorical_sample. CUDA: not yet run on a GPU."""

import torch
from torch import Tensor

from pygen._layout import empty_levels
from pygen.native._arguments import DTYPE_NAMES, on_gpu, strided, target
from pygen.native._likelihood import flat
from pygen.reference._sampler import inverse_temperature


def forward(
    logits: Tensor,  # [N, C * L, *spatial]
    seed: Tensor,  # 0-dim int64
    channels: int,
    temperature: float,
) -> Tensor:
    """The levels, [N, C, *spatial]."""
    compiled, where = target(logits)
    given = flat(logits)
    levels = given.shape[1] // channels
    x = empty_levels(logits, channels, levels)
    compiled.categorical_sample(
        DTYPE_NAMES[logits.dtype],
        (given.shape[0], channels, levels, given.shape[2]),
        strided(given),
        strided(flat(x)),
        x.dtype == torch.int64,
        inverse_temperature(temperature, torch.promote_types(logits.dtype, torch.float32)),
        seed.data_ptr() if on_gpu((compiled, where)) else seed.item(),
        *where,
    )
    return x
