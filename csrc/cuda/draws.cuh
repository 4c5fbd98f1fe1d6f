// The uniform numbers of samplers (csrc/common/philox.h), and levels in memory.
#pragma once

#include <cuda_runtime.h>

#include "common/philox.h"

namespace pygen::cuda {
namespace {

// Of draw j of an image: word j % 4 of the counter (j / 4, 0, image, domain).
__device__ __forceinline__ float draw_uniform(uint64_t seed, int64_t image, int64_t j, NoiseDomain domain) {
  uint32_t words[4];
  philox_words(seed, static_cast<uint64_t>(j) / 4, static_cast<uint32_t>(image), domain, words);
  const int lane = static_cast<int>(j & 3);
  return uniform_of_word(lane < 2 ? (lane == 0 ? words[0] : words[1]) : (lane == 2 ? words[2] : words[3]));
}

__device__ __forceinline__ void store_level(char* x, int64_t at, int64_t level, bool wide) {
  if (wide) {
    reinterpret_cast<int64_t*>(x)[at] = level;
  } else {
    reinterpret_cast<uint8_t*>(x)[at] = static_cast<uint8_t>(level);
  }
}

}  // namespace
}  // namespace pygen::cuda
