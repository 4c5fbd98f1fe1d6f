"""Launcher of the C++ and the CUDA C++ kernels of reparameterize_kl and gaussian_kl. CUDA: not yet run on a GPU."""

import math

import torch
from torch import Tensor

from pygen._layout import empty_gradient, empty_output
from pygen._sums import sum_to
from pygen.native._arguments import DTYPE_NAMES, Argument, target, view


def _inputs(
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor | None,
    prior_logvar: Tensor | None,
    eps: Tensor | None,
    seed: Tensor | None,
) -> tuple:
    shape = mu.shape
    return (
        view(mu, shape),
        view(logvar, shape),
        None if prior_mu is None else view(prior_mu, shape),
        None if prior_logvar is None else view(prior_logvar, shape),
        None if eps is None else view(eps, eps.shape),
        None if seed is None else seed.data_ptr(),
    )


def _scale(reduction: str, rows: int) -> float:
    if reduction != "batchmean":
        return 1.0
    return 1.0 / rows if rows else math.nan


def forward(
    mu: Tensor,  # [N, ...]
    logvar: Tensor,  # broadcasts to mu, as the next two
    prior_mu: Tensor | None,
    prior_logvar: Tensor | None,
    eps: Tensor | None,  # [N, ...] or [K, N, ...]
    seed: Tensor | None,  # []
    num_samples: int | None,
    free_bits: float,
    reduction: str,
    sample: bool,
) -> tuple[Tensor | None, Tensor]:
    """(z, kl); z is None without `sample`."""
    shape = mu.shape
    z = empty_output(mu, num_samples) if sample else None
    reduce = reduction != "none"
    dtype = mu.dtype
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    kl = torch.empty(() if reduce else shape[:1], dtype=wide, device=mu.device)
    compiled, where = target(mu)
    if len(where) == 2:  # a device and a stream; the blocks' partial sums need a place
        partials = torch.empty(
            compiled.reparameterize_kl_workspace(DTYPE_NAMES[dtype], shape, reduce), dtype=wide, device=mu.device
        )
        where = (*where, partials.data_ptr())
    compiled.reparameterize_kl_forward(
        DTYPE_NAMES[dtype],
        shape,
        _inputs(mu, logvar, prior_mu, prior_logvar, eps, seed),
        None if z is None else view(z, z.shape),
        kl.data_ptr(),
        (num_samples or 1) if sample else 0,
        free_bits,
        reduce,
        _scale(reduction, shape[0]),
        *where,
    )
    return z, kl


def forward_plain(mu: Tensor, logvar: Tensor, seed: Tensor, reduction: str) -> tuple[Tensor | None, Tensor]:
    """forward of CPU tensors, mu and logvar contiguous and of one shape, one sample, a standard normal prior, no free bits.

    Small batches are all overhead: this and backward_plain spare a call what only other calls need.
    """
    compiled, where = target(mu)
    if len(where) == 2:
        return forward(mu, logvar, None, None, None, seed, None, 0.0, reduction, True)
    shape, dtype = mu.shape, mu.dtype
    z = torch.empty_like(mu)
    reduce = reduction != "none"
    kl = torch.empty(() if reduce else shape[:1], dtype=torch.float64 if dtype is torch.float64 else torch.float32)
    compiled.reparameterize_kl_forward(
        DTYPE_NAMES[dtype],
        shape,
        (mu.data_ptr(), logvar.data_ptr(), None, None, None, seed.data_ptr()),
        z.data_ptr(),
        kl.data_ptr(),
        1,
        0.0,
        reduce,
        _scale(reduction, shape[0]),
        *where,
    )
    return z, kl


def backward_plain(
    grad_z: Tensor,  # contiguous
    grad_kl: Tensor,
    mu: Tensor,
    logvar: Tensor,
    seed: Tensor,
    reduction: str,
) -> tuple[Tensor | None, Tensor | None]:
    """backward of forward_plain: gradients of mu and logvar."""
    compiled, where = target(mu)
    if len(where) == 2:
        needs = (True, True, False, False)
        saved = (mu, logvar, None, None, None, seed)
        grads = backward(grad_z, grad_kl, *saved, None, 0.0, reduction, needs)
        return grads[0], grads[1]
    shape = mu.shape
    grad_mu, grad_logvar = torch.empty_like(mu), torch.empty_like(logvar)
    reduce = reduction != "none"
    compiled.reparameterize_kl_backward(
        DTYPE_NAMES[mu.dtype],
        shape,
        (mu.data_ptr(), logvar.data_ptr(), None, None, None, seed.data_ptr()),
        grad_z.data_ptr(),
        grad_kl.data_ptr(),
        0 if reduce else grad_kl.stride(0),
        (grad_mu.data_ptr(), grad_logvar.data_ptr(), None, None),
        (False, False, False, False),
        1,
        0.0,
        reduce,
        _scale(reduction, shape[0]),
        *where,
    )
    return grad_mu, grad_logvar


def backward(
    grad_z: Tensor | None,  # [N, ...] or [K, N, ...]
    grad_kl: Tensor | None,  # [N] or []
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor | None,
    prior_logvar: Tensor | None,
    eps: Tensor | None,
    seed: Tensor | None,
    num_samples: int | None,
    free_bits: float,
    reduction: str,
    needs: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Gradients of mu, logvar, prior_mu, prior_logvar; None where needs is False."""
    shape = mu.shape
    inputs = (mu, logvar, prior_mu, prior_logvar)
    grads: list[Tensor | None] = [None] * 4
    views: list[Argument] = [None] * 4
    wide = [False] * 4  # a broadcast input's gradient, still to be summed
    for i, t in enumerate(inputs):
        if t is not None and needs[i]:
            wide[i] = t.shape != shape
            grad = grads[i] = empty_gradient(t, shape)
            views[i] = view(grad, shape)
    reduce = reduction != "none"
    compiled, where = target(mu)
    compiled.reparameterize_kl_backward(
        DTYPE_NAMES[mu.dtype],
        shape,
        _inputs(mu, logvar, prior_mu, prior_logvar, eps, seed),
        None if grad_z is None else view(grad_z, grad_z.shape),
        None if grad_kl is None else grad_kl.data_ptr(),
        0 if grad_kl is None or reduce else grad_kl.stride(0),
        tuple(views),
        tuple(wide),
        num_samples or (0 if grad_z is None else 1),
        free_bits,
        reduce,
        _scale(reduction, shape[0]),
        *where,
    )
    for i, t in enumerate(inputs):
        if wide[i]:
            grads[i] = sum_to(grads[i], t)
    return tuple(grads)
