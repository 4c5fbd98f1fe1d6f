// What the bindings hand to the launchers of masked_conv2d.cu: addresses and strides, nothing of CUDA's headers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cuda/tensor_argument.h"

namespace pygen::cuda {

// Live: each of `taps` (index ky * kernel_width + kx) between all channels; with color_groups > 1 also the centre, from
// input group i to output group o where i < o (strict) or i <= o.
struct MaskedConv2dCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  int64_t batch, in_channels, out_channels, height, width;
  int64_t kernel_height, kernel_width, dilation;
  std::vector<int64_t> taps;
  int64_t color_groups;
  bool strict;
  bool tf32;                 // float32 may be multiplied so
  Tensor input, output;      // [N, Cin, H, W] and [N, Cout, H, W], or their gradients
  Tensor weight;             // [Cout, Cin, kH, kW], or its gradient (then contiguous)
  std::uintptr_t bias;       // [Cout], its gradient, or 0
  std::uintptr_t add = 0;    // of forward: laid out as the output, or 0
  std::uintptr_t workspace;  // of as many bytes as a call without it returns; aligned to 256
};

// Each returns how many bytes of workspace it needs; without one it does nothing else. What is written is contiguous or
// channels_last.
int64_t masked_conv2d_forward(const MaskedConv2dCall& call);
int64_t masked_conv2d_grad_input(const MaskedConv2dCall& call);
int64_t masked_conv2d_grad_weight(const MaskedConv2dCall& call);

// For tests and comparisons: whether Hopper's warpgroups may multiply, where they can. Returns what held before.
bool use_wgmma(bool use);

}  // namespace pygen::cuda
