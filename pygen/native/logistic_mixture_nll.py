"""Launcher of the C++ and the CUDA C++ kernels of logistic_mixture_nll. CUDA: not yet run on a GPU."""

import torch
from torch import Tensor

from pygen.native._arguments import DTYPE_NAMES, on_gpu, strided, target
from pygen.native._likelihood import empty_nll, flat, scale


def _call(
    params: Tensor,  # [N, P, *spatial]
    x: Tensor,  # [N, C, *spatial]
    num_levels: int,
    min_log_scale: float,
    reduction: str,
    nll: Tensor | None,  # [N] or [], written
    grad_nll: Tensor | None,  # [N] or []
    grad_params: Tensor | None,  # like params, written
) -> None:
    compiled, where = target(params)
    given, levels = flat(params), flat(x)
    written = None if grad_params is None else flat(grad_params)
    channels, reduce = x.shape[1], reduction != "none"
    sizes = (given.shape[0], given.shape[1] // (3 if channels == 1 else 10), given.shape[2])
    if on_gpu((compiled, where)):
        tiles = 0 if nll is None else compiled.logistic_mixture_nll_workspace(sizes[0], sizes[2])
        wide = torch.promote_types(params.dtype, torch.float32)
        workspace = torch.empty(tiles, dtype=wide, device=params.device)
        where = (*where, workspace.data_ptr())
    compiled.logistic_mixture_nll(
        DTYPE_NAMES[params.dtype],
        sizes,
        channels,
        num_levels,
        min_log_scale,
        strided(given),
        strided(levels),
        x.dtype == torch.int64,
        reduce,
        scale(reduction, sizes[0]),
        None if nll is None else nll.data_ptr(),
        None if grad_nll is None else grad_nll.data_ptr(),
        0 if grad_nll is None or reduce else grad_nll.stride(0),
        None if written is None else strided(written),
        *where,
    )
    if written is not None and grad_params is not None and written.data_ptr() != grad_params.data_ptr():
        grad_params.copy_(written.view(grad_params.shape))


def forward(
    params: Tensor,  # [N, P, *spatial]
    x: Tensor,  # [N, C, *spatial]
    num_levels: int,
    min_log_scale: float,
    reduction: str,
) -> Tensor:
    """The negative log-likelihood, [N] or a scalar."""
    nll = empty_nll(params, reduction)
    _call(params, x, num_levels, min_log_scale, reduction, nll, None, None)
    return nll


def forward_with_gradient(
    params: Tensor,  # [N, P, *spatial]
    x: Tensor,  # [N, C, *spatial]
    num_levels: int,
    min_log_scale: float,
    reduction: str,
) -> tuple[Tensor, Tensor | None]:
    """forward's result and, from the same pass, what backward gives for an upstream gradient of 1; None: ask backward."""
    if on_gpu(target(params)):  # there the pass is as long as its memory traffic, which would grow
        return forward(params, x, num_levels, min_log_scale, reduction), None
    nll = empty_nll(params, reduction)
    grad_params = torch.empty_like(params)
    _call(params, x, num_levels, min_log_scale, reduction, nll, None, grad_params)
    return nll, grad_params


def backward(
    grad_nll: Tensor,  # [N] or []
    params: Tensor,  # [N, P, *spatial]
    x: Tensor,  # [N, C, *spatial]
    num_levels: int,
    min_log_scale: float,
    reduction: str,
) -> Tensor:
    """The gradient of params."""
    grad_params = torch.empty_like(params)
    _call(params, x, num_levels, min_log_scale, reduction, None, grad_nll, grad_params)
    return grad_params
