// What the bindings hand to the kernels of bernoulli_nll.
#pragma once

#include "cpu/view.h"

namespace pygen {

enum class Levels : int { None, Bytes, Words };  // what x holds: logits' dtype, bytes or int64

struct BernoulliNll {
  DType dtype;
  int64_t rows, cols;  // N and the number of elements of one sample
  View logits, x;      // [N, ...]
  Levels levels;
  double scale;  // of the sum, and of its gradient
  bool reduce;
  void* nll;             // [N], or one number; absent in backward
  const void* grad_nll;  // of grad_logits: [N] or one number; nullptr: 1
  int64_t grad_nll_stride;
  View grad_logits;  // absent: not wanted
  int threads;
};

}  // namespace pygen
