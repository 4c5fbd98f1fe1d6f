"""Generative models built from pygen's layers; each has a plain-PyTorch twin in `pygen.reference.models`."""

from ._checkpoint import load, save
from .gan import GAN
from .gated_pixel_cnn import GatedPixelCNN
from .made import MADE
from .pixel_cnn import PixelCNN
from .pixel_cnn_pp import PixelCNNPP
from .vae import VAE

__all__ = ["GAN", "MADE", "VAE", "GatedPixelCNN", "PixelCNN", "PixelCNNPP", "load", "save"]
