"""How likelihoods reach the compiled modules: their tensors as [N, channels, positions], their sums and the scale of these."""

import math

import torch
from torch import Tensor

from pygen.native._arguments import strided


def flat(t: Tensor) -> Tensor:
    """[N, C, positions] with one stride over the positions: a view, or a copy where none serves."""
    strided(t)  # raises where there is nothing to copy
    if t.dim() == 2:
        return t.unsqueeze(2)
    return t if t.dim() == 3 else t.flatten(2)


def scale(reduction: str, images: int) -> float:
    """What the sum is multiplied by."""
    if reduction != "batchmean":
        return 1.0
    return 1.0 / images if images else math.nan


def empty_nll(params: Tensor, reduction: str) -> Tensor:
    wide = torch.promote_types(params.dtype, torch.float32)
    return params.new_empty(params.shape[:1] if reduction == "none" else (), dtype=wide)
