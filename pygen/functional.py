"""The public functions."""

from pygen.ops.gaussian_kl import gaussian_kl
from pygen.ops.masked_conv2d import masked_conv2d
from pygen.ops.reparameterize_kl import reparameterize_kl

__all__ = ["gaussian_kl", "masked_conv2d", "reparameterize_kl"]
