// What the bindings hand to the kernels of categorical_nll.
#pragma once

#include "cpu/positions.h"
#include "cpu/view.h"

namespace pygen {

struct CategoricalNll {
  DType dtype;
  int64_t images, channels, levels, positions;
  Positions logits, x;  // a channel of logits is a level
  bool wide_levels;     // x holds int64, else bytes
  double scale;         // of the sum, and of its gradient
  bool reduce;
  void* nll;             // [N], or one number; absent in backward
  const void* grad_nll;  // of grad_logits: [N] or one number; nullptr: 1
  int64_t grad_nll_stride;
  Positions grad_logits;  // data == nullptr: not wanted
  int threads;
};

}  // namespace pygen
