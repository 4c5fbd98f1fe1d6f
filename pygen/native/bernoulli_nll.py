"""Launcher of the C++ and the CUDA C++ kernels of bernoulli_nll. CUDA: not yet run on a GPU."""

import torch
from torch import Tensor

from pygen._layout import in_memory_order
from pygen.native._arguments import DTYPE_NAMES, on_gpu, target, view
from pygen.native._likelihood import empty_nll, scale

_LEVELS = {torch.bool: "uint8", torch.uint8: "uint8", torch.int64: "int64"}


def _call(
    logits: Tensor,  # [N, ...]
    x: Tensor,  # broadcasts to logits
    reduction: str,
    nll: Tensor | None,  # [N] or [], written
    grad_nll: Tensor | None,  # [N] or []
    grad_logits: Tensor | None,  # like logits, written
) -> None:
    compiled, where = target(logits)
    reduce, factor = reduction != "none", scale(reduction, logits.shape[0])
    gpu = on_gpu((compiled, where))
    if not gpu and compiled.bernoulli_nll_plain(*where, reduce, factor, nll, grad_nll, grad_logits, logits, x):
        return
    if x.shape != logits.shape:
        x = x.expand(logits.shape)
    logits, x, grad_logits = in_memory_order(logits, x, grad_logits)
    shape = logits.shape
    if gpu:
        name, wide = DTYPE_NAMES[logits.dtype], torch.promote_types(logits.dtype, torch.float32)
        partials = 0 if nll is None else compiled.bernoulli_nll_workspace(name, tuple(shape), reduce)
        workspace = torch.empty(partials, dtype=wide, device=logits.device)
        where = (*where, workspace.data_ptr())
    compiled.bernoulli_nll(
        DTYPE_NAMES[logits.dtype],
        tuple(shape),
        view(logits, shape),
        view(x, shape),
        _LEVELS.get(x.dtype, "same"),
        reduce,
        factor,
        None if nll is None else nll.data_ptr(),
        None if grad_nll is None else grad_nll.data_ptr(),
        0 if grad_nll is None or reduce else grad_nll.stride(0),
        None if grad_logits is None else view(grad_logits, shape),
        *where,
    )


def forward(
    logits: Tensor,  # [N, ...]
    x: Tensor,  # broadcasts to logits
    reduction: str,
) -> Tensor:
    """The negative log-likelihood, [N] or a scalar."""
    nll = empty_nll(logits, reduction)
    _call(logits, x, reduction, nll, None, None)
    return nll


def forward_with_gradient(
    logits: Tensor,  # [N, ...]
    x: Tensor,  # broadcasts to logits
    reduction: str,
) -> tuple[Tensor, Tensor | None]:
    """forward's result and, from the same pass, what backward gives for an upstream gradient of 1; None: ask backward."""
    if on_gpu(target(logits)):  # there the pass is as long as its memory traffic, which would grow
        return forward(logits, x, reduction), None
    nll, grad_logits = empty_nll(logits, reduction), torch.empty_like(logits)
    _call(logits, x, reduction, nll, None, grad_logits)
    return nll, grad_logits


def backward(
    grad_nll: Tensor,  # [N] or []
    logits: Tensor,  # [N, ...]
    x: Tensor,  # broadcasts to logits
    reduction: str,
) -> Tensor:
    """The gradient of logits."""
    grad_logits = torch.empty_like(logits)
    _call(logits, x, reduction, None, grad_nll, grad_logits)
    return grad_logits
