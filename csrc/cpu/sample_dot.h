// What the bindings hand to the kernels of sample_dot.
#pragma once

#include "cpu/view.h"

namespace pygen {

struct SampleDot {
  DType dtype;
  int64_t rows, row_size;
  View x, y;           // [rows, row_size]; y absent: x
  void* sums;          // forward, [rows]: float, double for Float64
  const void* factor;  // backward, [rows] of that type
  int64_t factor_stride;
  bool twice = false;  // the factor, as in the gradient of squares
  View out;            // backward, [rows, row_size]
  int threads;
};

}  // namespace pygen
