"""Matrix products whose sums come out in the dtype computed in."""

import torch
from torch import Tensor

from pygen._checks import without_autocast


def wide_product(
    a: Tensor,  # [m, k]
    b: Tensor,  # [k, n]
    wide: torch.dtype,
) -> Tensor:
    """a b, [m, n], in `wide`: cuBLAS sums 16 bits in float32, and so they come out."""
    with without_autocast(a):
        if a.dtype == wide:
            return torch.mm(a, b)
        return torch.mm(a, b, out_dtype=wide) if a.is_cuda else torch.mm(a.to(wide), b.to(wide))
