// The uniform numbers of samplers (csrc/common/philox.h), and levels in memory.
#pragma once

#include <cuda_runtime.h>

#include "common/philox.h"
#include "cuda/softmax_terms.cuh"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

__device__ __forceinline__ int64_t quotient(int64_t a, int64_t b) {
  return static_cast<int64_t>(divide(static_cast<uint64_t>(a), static_cast<uint64_t>(b)));
}

// Of draw j of an image: word j % 4 of the counter (j / 4, 0, image, domain).
__device__ __forceinline__ float draw_uniform(uint64_t seed, int64_t image, int64_t j, NoiseDomain domain) {
  uint32_t words[4];
  philox_words(seed, static_cast<uint64_t>(j) / 4, static_cast<uint32_t>(image), domain, words);
  const int lane = static_cast<int>(j & 3);
  return uniform_of_word(lane < 2 ? (lane == 0 ? words[0] : words[1]) : (lane == 2 ? words[2] : words[3]));
}

// The first number of [begin, end), logits read(j), whose exponential is above 0 and whose sum with `run` and those
// before reaches `wanted`; where rounding leaves all short of it, the last above 0.
template <int kBatch, class Acc, class Read>
__device__ __forceinline__ int first_to_reach(int begin, int end, const Read& read, Acc top, Acc inverse, Acc run,
                                              Acc wanted) {
  int last = begin;
  bool reached = false;
  for (int start = begin; start < end && !reached; start += kBatch) {
    Acc x[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) x[i] = start + i < end ? read(start + i) : -Acc(INFINITY);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const Acc term = exp_term((x[i] - top) * inverse);
      run += term;
      if (term > 0 && !reached) {
        last = start + i;
        reached = run >= wanted;
      }
    }
  }
  return last;
}

// Sums of a warp's numbers up to each lane's.
template <class Acc>
__device__ __forceinline__ Acc sum_up_to_lane(Acc x) {
#pragma unroll
  for (int delta = 1; delta < 32; delta *= 2) {
    const Acc other = __shfl_up_sync(0xffffffffu, x, delta);
    if (static_cast<int>(threadIdx.x) % 32 >= delta) x += other;
  }
  return x;
}

// A warp looks for the first number, of 32 at a time, whose term is above 0 and whose sum with all before it reaches
// `wanted`; where rounding leaves all short of it, it is the last above 0.
template <class Acc>
struct WarpSearch {
  Acc wanted;
  bool reached = false;
  int found = 0, last = 0;

  __device__ __forceinline__ void take(int start, Acc term, Acc up_to) {
    if (term > 0) last = start + static_cast<int>(threadIdx.x) % 32;
    const unsigned reaching = __ballot_sync(0xffffffffu, term > 0 && up_to >= wanted);
    if (!reached && reaching) found = start + __ffs(static_cast<int>(reaching)) - 1;
    reached |= reaching != 0;
  }
  __device__ __forceinline__ int result() const {
    if (reached) return found;
    int most = last;
    for (int mask = 16; mask > 0; mask /= 2) most = max(most, __shfl_xor_sync(0xffffffffu, most, mask));
    return most;
  }
};

__device__ __forceinline__ void store_level(char* x, int64_t at, int64_t level, bool wide) {
  if (wide) {
    reinterpret_cast<int64_t*>(x)[at] = level;
  } else {
    reinterpret_cast<uint8_t*>(x)[at] = static_cast<uint8_t>(level);
  }
}

}  // namespace
}  // namespace pygen::cuda
