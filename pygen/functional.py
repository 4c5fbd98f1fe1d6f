"""The public functions."""

from pygen.ops.gaussian_kl import gaussian_kl
from pygen.ops.reparameterize_kl import reparameterize_kl

__all__ = ["gaussian_kl", "reparameterize_kl"]
