// What Hopper's kernels share: a ring of buffers between the thread that copies and the warpgroups that multiply.
#pragma once

#include "cuda/hopper.cuh"

namespace pygen::cuda {

// Where in a ring of buffers, and in which of its rounds.
struct RingPosition {
  int buffer = 0;
  uint32_t round = 0;

  __device__ __forceinline__ void next(int buffers) {
    if (++buffer == buffers) {
      buffer = 0;
      round ^= 1;
    }
  }
};

// A warp has read what is in a buffer; its barrier counts warps.
__device__ __forceinline__ void leave(uint64_t* barrier) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) arrive(barrier);
}

}  // namespace pygen::cuda
