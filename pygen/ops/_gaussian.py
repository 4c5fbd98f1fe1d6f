"""What reparameterize_kl and gaussian_kl share: the checks of their tensors."""

import torch
from torch import Tensor

from pygen import _checks


def check_gaussians(op: str, mu: Tensor, logvar: Tensor, prior_mu: Tensor | None, prior_logvar: Tensor | None) -> None:
    """Raises TypeError or ValueError unless both Gaussians are well formed. mu [N, ...]; the others broadcast to it."""
    if (
        prior_mu is None
        and prior_logvar is None
        and isinstance(mu, Tensor)
        and isinstance(logvar, Tensor)
        and mu.dtype in _checks.FLOATING
        and logvar.dtype is mu.dtype
        and logvar.shape == mu.shape
        and mu.dim() > 0
        and logvar.device == mu.device
        and mu.layout is torch.strided
        and logvar.layout is torch.strided
    ):
        return  # the common case, without a call per question
    _checks.check_tensor(op, "mu", mu)
    _checks.check_floating(op, "mu", mu)
    if mu.dim() == 0:
        raise _checks.fail(op, "mu", "at least one dim, [N, ...]", "a 0-dim tensor")
    if (prior_mu is None) != (prior_logvar is None):
        given, missing = ("prior_mu", "prior_logvar") if prior_logvar is None else ("prior_logvar", "prior_mu")
        raise _checks.fail(op, missing, f"a tensor, since {given} is given", None)
    for name, t in (("logvar", logvar), ("prior_mu", prior_mu), ("prior_logvar", prior_logvar)):
        if t is None and name != "logvar":
            continue
        _checks.check_tensor(op, name, t)
        _checks.check_like(op, name, t, "mu", mu)
        _checks.check_broadcasts(op, name, t, "mu", mu.shape)
