// What the bindings hand to the launchers of bernoulli_nll.cu: addresses and strides, nothing of CUDA's headers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cuda/tensor_argument.h"

namespace pygen::cuda {

struct BernoulliCall {
  int device;
  std::uintptr_t stream;
  std::string dtype, x_dtype;  // of x: "uint8", "int64" or logits' own
  std::vector<int64_t> shape;  // [N, ...]
  Tensor logits, x;            // [N, ...]
  bool reduce;                 // nll is one number instead of [N]
  double scale;                // of the sum, and of its gradient
  std::uintptr_t nll;          // [N] or []; float, double for float64; 0: absent
  std::uintptr_t grad_nll;     // [N] or [], of grad_logits
  int64_t grad_nll_stride;
  Tensor grad_logits;        // [N, ...], or absent
  std::uintptr_t workspace;  // [bernoulli_nll_workspace] of nll's type
};

// How many partial sums forward needs room for.
int64_t bernoulli_nll_workspace(const std::string& dtype, const std::vector<int64_t>& shape, bool reduce);
void bernoulli_nll(const BernoulliCall& call);

}  // namespace pygen::cuda
