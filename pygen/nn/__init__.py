"""Drop-in modules over pygen.functional."""

from pygen.nn.reparameterize_kl import DiagonalGaussian, ReparameterizeKL

__all__ = ["DiagonalGaussian", "ReparameterizeKL"]
