// What the bindings hand to the launcher of bernoulli_sample.cu: addresses, sizes and strides.
#pragma once

#include <cstdint>
#include <string>

#include "cuda/positions.h"

namespace pygen::cuda {

struct BernoulliSampleCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  int64_t images, channels, positions;
  PositionsArgument logits, x;  // x: bytes, written
  double inverse_temperature;
  std::uintptr_t seed;  // of an int64
};

void bernoulli_sample(const BernoulliSampleCall& call);

}  // namespace pygen::cuda
