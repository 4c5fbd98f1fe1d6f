"""Launcher of the C++ and the CUDA C++ kernels of sample_dot. CUDA: not yet run on a GPU."""

from types import ModuleType

import torch
from torch import Tensor

from pygen._gan_terms import wide_dtype
from pygen.native._arguments import DTYPE_NAMES, target, view

_WIDE = {dtype: wide_dtype(dtype) for dtype in DTYPE_NAMES}


def forward(
    x: Tensor,  # [N, ...]
    y: Tensor | None,  # the same; None: x
) -> Tensor:
    """[N]"""
    wide, shape = wide_dtype(x.dtype), x.shape
    sums = torch.empty(shape[0], dtype=wide, device=x.device)
    compiled, where = target(x)
    if (len(where) == 1 and compiled.sample_dot_plain(*where, x, y, sums)) or shape[0] == 0:
        return sums
    if len(where) == 2:  # a device and a stream
        workspace = x.new_empty(compiled.sample_dot_workspace(DTYPE_NAMES[x.dtype], shape), dtype=wide)
        where = (*where, workspace.data_ptr())
    compiled.sample_dot_forward(
        DTYPE_NAMES[x.dtype], shape, view(x, shape), None if y is None else view(y, shape), sums.data_ptr(), *where
    )
    return sums


def forward_plain(
    compiled: ModuleType,  # which says that x and y are plain
    rows: int,
    x: Tensor,
    y: Tensor | None,
) -> Tensor:
    """[N]"""
    sums = torch.empty(rows, dtype=_WIDE[x.dtype], device="cpu")
    compiled.sample_dot_plain(torch.get_num_threads(), x, y, sums)
    return sums


def backward(
    factor: Tensor,  # [N]
    x: Tensor,  # [N, ...]
    twice: bool = False,
) -> Tensor:
    """Each sample times its factor, or twice that, [N, ...]."""
    out = torch.empty_like(x)
    compiled, where = target(x)
    if (len(where) == 1 and compiled.sample_dot_scale_plain(*where, factor, x, out, twice)) or out.numel() == 0:
        return out
    if twice:
        factor = 2 * factor
    compiled.sample_dot_backward(
        DTYPE_NAMES[x.dtype],
        x.shape,
        factor.data_ptr(),
        factor.stride(0),
        view(x, x.shape),
        view(out, x.shape),
        *where,
    )
    return out
