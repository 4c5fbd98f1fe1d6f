// What the bindings hand to the launcher of gated_masked_conv2d, in masked_conv2d.cu.
#pragma once

#include "cuda/masked_conv2d.h"

namespace pygen::cuda {

// A call whose output, [N, 2 C, H, W], is what comes before the gate.
struct GatedMaskedConv2dCall {
  MaskedConv2dCall product;
  int64_t side_channels;  // 0: no side
  Tensor side;            // [N, K, H, W]
  Tensor side_weight;     // [2 C, K, 1, 1]
  std::uintptr_t cond;    // laid out as the output, or [N, 2 C] contiguous, or 0
  bool cond_per_image;
  std::uintptr_t gated;  // [N, C, H, W], laid out as the output; written
};

int64_t gated_masked_conv2d_forward(const GatedMaskedConv2dCall& call);

}  // namespace pygen::cuda
