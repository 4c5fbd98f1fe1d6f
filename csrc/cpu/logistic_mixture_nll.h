// What the bindings hand to the kernels of logistic_mixture_nll.
#pragma once

#include "cpu/positions.h"
#include "cpu/view.h"

namespace pygen {

struct LogisticMixtureNll {
  DType dtype;
  int64_t images, positions, components;
  int channels, num_levels;
  double min_log_scale;
  Positions params, x;
  bool wide_levels;  // x holds int64, else bytes
  double scale;      // of the sum, and of its gradient
  bool reduce;
  void* nll;             // [N], or one number; absent in backward
  const void* grad_nll;  // of grad_params: [N] or one number; nullptr: 1
  int64_t grad_nll_stride;
  Positions grad_params;  // data == nullptr: not wanted
  int threads;
};

}  // namespace pygen
