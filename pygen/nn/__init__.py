"""Drop-in modules over pygen.functional."""

from pygen.nn.masked_conv2d import GatedMaskedConv2d, MaskedConv2d
from pygen.nn.masked_linear import MaskedLinear
from pygen.nn.reparameterize_kl import DiagonalGaussian, ReparameterizeKL

__all__ = ["DiagonalGaussian", "GatedMaskedConv2d", "MaskedConv2d", "MaskedLinear", "ReparameterizeKL"]
