"""The public functions."""

from pygen.ops.affine_coupling import affine_coupling
from pygen.ops.am_softmax import am_softmax
from pygen.ops.bernoulli_nll import bernoulli_nll
from pygen.ops.bernoulli_sample import bernoulli_sample
from pygen.ops.categorical_nll import categorical_nll
from pygen.ops.categorical_sample import categorical_sample
from pygen.ops.crf import crf_decode, crf_log_partition, crf_marginals, crf_nll
from pygen.ops.crf_sample import crf_sample
from pygen.ops.gan_loss import GanStats, discriminator_loss, generator_loss
from pygen.ops.gated_activation import gated_activation
from pygen.ops.gated_masked_conv2d import gated_masked_conv2d
from pygen.ops.gaussian_kl import gaussian_kl
from pygen.ops.gradient_penalty import gradient_penalty
from pygen.ops.logistic_mixture_nll import logistic_mixture_nll
from pygen.ops.logistic_mixture_sample import logistic_mixture_sample
from pygen.ops.masked_conv2d import masked_conv2d
from pygen.ops.masked_linear import masked_linear
from pygen.ops.nade_nll import nade_nll
from pygen.ops.noise_contrastive import nce_loss, negative_sampling_loss, sampled_softmax_loss
from pygen.ops.noise_sample import noise_sample, noise_table
from pygen.ops.pixel_lstm import pixel_lstm
from pygen.ops.rational_quadratic_spline import rational_quadratic_spline
from pygen.ops.rbm import rbm_free_energy
from pygen.ops.rbm_gibbs import rbm_gibbs
from pygen.ops.reparameterize_kl import reparameterize_kl
from pygen.ops.sample_dot import sample_dot
from pygen.ops.vector_quantize import code_statistics, vector_quantize

__all__ = [
    "GanStats",
    "affine_coupling",
    "am_softmax",
    "bernoulli_nll",
    "bernoulli_sample",
    "categorical_nll",
    "categorical_sample",
    "code_statistics",
    "crf_decode",
    "crf_log_partition",
    "crf_marginals",
    "crf_nll",
    "crf_sample",
    "discriminator_loss",
    "gated_activation",
    "gated_masked_conv2d",
    "gaussian_kl",
    "generator_loss",
    "gradient_penalty",
    "logistic_mixture_nll",
    "logistic_mixture_sample",
    "masked_conv2d",
    "masked_linear",
    "nade_nll",
    "nce_loss",
    "negative_sampling_loss",
    "noise_sample",
    "noise_table",
    "pixel_lstm",
    "rational_quadratic_spline",
    "rbm_free_energy",
    "rbm_gibbs",
    "reparameterize_kl",
    "sample_dot",
    "sampled_softmax_loss",
    "vector_quantize",
]
