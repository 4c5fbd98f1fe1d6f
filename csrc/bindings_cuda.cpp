// pygen._cuda: the names. Arguments are addresses, strides, a device and a stream; pygen/native checks them.
#include "cuda/affine_coupling.bind.h"
#include "cuda/am_softmax.bind.h"
#include "cuda/autoregressive_inverse.bind.h"
#include "cuda/bernoulli_nll.bind.h"
#include "cuda/bernoulli_sample.bind.h"
#include "cuda/categorical_nll.bind.h"
#include "cuda/categorical_sample.bind.h"
#include "cuda/crf.bind.h"
#include "cuda/dense_network.bind.h"
#include "cuda/gan_loss.bind.h"
#include "cuda/gated_activation.bind.h"
#include "cuda/gated_masked_conv2d.bind.h"
#include "cuda/logistic_mixture_nll.bind.h"
#include "cuda/logistic_mixture_sample.bind.h"
#include "cuda/masked_conv2d.bind.h"
#include "cuda/masked_linear.bind.h"
#include "cuda/nade_nll.bind.h"
#include "cuda/noise_contrastive.bind.h"
#include "cuda/noise_sample.bind.h"
#include "cuda/pixel_lstm.bind.h"
#include "cuda/rational_quadratic_spline.bind.h"
#include "cuda/rbm.bind.h"
#include "cuda/reparameterize_kl.bind.h"
#include "cuda/runtime.h"
#include "cuda/sample_dot.bind.h"
#include "cuda/sampling.bind.h"
#include "cuda/sampling_cluster.bind.h"
#include "cuda/sampling_dense.bind.h"
#include "cuda/sampling_draws.bind.h"
#include "cuda/sampling_scales.bind.h"
#include "cuda/vector_quantize.bind.h"

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "pygen's CUDA C++ kernels. Called by pygen.native; the arguments are not checked here.";
  m.def("why_not", &pygen::cuda::why_not, "Empty if the driver can run this build, else the reason why not.");
  m.def("archs", &pygen::cuda::archs, "The architectures that this build holds code for.");
  pygen::cuda::bind_affine_coupling(m);
  pygen::cuda::bind_am_softmax(m);
  pygen::cuda::bind_autoregressive_inverse(m);
  pygen::cuda::bind_bernoulli_nll(m);
  pygen::cuda::bind_bernoulli_sample(m);
  pygen::cuda::bind_categorical_nll(m);
  pygen::cuda::bind_categorical_sample(m);
  pygen::cuda::bind_crf(m);
  pygen::cuda::bind_dense_network(m);
  pygen::cuda::bind_gan_loss(m);
  pygen::cuda::bind_gated_activation(m);
  pygen::cuda::bind_gated_masked_conv2d(m);
  pygen::cuda::bind_logistic_mixture_nll(m);
  pygen::cuda::bind_logistic_mixture_sample(m);
  pygen::cuda::bind_masked_conv2d(m);
  pygen::cuda::bind_masked_linear(m);
  pygen::cuda::bind_nade_nll(m);
  pygen::cuda::bind_noise_contrastive(m);
  pygen::cuda::bind_noise_sample(m);
  pygen::cuda::bind_pixel_lstm(m);
  pygen::cuda::bind_rational_quadratic_spline(m);
  pygen::cuda::bind_rbm(m);
  pygen::cuda::bind_reparameterize_kl(m);
  pygen::cuda::bind_sample_dot(m);
  pygen::cuda::bind_sampling(m);
  pygen::cuda::bind_sampling_cluster(m);
  pygen::cuda::bind_sampling_dense(m);
  pygen::cuda::bind_sampling_scales(m);
  pygen::cuda::bind_sampling_uniforms(m);
  pygen::cuda::bind_vector_quantize(m);
}
