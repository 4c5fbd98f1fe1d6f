// What the bindings hand to the launchers of reparameterize_kl.cu: addresses and strides, nothing of CUDA's headers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cuda/tensor_argument.h"

namespace pygen::cuda {

struct ReparameterizeKlCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  std::vector<int64_t> shape;     // [N, ...]
  Tensor mu, logvar;              // [N, ...]
  Tensor prior_mu, prior_logvar;  // [N, ...], or both absent
  Tensor eps;                     // [K, N, ...], or absent
  std::uintptr_t seed;            // [] int64 in device memory, or 0
  int64_t num_samples;            // K, 1 without a sample axis; 0: nothing is drawn
  double free_bits;
  bool reduce;      // kl is one number instead of [N]
  double kl_scale;  // 1 / N for the batch mean
};

struct ReparameterizeKlForwardCall : ReparameterizeKlCall {
  Tensor z;                  // [K, N, ...], or absent
  std::uintptr_t kl;         // [N] or []; float, double for float64
  std::uintptr_t workspace;  // [reparameterize_kl_workspace] of kl's type
};

struct ReparameterizeKlBackwardCall : ReparameterizeKlCall {
  Tensor grad_z;           // [K, N, ...], or absent
  std::uintptr_t grad_kl;  // [N] or [], or 0
  int64_t grad_kl_stride;
  Tensor grads[4];  // [N, ...] of mu, logvar, prior_mu, prior_logvar; absent where not wanted
  bool wide[4];     // that one is float (double) whatever the dtype
};

// How many partial sums forward needs room for.
int64_t reparameterize_kl_workspace(const std::string& dtype, const std::vector<int64_t>& shape, bool reduce);
void reparameterize_kl_forward(const ReparameterizeKlForwardCall& call);
void reparameterize_kl_backward(const ReparameterizeKlBackwardCall& call);

}  // namespace pygen::cuda
