// What the bindings hand to the kernel of categorical_sample.
#pragma once

#include "cpu/positions.h"
#include "cpu/view.h"

namespace pygen {

struct CategoricalSample {
  DType dtype;
  int64_t images, channels, levels, positions;
  Positions logits;  // a channel of logits is a level
  Positions x;       // written
  bool wide_levels;  // x holds int64, else bytes
  double inverse_temperature;
  uint64_t seed;
  int threads;
};

}  // namespace pygen
