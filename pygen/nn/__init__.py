"""Drop-in modules over pygen.functional."""

from pygen.nn.affine_coupling import AffineCoupling
from pygen.nn.am_softmax import AMSoftmax
from pygen.nn.bernoulli_nll import BernoulliNLL
from pygen.nn.categorical_nll import CategoricalNLL
from pygen.nn.crf import LinearChainCRF
from pygen.nn.gan_loss import GANLoss
from pygen.nn.logistic_mixture_nll import LogisticMixtureNLL
from pygen.nn.masked_autoregressive import MaskedAutoregressive
from pygen.nn.masked_autoregressive_spline import MaskedAutoregressiveSpline
from pygen.nn.masked_conv2d import GatedMaskedConv2d, MaskedConv2d
from pygen.nn.masked_linear import MaskedLinear
from pygen.nn.nade_nll import NADENLL
from pygen.nn.noise_contrastive import NCELoss, NegativeSamplingLoss, SampledSoftmaxLoss
from pygen.nn.pixel_lstm import DiagonalBiLSTM, RowLSTM
from pygen.nn.rational_quadratic_spline import SplineCoupling
from pygen.nn.rbm import RBMFreeEnergy
from pygen.nn.reparameterize_kl import DiagonalGaussian, ReparameterizeKL
from pygen.nn.vector_quantize import VectorQuantizer

__all__ = [
    "NADENLL",
    "AMSoftmax",
    "AffineCoupling",
    "BernoulliNLL",
    "CategoricalNLL",
    "DiagonalBiLSTM",
    "DiagonalGaussian",
    "GANLoss",
    "GatedMaskedConv2d",
    "LinearChainCRF",
    "LogisticMixtureNLL",
    "MaskedAutoregressive",
    "MaskedAutoregressiveSpline",
    "MaskedConv2d",
    "MaskedLinear",
    "NCELoss",
    "NegativeSamplingLoss",
    "RBMFreeEnergy",
    "ReparameterizeKL",
    "RowLSTM",
    "SampledSoftmaxLoss",
    "SplineCoupling",
    "VectorQuantizer",
]
