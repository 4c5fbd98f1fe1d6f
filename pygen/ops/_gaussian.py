"""What reparameterize_kl and gaussian_kl share: the checks of their tensors."""

from torch import Tensor

from pygen import _checks


def check_gaussians(op: str, mu: Tensor, logvar: Tensor, prior_mu: Tensor | None, prior_logvar: Tensor | None) -> None:
    """Raises TypeError or ValueError unless both Gaussians are well formed. mu [N, ...]; the others broadcast to it."""
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
