// pygen._cpu: the names, and the choice of the instruction set. Arguments are addresses and strides; pygen/native
// checks them.
#include <pybind11/stl.h>

#include "cpu/affine_coupling.bind.h"
#include "cpu/am_softmax.bind.h"
#include "cpu/autoregressive_inverse.bind.h"
#include "cpu/bernoulli_nll.bind.h"
#include "cpu/bernoulli_sample.bind.h"
#include "cpu/categorical_nll.bind.h"
#include "cpu/categorical_sample.bind.h"
#include "cpu/crf.bind.h"
#include "cpu/gan_loss.bind.h"
#include "cpu/gated_activation.bind.h"
#include "cpu/isa.h"
#include "cpu/logistic_mixture_nll.bind.h"
#include "cpu/logistic_mixture_sample.bind.h"
#include "cpu/masked_conv2d.bind.h"
#include "cpu/masked_linear.bind.h"
#include "cpu/nade_nll.bind.h"
#include "cpu/noise_contrastive.bind.h"
#include "cpu/noise_sample.bind.h"
#include "cpu/pixel_lstm.bind.h"
#include "cpu/plain.h"
#include "cpu/rational_quadratic_spline.bind.h"
#include "cpu/rbm.bind.h"
#include "cpu/reparameterize_kl.bind.h"
#include "cpu/sample_dot.bind.h"
#include "cpu/sampling.bind.h"
#include "cpu/vector_quantize.bind.h"

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "pygen's C++ kernels for CPUs. Called by pygen.native; the arguments are not checked here.";
  m.def("isa", &pygen::current_isa, "The instruction set in use.");
  m.def("isas", &pygen::usable_isas, "Those that this processor can run, best first.");
  m.def("set_isa", &pygen::set_isa, "Switches to one of isas(); for tests.");
  m.def(
      "bf16_products", [] { return pygen::bf16_products_in_use(); },
      "Whether \"avx512\" multiplies bfloat16 by the processor's own products of pairs.");
  m.def("set_bf16_products", &pygen::set_bf16_products, "Switches them off, and on where there are any; for tests.");
  pygen::bind_affine_coupling(m);
  pygen::bind_am_softmax(m);
  pygen::bind_autoregressive_inverse(m);
  pygen::bind_bernoulli_nll(m);
  pygen::bind_bernoulli_sample(m);
  pygen::bind_categorical_nll(m);
  pygen::bind_categorical_sample(m);
  pygen::bind_crf(m);
  pygen::bind_gan_loss(m);
  pygen::bind_gated_activation(m);
  pygen::bind_logistic_mixture_nll(m);
  pygen::bind_logistic_mixture_sample(m);
  pygen::bind_masked_conv2d(m);
  pygen::bind_masked_linear(m);
  pygen::bind_nade_nll(m);
  pygen::bind_noise_contrastive(m);
  pygen::bind_noise_sample(m);
  pygen::bind_pixel_lstm(m);
  pygen::bind_plain(m);
  pygen::bind_rational_quadratic_spline(m);
  pygen::bind_rbm(m);
  pygen::bind_reparameterize_kl(m);
  pygen::bind_sample_dot(m);
  pygen::bind_sampling(m);
  pygen::bind_vector_quantize(m);
}
