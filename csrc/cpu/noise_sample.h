// What the bindings hand to the kernel of noise_sample.
#pragma once

#include <cstdint>

namespace pygen {

struct NoiseSample {
  int64_t rows, count, classes;
  const int64_t* table;  // [classes, 3]
  int64_t* drawn;        // [rows, count], written
  uint64_t seed;
  int threads;
};

}  // namespace pygen
