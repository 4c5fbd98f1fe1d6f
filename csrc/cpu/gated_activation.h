// What the bindings hand to the kernels of gated_activation.
#pragma once

#include "cpu/view.h"

namespace pygen {

// Both halves of a tensor of two halves per block of channels; .a is absent where the tensor is.
struct Halves {
  View a, b;
  bool present() const { return a.present(); }
};

// Every view runs over [N, blocks, channels of a half, pixels], or with `channels_inner` [N, blocks, pixels, channels].
struct GatedActivation {
  DType dtype;
  int64_t images, blocks, channels, pixels;
  bool channels_inner;
  Halves input, cond;  // cond of [N, C] has stride 0 over the pixels
  View output;         // or, backward, its gradient
  Halves grad_input, grad_cond;
  Halves cond_sums;  // backward of a cond [N, C]: its gradient, [N, blocks, channels]
  int threads;
};

}  // namespace pygen
