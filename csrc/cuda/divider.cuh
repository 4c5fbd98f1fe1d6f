// Division of 31-bit integers by one that a launch knows: a product, an addition and a shift (Granlund and Montgomery
// 1994, "Division by Invariant Integers using Multiplication").
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace pygen::cuda {

struct Divider {
  uint32_t divisor, factor, shift;

  static Divider of(int64_t divisor) {
    uint32_t shift = 0;
    while ((int64_t(1) << shift) < divisor) ++shift;
    const uint64_t beyond = (uint64_t(1) << shift) - static_cast<uint64_t>(divisor);
    return {static_cast<uint32_t>(divisor), static_cast<uint32_t>((beyond << 32) / static_cast<uint64_t>(divisor) + 1),
            shift};
  }
  __host__ __device__ __forceinline__ uint32_t quotient(uint32_t n) const {
    return (static_cast<uint32_t>(static_cast<uint64_t>(n) * factor >> 32) + n) >> shift;
  }
};

}  // namespace pygen::cuda
