// What the bindings hand to the launchers of gated_activation.cu: addresses and strides, nothing of CUDA's headers.
#pragma once

#include <cstdint>
#include <string>

namespace pygen::cuda {

// A tensor [N, groups, C, P] in any layout with one stride over its pixels; strides in elements, 0 where broadcast.
// `half`: from the tanh's channel to the sigmoid's, where the tensor has both.
struct GateTensor {
  std::uintptr_t address = 0;  // 0: absent
  int64_t image = 0, group = 0, channel = 0, pixel = 0, half = 0;
};

struct GatedActivationCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  int64_t images, groups, channels, pixels;  // channels of one half
  GateTensor input, cond;
  GateTensor output;                 // or, backward, its gradient
  GateTensor grad_input, grad_cond;  // backward
  GateTensor more;                   // backward: what is added to the input's gradient, or absent
  std::uintptr_t partial;  // [gated_activation_parts, N, groups, 2, C] sums over pixels of the gradients, or 0
};

// How many sums of parts of the pixels backward writes for each channel.
int64_t gated_activation_parts(const GatedActivationCall& call);
void gated_activation_forward(const GatedActivationCall& call);
void gated_activation_backward(const GatedActivationCall& call);

}  // namespace pygen::cuda
