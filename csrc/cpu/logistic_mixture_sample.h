// What the bindings hand to the kernel of logistic_mixture_sample.
#pragma once

#include "cpu/positions.h"
#include "cpu/view.h"

namespace pygen {

struct LogisticMixtureSample {
  DType dtype;
  int64_t images, components, positions;
  int64_t channels, num_levels;
  double min_log_scale;
  Positions params;
  Positions x;       // written
  bool wide_levels;  // x holds int64, else bytes
  double inverse_temperature, log_temperature;
  uint64_t seed;
  int threads;
};

}  // namespace pygen
