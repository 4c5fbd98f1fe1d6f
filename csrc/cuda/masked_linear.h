// What the bindings hand to the launchers of masked_linear.cu: addresses and strides, nothing of CUDA's headers.
#pragma once

#include <cstdint>
#include <string>

#include "cuda/tensor_argument.h"

namespace pygen::cuda {

// target[r, target_order[t]] = bias[target_order[t]] + sum over s < live[t] of source[r, source_order[s]] times the
// weight between the two; live rises. That is the layer, or with inputs and outputs exchanged its input's gradient.
struct MaskedLinearCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  int64_t rows, sources, targets;
  const int64_t *source_order, *target_order;  // [sources], [targets] on the device; null: as they are
  const int64_t* live;                         // [targets], on the device
  bool tf32;                                   // float32 may be multiplied so
  Tensor source, target;                       // [rows, sources], [rows, targets] (contiguous where it is written)
  Tensor weight;                               // [targets, sources], or its gradient (then contiguous)
  std::uintptr_t bias;                         // [targets], or 0
  std::uintptr_t workspace;                    // of as many bytes as a call without it returns; aligned to 256
};

// Each returns how many bytes of workspace it needs; without one it does nothing else.
int64_t masked_linear_product(const MaskedLinearCall& call);
int64_t masked_linear_grad_weight(const MaskedLinearCall& call);  // target is the output's gradient

}  // namespace pygen::cuda
