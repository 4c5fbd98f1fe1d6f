// What the bindings hand to the kernel of bernoulli_sample.
#pragma once

#include "cpu/positions.h"
#include "cpu/view.h"

namespace pygen {

struct BernoulliSample {
  DType dtype;
  int64_t images, channels, positions;
  Positions logits;
  Positions x;  // bytes, written
  double inverse_temperature;
  uint64_t seed;
  int threads;
};

}  // namespace pygen
