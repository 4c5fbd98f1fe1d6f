"""Generative models built from pygen's layers; each has a plain-PyTorch twin in `pygen.reference.models`."""

from ._checkpoint import load, save
from .gan import GAN
from .gated_pixel_cnn import GatedPixelCNN
from .made import MADE
from .maf import MAF
from .nade import NADE
from .nice import NICE
from .nsf import NSF
from .pixel_cnn import PixelCNN
from .pixel_cnn_pp import PixelCNNPP
from .pixel_rnn import PixelRNN
from .rbm import RBM
from .real_nvp import RealNVP
from .vae import VAE
from .vqvae import VQVAE

__all__ = [
    "GAN",
    "MADE",
    "MAF",
    "NADE",
    "NICE",
    "NSF",
    "RBM",
    "VAE",
    "VQVAE",
    "GatedPixelCNN",
    "PixelCNN",
    "PixelCNNPP",
    "PixelRNN",
    "RealNVP",
    "load",
    "save",
]
