"""The models of `pygen.models` as people usually write them in plain PyTorch: oracle and baseline."""

from .gan import GAN
from .gated_pixel_cnn import GatedPixelCNN
from .made import MADE
from .maf import MAF
from .nade import NADE
from .nice import NICE
from .nsf import NSF
from .pixel_cnn import DataPixelCNN, PixelCNN
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
    "DataPixelCNN",
    "GatedPixelCNN",
    "PixelCNN",
    "PixelCNNPP",
    "PixelRNN",
    "RealNVP",
]
