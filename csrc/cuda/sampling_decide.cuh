// One decision of a sampler, by a warp, and what surrounds it: its noise, what is known, levels in memory and scaled.
#pragma once

#include <cuda_runtime.h>

#include "cuda/convert.cuh"
#include "cuda/sampling_draws.h"

namespace pygen::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

// The first level of positive probability whose cumulated probability reaches u; 0 where logits are NaN. By one warp:
// a lane has `each` levels from `begin` on, and keeps the first kKept of their probabilities.
template <class T>
__device__ __forceinline__ int64_t decide(const T* logits, int64_t num_levels, double temperature, double u) {
  constexpr int kKept = 8;  // all of them up to 256 levels
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t each = (num_levels + 31) / 32, begin = min(lane * each, num_levels),
                end = min(begin + each, num_levels);
  const auto scaled = [=](T logit) { return temperature == 1 ? logit : logit / temperature; };
  double kept[kKept], top = -INFINITY;
#pragma unroll
  for (int j = 0; j < kKept; ++j) {
    kept[j] = begin + j < end ? scaled(logits[begin + j]) : -INFINITY;
    top = fmax(top, kept[j]);
  }
  for (int64_t l = begin + kKept; l < end; ++l) top = fmax(top, scaled(logits[l]));
  for (int mask = 16; mask > 0; mask /= 2) top = fmax(top, __shfl_xor_sync(kAllLanes, top, mask));
  double own = 0;
#pragma unroll
  for (int j = 0; j < kKept; ++j) {
    if (j < each) own += kept[j] = exp(kept[j] - top);
  }
  for (int64_t l = begin + kKept; l < end; ++l) own += exp(scaled(logits[l]) - top);
  double up_to = own;
  for (int delta = 1; delta < 32; delta *= 2) {
    const double before = __shfl_up_sync(kAllLanes, up_to, delta);
    if (lane >= delta) up_to += before;
  }
  const double target = u * __shfl_sync(kAllLanes, up_to, 31);
  double run = __shfl_up_sync(kAllLanes, up_to, 1);
  if (lane == 0) run = 0;
  int64_t found = num_levels, last = 0;
  const auto look_at = [&](int64_t l, double probability) {
    run += probability;
    if (probability > 0) last = l;
    if (probability > 0 && run >= target && found == num_levels) found = l;
  };
#pragma unroll
  for (int j = 0; j < kKept; ++j) {
    if (begin + j < end) look_at(begin + j, kept[j]);
  }
  for (int64_t l = begin + kKept; l < end; ++l) look_at(l, exp(scaled(logits[l]) - top));
  for (int mask = 16; mask > 0; mask /= 2) {
    found = min(found, __shfl_xor_sync(kAllLanes, found, mask));
    last = max(last, __shfl_xor_sync(kAllLanes, last, mask));
  }
  if (!(target >= 0)) return 0;
  return found < num_levels ? found : last;  // rounding may leave the last one short of its target
}

// `decide` takes level 1 of two iff logit 0 - logit 1 lies below it.
__device__ __forceinline__ double binary_threshold(double u, double temperature) {
  // At u = 1 it is the largest difference at which 1 + exp(-difference) > 1: beyond it level 1 has probability 0.
  constexpr double kLargest = 53 * 0.693147180559945309417;
  return temperature * fmin(log(u) - log1p(-u), kLargest);
}

__device__ __forceinline__ float noise_of(const SamplingDraws& draws, int64_t at) {
  return reinterpret_cast<const float*>(draws.u)[at];
}

__device__ __forceinline__ bool is_known(const SamplingDraws& draws, int64_t at) {
  return draws.known_mask != 0 && reinterpret_cast<const uint8_t*>(draws.known_mask)[at];
}

__device__ __forceinline__ int64_t known_level(const SamplingDraws& draws, int64_t at) {
  return draws.wide ? reinterpret_cast<const int64_t*>(draws.known)[at]
                    : reinterpret_cast<const uint8_t*>(draws.known)[at];
}

__device__ __forceinline__ void set_level(const SamplingDraws& draws, int64_t at, int64_t level) {
  if (draws.wide) {
    reinterpret_cast<int64_t*>(draws.levels)[at] = level;
  } else {
    reinterpret_cast<uint8_t*>(draws.levels)[at] = static_cast<uint8_t>(level);
  }
}

// As the network sees it: of 16 bits rounded after each step, as torch rounds; of more a multiply-add may be one step.
template <class T, class Wide>
__device__ __forceinline__ T scaled_level(int64_t level, Wide scale, Wide shift) {
  const Wide scaled = widen_to(narrow_to<T>(widen_to(narrow_to<T>(static_cast<Wide>(level))) * scale));
  return narrow_to<T>(scaled + shift);
}

}  // namespace pygen::cuda
