// What the bindings hand to the launcher of categorical_sample.cu: addresses, sizes and strides.
#pragma once

#include <cstdint>
#include <string>

#include "cuda/positions.h"

namespace pygen::cuda {

struct CategoricalSampleCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  int64_t images, channels, levels, positions;
  PositionsArgument logits, x;  // a channel of logits is a level; x is written
  bool wide_levels;             // x holds int64, else bytes
  double inverse_temperature;
  std::uintptr_t seed;  // of an int64
};

void categorical_sample(const CategoricalSampleCall& call);

}  // namespace pygen::cuda
