"""Generative models built from pygen's layers; each has a plain-PyTorch twin in `pygen.reference.models`."""

from .vae import VAE

__all__ = ["VAE"]
