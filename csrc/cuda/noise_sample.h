// What the bindings hand to the launcher of noise_sample.cu: addresses and sizes.
#pragma once

#include <cstdint>

namespace pygen::cuda {

struct NoiseSampleCall {
  int device;
  std::uintptr_t stream;
  int64_t rows, count, classes;
  std::uintptr_t table;  // [classes, 3], int64
  std::uintptr_t drawn;  // [rows, count], int64, written
  std::uintptr_t seed;   // int64
};
void noise_sample(const NoiseSampleCall& call);

}  // namespace pygen::cuda
