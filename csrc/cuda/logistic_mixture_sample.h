// What the bindings hand to the launcher of logistic_mixture_sample.cu: addresses, sizes and strides.
#pragma once

#include <cstdint>
#include <string>

#include "cuda/positions.h"

namespace pygen::cuda {

struct LogisticMixtureSampleCall {
  int device;
  std::uintptr_t stream;
  std::string dtype;
  int64_t images, components, positions;
  int64_t channels, num_levels;
  double min_log_scale;
  PositionsArgument params, x;  // x is written
  bool wide_levels;             // it holds int64, else bytes
  double inverse_temperature, log_temperature;
  std::uintptr_t seed;  // of an int64
};

void logistic_mixture_sample(const LogisticMixtureSampleCall& call);

}  // namespace pygen::cuda
