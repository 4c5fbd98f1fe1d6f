// What the bindings hand to the kernels of masked_conv2d.
#pragma once

#include <vector>

#include "cpu/view.h"

namespace pygen {

// A four-dimensional tensor in any layout; strides in elements.
struct Tensor4 {
  void* data = nullptr;
  int64_t strides[4] = {};
};

// Live: each of `taps` (index ky * kernel_width + kx) between all channels; with color_groups > 1 also the centre, from
// input group i to output group o where i < o (strict) or i <= o.
struct MaskedConv2d {
  DType dtype;
  int64_t batch, in_channels, out_channels, height, width;
  int64_t kernel_height, kernel_width, dilation;
  std::vector<int64_t> taps;
  int64_t color_groups;
  bool strict;
  Tensor4 input;   // [N, Cin, H, W], or its gradient
  Tensor4 output;  // [N, Cout, H, W], or its gradient
  Tensor4 weight;  // [Cout, Cin, kH, kW], or its gradient (then contiguous)
  void* bias;      // [Cout], its gradient, or nullptr
  int threads;
};

}  // namespace pygen
