"""Launcher of the C++ and the CUDA C++ kernels of logistic_mixture_sample. CUDA: not yet run on a GPU."""

import math

import torch
from torch import Tensor

from pygen._layout import empty_levels
from pygen.native._arguments import DTYPE_NAMES, on_gpu, strided, target
from pygen.native._likelihood import flat
from pygen.reference._sampler import inverse_temperature


def forward(
    params: Tensor,  # [N, P, *spatial]
    seed: Tensor,  # 0-dim int64
    channels: int,
    num_levels: int,
    min_log_scale: float,
    temperature: float,
) -> Tensor:
    """The levels, [N, C, *spatial]."""
    compiled, where = target(params)
    given = flat(params)
    x = empty_levels(params, channels, num_levels)
    compiled.logistic_mixture_sample(
        DTYPE_NAMES[params.dtype],
        (given.shape[0], given.shape[1] // (3 if channels == 1 else 10), given.shape[2]),
        channels,
        num_levels,
        min_log_scale,
        strided(given),
        strided(flat(x)),
        x.dtype == torch.int64,
        inverse_temperature(temperature, torch.promote_types(params.dtype, torch.float32)),
        math.log(temperature),
        seed.data_ptr() if on_gpu((compiled, where)) else seed.item(),
        *where,
    )
    return x
