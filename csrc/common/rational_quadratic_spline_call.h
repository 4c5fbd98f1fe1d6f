// The options of rational_quadratic_spline as the bindings hand them to the kernels of either device.
#pragma once

#include <cstdint>

namespace pygen {

struct SplineOptions {
  double ends[2], least[3], beta;  // least: of widths, heights and slopes
  int64_t bins;
  bool linear;  // tails
};

}  // namespace pygen
