"""The arithmetic of one element of the Gaussian ops: csrc/common/reparameterize_kl.h in Triton, which gives the formulas."""

import triton
import triton.language as tl

from ._elementary import exp_terms, exp_terms_float64


@triton.jit
def _exp_terms(x, WIDE: tl.constexpr):
    if WIDE == tl.float64:  # noqa: SIM300
        root, em1, excess = exp_terms_float64(x)
    else:
        root, em1, excess = exp_terms(x)
    return root, em1, excess


@triton.jit
def gaussian_terms(
    mu, logvar, prior_mu, prior_logvar, free_bits, PRIOR: tl.constexpr, CLAMP: tl.constexpr, WIDE: tl.constexpr
):
    """(std, kl, d kl / d mu, d kl / d logvar, d kl / d prior_logvar) of each element."""
    if PRIOR:
        _, em1, excess = _exp_terms(logvar - prior_logvar, WIDE)
        scale, _, _ = _exp_terms(-prior_logvar, WIDE)
        largest: tl.constexpr = 1.7976931348623157e308 if WIDE == tl.float64 else 3.402823466e38  # noqa: SIM300
        scale = tl.where(scale > largest, largest, scale)  # finite, so that equal means contribute 0
        scaled = (mu - prior_mu) * scale
        std, _, _ = _exp_terms(logvar, WIDE)
        grad_mu = scaled * scale
    else:
        std, em1, excess = _exp_terms(logvar, WIDE)
        scaled = mu
        grad_mu = mu
    kl = (excess + scaled * scaled) * 0.5
    grad_logvar = em1 * 0.5
    grad_prior_logvar = (em1 + scaled * scaled) * -0.5
    if CLAMP:
        clamped = kl <= free_bits  # never NaN
        kl = tl.where(clamped, free_bits, kl)
        grad_mu = tl.where(clamped, 0.0, grad_mu)
        grad_logvar = tl.where(clamped, 0.0, grad_logvar)
        grad_prior_logvar = tl.where(clamped, 0.0, grad_prior_logvar)
    return std, kl, grad_mu, grad_logvar, grad_prior_logvar
