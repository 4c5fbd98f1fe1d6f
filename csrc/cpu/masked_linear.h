// What the bindings hand to the kernels of masked_linear.
#pragma once

#include "cpu/view.h"

namespace pygen {

// A matrix in any layout; strides in elements.
struct Matrix {
  void* data = nullptr;
  int64_t strides[2] = {};
};

// target[n, target_order[t]] = bias[target_order[t]] + sum over s < live[t] of source[n, source_order[s]] times the
// weight between the two; live ascends. That is the layer, or with inputs and outputs exchanged its input's gradient.
struct MaskedLinear {
  DType dtype;
  int64_t rows, sources, targets;
  const int64_t *source_order, *target_order, *live;  // [sources], [targets], [targets]
  Matrix source;                                      // [N, sources]
  Matrix target;                                      // [N, targets], or its gradient
  Matrix weight;                                      // [targets, sources], or its gradient
  void* bias;                                         // [targets], its gradient, or nullptr
  int threads;
};

}  // namespace pygen
