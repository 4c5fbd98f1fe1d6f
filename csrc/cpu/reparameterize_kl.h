// What the bindings hand to the kernels of reparameterize_kl and gaussian_kl.
#pragma once

#include <vector>

#include "cpu/view.h"

namespace pygen {

struct ReparameterizeKlParams {
  DType dtype;
  int64_t rows, cols;           // N and the number of elements of one sample
  View mu, logvar;              // [N, ...]
  View prior_mu, prior_logvar;  // [N, ...] or absent
  View eps;                     // [K, N, ...] or absent
  const int64_t* seed;          // or nullptr
  int64_t num_samples;          // K; 0: gaussian_kl, nothing is drawn
  double free_bits;
  bool reduce;      // kl: one number instead of [N]
  double kl_scale;  // 1 / N for the batch mean
  int threads;
};

struct ReparameterizeKlForward : ReparameterizeKlParams {
  View z;    // [K, N, ...] or absent
  void* kl;  // [N] or [], float (double for float64)
};

struct ReparameterizeKlBackward : ReparameterizeKlParams {
  View grad_z;          // [K, N, ...] or absent
  const void* grad_kl;  // [N] or [], or nullptr
  int64_t grad_kl_stride;
  View grad[4];  // mu, logvar, prior_mu, prior_logvar; absent if not wanted
  bool wide[4];  // that gradient is float (double) whatever the dtype: a broadcast input's, still to be summed
};

}  // namespace pygen
