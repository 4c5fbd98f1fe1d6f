"""Launcher of the C++ and the CUDA C++ kernels of bernoulli_sample. CUDA: not yet run on a GPU."""

import torch
from torch import Tensor

from pygen._layout import empty_bytes
from pygen.native._arguments import DTYPE_NAMES, on_gpu, strided, target
from pygen.native._likelihood import flat
from pygen.reference._sampler import inverse_temperature


def forward(
    logits: Tensor,  # [N, ...]
    seed: Tensor,  # 0-dim int64
    temperature: float,
) -> Tensor:
    """The bits, of logits' shape."""
    compiled, where = target(logits)
    x = empty_bytes(logits)
    given, written = (flat(t if t.dim() > 1 else t.unsqueeze(1)) for t in (logits, x))
    compiled.bernoulli_sample(
        DTYPE_NAMES[logits.dtype],
        tuple(given.shape),
        strided(given),
        strided(written),
        inverse_temperature(temperature, torch.promote_types(logits.dtype, torch.float32)),
        seed.data_ptr() if on_gpu((compiled, where)) else seed.item(),
        *where,
    )
    return x
