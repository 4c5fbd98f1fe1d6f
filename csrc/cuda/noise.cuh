// The normals of a thread's units: the caller's tensor, or Philox of a seed that is read from device memory, so that a
// CUDA graph draws afresh at each replay.
#pragma once

#include "common/philox.h"
#include "cuda/tensor.cuh"

namespace pygen::cuda {

template <class T, int U, int V, bool kAligned, class Acc>
__device__ __forceinline__ void noise(const View& given, const int64_t* seed, NoiseDomain domain, const Span (&span)[U],
                                      uint32_t k, Acc (&eps)[U][V]) {
  static_assert(V % 4 == 0, "a Philox call gives four normals");
  if (given.data != nullptr) {
#pragma unroll
    for (int u = 0; u < U; ++u) unpack(load<T, V, kAligned>(given, span[u], k), eps[u]);
    return;
  }
  // One block of code for all units: they share the key schedule.
  const uint64_t key = static_cast<uint64_t>(*seed);
#pragma unroll
  for (int u = 0; u < U; ++u) {
#pragma unroll
    for (int i = 0; i < V; i += 4) {
      Acc quad[4];
      philox_normal4<Acc>(key, static_cast<uint64_t>(span[u].j + i) / 4, k, domain, quad);
#pragma unroll
      for (int lane = 0; lane < 4; ++lane) eps[u][i + lane] = quad[lane];
    }
  }
}

}  // namespace pygen::cuda
