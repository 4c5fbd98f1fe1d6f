"""Launcher of the C++ and the CUDA C++ kernels of noise_sample. CUDA: not yet run on a GPU."""

import torch
from torch import Tensor

from pygen.native._arguments import contiguous, on_gpu, target


def forward(
    noise: Tensor,  # [C, 3], int64
    seed: Tensor,  # 0-dim int64
    rows: int,
    count: int,
) -> Tensor:
    """Classes, int64 [rows, count]."""
    compiled, where = target(noise)
    table = contiguous(noise)
    drawn = torch.empty((rows, count), dtype=torch.int64, device=noise.device)
    at = seed.data_ptr() if on_gpu((compiled, where)) else seed.item()
    compiled.noise_sample(rows, count, len(table), table.data_ptr(), drawn.data_ptr(), at, *where)
    return drawn
