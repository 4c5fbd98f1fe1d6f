"""Triton kernels of reparameterize_kl and gaussian_kl, and their launcher. Not yet run on a GPU.

    z  = mu + exp(logvar / 2) eps,   eps of _philox.py
    kl = (exp(d) - 1 - d + ((mu - prior_mu) exp(-prior_logvar / 2))^2) / 2,   d = logvar - prior_logvar,   summed over rows

Traffic, T = bytes of mu, K samples, standard prior: forward reads 2 T and writes K T; backward reads (2 + K) T and writes 2 T. A
full-size prior adds 2 T read, and 2 T written where it needs gradients. Noise is neither stored nor read. 128-bit accesses
need rows of a multiple of 16 bytes, 16 elements by Triton's analysis; channels_last tensors are read element by element.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen._layout import empty_gradient, empty_output
from pygen._sums import sum_to

from . import _blocks
from ._compat import OPTIONS, bits_float, device_of, float_bits, tl_wide
from ._gaussian import gaussian_terms
from ._philox import normals
from ._rows import Frame, load_rows, place, store_rows

NOISE_DOMAIN = tl.constexpr(0)  # pygen/_noise.py

# Integers that would otherwise mean a compilation for 1, for multiples of 16 and for the rest.
_RUNTIME = ("rows", "num_samples", "samples_per_program", "programs", "per_row", "turns", "free_bits", "divisor")


@triton.jit(do_not_specialize=_RUNTIME)
def reparameterize_kl_fwd_kernel(
    mu_ptr,  # [N, D], as the next three
    logvar_ptr,
    prior_mu_ptr,  # None without a prior, as the next
    prior_logvar_ptr,
    eps_ptr,  # [K, N, D], or None
    seed_ptr,  # [], or None
    z_ptr,  # [K, N, D], or None
    kl_ptr,  # [N], [1] or the partial sums of either
    mu_strides,
    logvar_strides,
    prior_mu_strides,
    prior_logvar_strides,
    eps_strides,
    z_strides,
    eps_sample_stride,
    z_sample_stride,
    sizes,
    row_size,
    rows,
    num_samples,
    samples_per_program,
    programs,
    per_row,
    turns,
    free_bits,
    divisor,
    PER_ROW: tl.constexpr,
    CLAMP: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    QUADS: tl.constexpr,
    WHOLE: tl.constexpr,
):
    sample_block = tl.program_id(0).to(tl.int64) // programs
    program = tl.program_id(0).to(tl.int64) - sample_block * programs
    k_begin = sample_block * samples_per_program
    k_end = tl.minimum(k_begin + samples_per_program, num_samples)
    lam = bits_float(free_bits, WIDE)
    PRIOR: tl.constexpr = prior_mu_ptr is not None
    sums = tl.zeros((ROWS, 4 * QUADS), WIDE)
    for turn in range(turns):
        row, part, quad, d, mask = place(program, turn, rows, row_size, per_row, turns, ROWS, QUADS, WHOLE)
        mu = load_rows(mu_ptr, row, d, mask, sizes, mu_strides, WIDE)
        logvar = load_rows(logvar_ptr, row, d, mask, sizes, logvar_strides, WIDE)
        prior_mu, prior_logvar = mu, logvar
        if PRIOR:
            prior_mu = load_rows(prior_mu_ptr, row, d, mask, sizes, prior_mu_strides, WIDE)
            prior_logvar = load_rows(prior_logvar_ptr, row, d, mask, sizes, prior_logvar_strides, WIDE)
        std, kl, _, _, _ = gaussian_terms(mu, logvar, prior_mu, prior_logvar, lam, PRIOR, CLAMP, WIDE)
        sums += tl.where(mask, kl, 0.0)
        if z_ptr is not None:
            for k in range(k_begin, k_end):
                if eps_ptr is not None:
                    eps = load_rows(eps_ptr + k * eps_sample_stride, row, d, mask, sizes, eps_strides, WIDE)
                else:
                    eps = normals(tl.load(seed_ptr), quad, k, NOISE_DOMAIN, WIDE)
                store_rows(z_ptr + k * z_sample_stride, row, d, mask, sizes, z_strides, mu + std * eps)
    if sample_block == 0:  # KL does not depend on K
        row_sums = tl.sum(sums, axis=1)
        if PER_ROW:
            row, part, _, _, _ = place(program, 0, rows, row_size, per_row, turns, ROWS, QUADS, WHOLE)
            row = tl.reshape(row, (ROWS,))
            tl.store(kl_ptr + row * per_row + part, row_sums, mask=row < rows)
        else:
            tl.store(kl_ptr + program, (tl.sum(row_sums, axis=0) / divisor).to(WIDE))


@triton.jit(do_not_specialize=_RUNTIME)
def reparameterize_kl_bwd_kernel(
    grad_z_ptr,  # [K, N, D], or None
    grad_kl_ptr,  # [N] or [1], or None
    mu_ptr,  # [N, D], as the next three
    logvar_ptr,
    prior_mu_ptr,  # None without a prior, as the next
    prior_logvar_ptr,
    eps_ptr,  # [K, N, D], or None
    seed_ptr,  # [], or None
    grad_mu_ptr,  # [N, D], or None where not wanted, as the next three
    grad_logvar_ptr,
    grad_prior_mu_ptr,
    grad_prior_logvar_ptr,
    grad_z_strides,
    mu_strides,
    logvar_strides,
    prior_mu_strides,
    prior_logvar_strides,
    eps_strides,
    grad_mu_strides,
    grad_logvar_strides,
    grad_prior_mu_strides,
    grad_prior_logvar_strides,
    eps_sample_stride,
    grad_z_sample_stride,
    grad_kl_stride,
    sizes,
    row_size,
    rows,
    num_samples,
    per_row,
    free_bits,
    divisor,
    CLAMP: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    QUADS: tl.constexpr,
    WHOLE: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    PRIOR: tl.constexpr = prior_mu_ptr is not None
    row, _, quad, d, mask = place(program, 0, rows, row_size, per_row, 1, ROWS, QUADS, WHOLE)
    mu = load_rows(mu_ptr, row, d, mask, sizes, mu_strides, WIDE)
    logvar = load_rows(logvar_ptr, row, d, mask, sizes, logvar_strides, WIDE)
    prior_mu, prior_logvar = mu, logvar
    if PRIOR:
        prior_mu = load_rows(prior_mu_ptr, row, d, mask, sizes, prior_mu_strides, WIDE)
        prior_logvar = load_rows(prior_logvar_ptr, row, d, mask, sizes, prior_logvar_strides, WIDE)
    std, _, kl_mu, kl_logvar, kl_prior_logvar = gaussian_terms(
        mu, logvar, prior_mu, prior_logvar, bits_float(free_bits, WIDE), PRIOR, CLAMP, WIDE
    )
    grad_mu = tl.zeros((ROWS, 4 * QUADS), WIDE)
    grad_logvar = tl.zeros((ROWS, 4 * QUADS), WIDE)
    if grad_z_ptr is not None:
        for k in range(num_samples):
            sample = tl.zeros((), tl.int64) + k  # a loop over a 32-bit bound counts in 32 bits
            grad_z = load_rows(grad_z_ptr + sample * grad_z_sample_stride, row, d, mask, sizes, grad_z_strides, WIDE)
            if eps_ptr is not None:
                eps = load_rows(eps_ptr + sample * eps_sample_stride, row, d, mask, sizes, eps_strides, WIDE)
            else:
                eps = normals(tl.load(seed_ptr), quad, sample, NOISE_DOMAIN, WIDE)
            grad_mu += grad_z
            grad_logvar += grad_z * eps
        grad_logvar = grad_logvar * (0.5 * std)
    if grad_kl_ptr is not None:
        upstream = tl.load(grad_kl_ptr + row * grad_kl_stride, mask=row < rows, other=0.0)
        g = (upstream / divisor).to(WIDE)
        grad_mu += g * kl_mu
        grad_logvar += g * kl_logvar
    if grad_mu_ptr is not None:
        store_rows(grad_mu_ptr, row, d, mask, sizes, grad_mu_strides, grad_mu)
    if grad_logvar_ptr is not None:
        store_rows(grad_logvar_ptr, row, d, mask, sizes, grad_logvar_strides, grad_logvar)
    if PRIOR:
        if grad_kl_ptr is not None:
            grad_prior_mu = -(g * kl_mu)
            grad_prior_logvar = g * kl_prior_logvar
        else:
            grad_prior_mu = tl.zeros((ROWS, 4 * QUADS), WIDE)
            grad_prior_logvar = tl.zeros((ROWS, 4 * QUADS), WIDE)
        if grad_prior_mu_ptr is not None:
            store_rows(grad_prior_mu_ptr, row, d, mask, sizes, grad_prior_mu_strides, grad_prior_mu)
        if grad_prior_logvar_ptr is not None:
            store_rows(grad_prior_logvar_ptr, row, d, mask, sizes, grad_prior_logvar_strides, grad_prior_logvar)


@triton.jit
def reparameterize_kl_finish_kernel(partial_ptr, kl_ptr, count, divisor, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """kl[row] = sum of partial[row, :] / divisor, in float64 and in fixed order."""
    row = tl.program_id(0).to(tl.int64)
    sums = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, count, BLOCK):
        offs = start + tl.arange(0, BLOCK)
        sums += tl.load(partial_ptr + row * count + offs, mask=offs < count, other=0.0).to(tl.float64)
    tl.store(kl_ptr + row, (tl.sum(sums, axis=0) / divisor).to(WIDE))


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
    per_row = reduction == "none"
    z = empty_output(mu, num_samples) if sample else None
    wide = torch.promote_types(mu.dtype, torch.float32)
    kl = torch.empty(mu.shape[:1] if per_row else (), dtype=wide, device=mu.device)
    divisor = mu.shape[0] if reduction == "batchmean" else 1
    if mu.numel() == 0:
        return z, kl.fill_(0.0 if divisor else math.nan)
    frame = Frame(mu.shape, (mu, logvar, prior_mu, prior_logvar, eps, z), not per_row, _blocks.MAX_TURNS)
    mu_s, logvar_s, prior_mu_s, prior_logvar_s, eps_s, z_s = frame.strides
    mu_p, logvar_p, prior_mu_p, prior_logvar_p, eps_p, z_p = frame.tensors
    tiling = frame.tiling
    partials = tiling.per_row if per_row else tiling.programs
    sums = kl if partials == 1 else torch.empty(partials * (frame.rows if per_row else 1), dtype=wide, device=mu.device)
    samples = num_samples or 1
    samples_per_program = -(-samples // max(1, _blocks.FEW_PROGRAMS // tiling.programs))
    grid = tiling.programs * (-(-samples // samples_per_program) if sample else 1)
    with device_of(mu):
        reparameterize_kl_fwd_kernel[(grid,)](
            mu_p, logvar_p, prior_mu_p, prior_logvar_p, eps_p, seed, z_p, sums,
            mu_s, logvar_s, prior_mu_s, prior_logvar_s, eps_s, z_s, frame.sample_stride(4), frame.sample_stride(5),
            frame.sizes, frame.row_size, frame.rows, samples, samples_per_program, tiling.programs, tiling.per_row,
            tiling.turns, float_bits(free_bits), divisor if partials == 1 else 1,
            PER_ROW=per_row, CLAMP=free_bits > 0, **frame.constants(),
        )  # fmt: skip
        if partials > 1:
            reparameterize_kl_finish_kernel[(kl.numel(),)](
                sums, kl, partials, divisor, tl_wide(kl.dtype), _blocks.FINISH_BLOCK, num_warps=_blocks.FINISH_WARPS, **OPTIONS
            )  # fmt: skip
    frame.copy_back(z)
    return z, kl


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
    inputs = (mu, logvar, prior_mu, prior_logvar)
    grads = [empty_gradient(t, mu.shape) if t is not None and n else None for t, n in zip(inputs, needs, strict=True)]
    if mu.numel() > 0 and any(g is not None for g in grads):
        total = reduction != "none" or grad_kl is None
        frame = Frame(mu.shape, (grad_z, *inputs, None if grad_z is None else eps, *grads), total, 1)
        tiling = frame.tiling
        with device_of(mu):
            reparameterize_kl_bwd_kernel[(tiling.programs,)](
                frame.tensors[0], grad_kl, *frame.tensors[1:6], None if grad_z is None else seed, *frame.tensors[6:],
                *frame.strides, frame.sample_stride(5), frame.sample_stride(0),
                grad_kl.stride(0) if grad_kl is not None and reduction == "none" else 0,
                frame.sizes, frame.row_size, frame.rows, num_samples or 1, tiling.per_row,
                float_bits(free_bits), mu.shape[0] if reduction == "batchmean" else 1,
                CLAMP=free_bits > 0, **frame.constants(),
            )  # fmt: skip
        frame.copy_back(*grads)
    return tuple(g if g is None or t is None else sum_to(g, t) for g, t in zip(grads, inputs, strict=True))
