// Draws samples from NADE, an image a block, from the first input to the last. Not yet run on a GPU.
//
// The units of an image lie in shared memory, each thread's own ones, so that a step has one barrier: where the warps'
// sums meet. All threads add these up in the same order and take the same decision, which costs less than a second
// barrier. A step of 500 units by 128 threads: four rows of 128 numbers of output_weight out of L2, five shuffles, a
// barrier, and, where the input is 1, four of weight and as many sigmoids.
#pragma once

#include "common/nade_nll.h"
#include "cuda/convert.cuh"
#include "cuda/launch.cuh"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

struct NadeDrawParams {
  int64_t images, inputs;
  int hidden;
  const void *weight, *hidden_bias, *output_weight, *output_bias;  // [D, H], [H], [D, H], [D]
  const double* thresholds;                                        // [N, D]: x is 1 where -logit lies below
  const uint8_t *known, *known_mask;                               // [N, D], or null
  uint8_t* levels;                                                 // [N, D], written
};

template <class Number>
struct NadeDrawTraits {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kThreads = 128;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kAtOnce = 4;  // weights in flight in each thread
  // Of shared memory, all of it the launch's: what a kernel declares counts towards the 48 KiB that it gets unasked.
  static __host__ __device__ int64_t numbers(int64_t hidden) { return 2 * hidden + 2 * kWarps; }
};

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads) nade_nll_draw_kernel(const __grid_constant__ NadeDrawParams p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  PYGEN_DYNAMIC_SHARED(memory);
  Acc *const a = reinterpret_cast<Acc*>(memory), *const h = a + p.hidden;  // [H] each
  Acc* const warp_sums = h + p.hidden;                                     // [2, kWarps], of even and of odd steps
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t image = blockIdx.x;
  const T *weight = static_cast<const T*>(p.weight), *output = static_cast<const T*>(p.output_weight);
  for (int j = thread; j < p.hidden; j += Tr::kThreads) {
    a[j] = widen_to(static_cast<const T*>(p.hidden_bias)[j]);
    h[j] = nade_unit(a[j]);
  }
  for (int64_t d = 0; d < p.inputs; ++d, weight += p.hidden, output += p.hidden) {
    Acc sum = 0;
    for (int first = thread; first < p.hidden; first += Tr::kThreads * Tr::kAtOnce) {
      Acc v[Tr::kAtOnce];
#pragma unroll
      for (int i = 0; i < Tr::kAtOnce; ++i) {
        const int j = first + i * Tr::kThreads;
        v[i] = j < p.hidden ? Acc(widen_to(output[j])) : Acc(0);
      }
#pragma unroll
      for (int i = 0; i < Tr::kAtOnce; ++i) {
        const int j = first + i * Tr::kThreads;
        if (j < p.hidden) sum += v[i] * h[j];
      }
    }
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
    Acc* const sums = warp_sums + d % 2 * Tr::kWarps;  // who is a step ahead writes to the other ones
    if (thread % 32 == 0) sums[thread / 32] = sum;
    __syncthreads();
    Acc logit = widen_to(static_cast<const T*>(p.output_bias)[d]);
#pragma unroll
    for (int warp = 0; warp < Tr::kWarps; ++warp) logit += sums[warp];
    const int64_t at = image * p.inputs + d;
    const bool is_known = p.known_mask && p.known_mask[at];
    const uint8_t level = is_known ? p.known[at] : -static_cast<double>(logit) < p.thresholds[at];
    if (thread == 0) p.levels[at] = level;
    if (level == 0) continue;  // all threads
    for (int j = thread; j < p.hidden; j += Tr::kThreads) {
      a[j] += widen_to(weight[j]);
      h[j] = nade_unit(a[j]);
    }
  }
}

}  // namespace
}  // namespace pygen::cuda
