// Sums in a fixed tree: equal bits from run to run, no float atomics.
#pragma once

#include <cuda_runtime.h>

namespace pygen::cuda {

// Sums `value` over aligned groups of `width` threads (a power of two, the same in the whole block); the first thread
// of each group gets the sum. Every thread of the block must call it, once per kernel.
template <int kThreads, class Acc>
__device__ __forceinline__ Acc group_sum(Acc value, int width) {
  static_assert(kThreads % 32 == 0);
  const int lanes = width < 32 ? width : 32;
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    value += __shfl_down_sync(0xffffffffu, value, offset, lanes);
  }
  if (width <= 32) return value;
  __shared__ Acc warp_sums[kThreads / 32];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  if (thread % 32 == 0) warp_sums[warp] = value;
  __syncthreads();
  if (thread % width == 0) {
    for (int other = 1; other < width / 32; ++other) value += warp_sums[warp + other];
  }
  return value;
}

}  // namespace pygen::cuda
