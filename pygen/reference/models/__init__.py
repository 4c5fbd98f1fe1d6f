"""The models of `pygen.models` as people usually write them in plain PyTorch: oracle and baseline."""

from .vae import VAE

__all__ = ["VAE"]
