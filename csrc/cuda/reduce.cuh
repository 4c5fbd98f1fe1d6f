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

// Sums each of K values over the block; the first thread gets the sums. Every thread must call it, as often as wanted.
template <int kThreads, int K>
__device__ __forceinline__ void block_sums(double (&value)[K]) {
  static_assert(kThreads % 32 == 0);
  __shared__ double warp_sums[K][kThreads / 32];
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int k = 0; k < K; ++k) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) value[k] += __shfl_down_sync(0xffffffffu, value[k], offset, 32);
  }
  __syncthreads();  // the first thread has read what an earlier call left
  if (thread % 32 == 0) {
#pragma unroll
    for (int k = 0; k < K; ++k) warp_sums[k][thread / 32] = value[k];
  }
  __syncthreads();
  if (thread != 0) return;
#pragma unroll
  for (int k = 0; k < K; ++k) {
    for (int other = 1; other < kThreads / 32; ++other) value[k] += warp_sums[k][other];
  }
}

}  // namespace pygen::cuda
