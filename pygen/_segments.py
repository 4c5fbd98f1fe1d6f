"""Which positions each code got, for kernels that sum code after code."""

import torch
from torch import Tensor


def by_code(
    indices: Tensor,  # [N, ...], int64
    num_codes: int,
) -> tuple[Tensor, Tensor]:
    """The positions [P] in the order of their codes, rising within each, and where each code's begin [K + 1]; without waiting.

    Positions whose code is beyond 0 .. K - 1 lie before the first code's or after the last one's.
    """
    codes, order = torch.sort(indices.reshape(-1), stable=True)
    return order, torch.searchsorted(codes, torch.arange(num_codes + 1, device=codes.device))
