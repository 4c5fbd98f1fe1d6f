"""Launcher of the C++ and the CUDA C++ kernels of categorical_nll. CUDA: not yet run on a GPU."""

import torch
from torch import Tensor

from pygen.native._arguments import DTYPE_NAMES, on_gpu, strided, target
from pygen.native._likelihood import empty_nll, flat, scale


def _call(
    logits: Tensor,  # [N, C * L, *spatial]
    x: Tensor,  # [N, C, *spatial]
    reduction: str,
    nll: Tensor | None,  # [N] or [], written
    grad_nll: Tensor | None,  # [N] or []
    grad_logits: Tensor | None,  # like logits, written
) -> None:
    compiled, where = target(logits)
    given, levels = flat(logits), flat(x)
    written = None if grad_logits is None else flat(grad_logits)
    images, channels, positions = levels.shape
    reduce = reduction != "none"
    sizes = (images, channels, given.shape[1] // channels, positions)
    if on_gpu((compiled, where)):
        count = 0 if nll is None else compiled.categorical_nll_workspace(*sizes)
        wide = torch.promote_types(logits.dtype, torch.float32)
        workspace = torch.empty(count, dtype=wide, device=logits.device)
        where = (*where, workspace.data_ptr())
    compiled.categorical_nll(
        DTYPE_NAMES[logits.dtype],
        sizes,
        strided(given),
        strided(levels),
        x.dtype == torch.int64,
        reduce,
        scale(reduction, images),
        None if nll is None else nll.data_ptr(),
        None if grad_nll is None else grad_nll.data_ptr(),
        0 if grad_nll is None or reduce else grad_nll.stride(0),
        None if written is None else strided(written),
        *where,
    )
    if written is not None and grad_logits is not None and written.data_ptr() != grad_logits.data_ptr():
        grad_logits.copy_(written.view(grad_logits.shape))


def forward(
    logits: Tensor,  # [N, C * L, *spatial]
    x: Tensor,  # [N, C, *spatial]
    reduction: str,
) -> Tensor:
    """The negative log-likelihood, [N] or a scalar."""
    nll = empty_nll(logits, reduction)
    _call(logits, x, reduction, nll, None, None)
    return nll


def forward_with_gradient(
    logits: Tensor,  # [N, C * L, *spatial]
    x: Tensor,  # [N, C, *spatial]
    reduction: str,
) -> tuple[Tensor, Tensor | None]:
    """forward's result and, from the same pass, what backward gives for an upstream gradient of 1; None: ask backward."""
    if on_gpu(target(logits)):  # where a second reading costs less than a gradient that is written and scaled
        return forward(logits, x, reduction), None
    nll, grad_logits = empty_nll(logits, reduction), torch.empty_like(logits)
    _call(logits, x, reduction, nll, None, grad_logits)
    return nll, grad_logits


def backward(
    grad_nll: Tensor,  # [N] or []
    logits: Tensor,  # [N, C * L, *spatial]
    x: Tensor,  # [N, C, *spatial]
    reduction: str,
) -> Tensor:
    """The gradient of logits."""
    grad_logits = torch.empty_like(logits)
    _call(logits, x, reduction, None, grad_nll, grad_logits)
    return grad_logits
