// The normals of a thread's units: the caller's tensor, or Philox of a seed that is read from device memory, so that a
// CUDA graph draws afresh at each replay.
#pragma once

#include "common/philox.h"
#include "common/special.h"
#include "cuda/tensor.cuh"

namespace pygen::cuda {

// The four normals of quad q for what is rounded to 16 bits: those of philox_normal4 but for 6e-6 (or, where r is below
// a hundredth, 6e-4), of the special units, at a quarter of the instructions behind Philox.
__device__ __forceinline__ void quick_normal4(uint64_t seed, uint64_t q, uint32_t k, NoiseDomain domain,
                                              float (&z)[4]) {
  uint32_t c[4];
  philox_words(seed, q, k, domain, c);
#pragma unroll
  for (int pair = 0; pair < 4; pair += 2) {
    // -2 ln u = 2 ln 2 |log2 u|; the absolute value, as of u = 1 an error may have any sign
    const float square = ::fabsf(special_lg2(uniform_of_word(c[pair]))) * 1.38629436111989062f;
    const float radius = Lanes<float>::sqrt(square);
    float sine, cosine;
    special_sincos(uniform_of_word(c[pair + 1]) * 6.28318530717958648f, sine, cosine);
    z[pair] = radius * cosine;
    z[pair + 1] = radius * sine;
  }
}

// Read once: behind a store the compiler would have to read it again. None: the noise is the caller's, or not needed.
__device__ __forceinline__ uint64_t noise_key(const int64_t* seed) {
  return seed == nullptr ? 0 : static_cast<uint64_t>(__ldg(seed));
}

template <class T, int U, int V, bool kAligned, class Acc>
__device__ __forceinline__ void noise(const View& given, uint64_t key, NoiseDomain domain, const Span (&span)[U],
                                      uint32_t k, Acc (&eps)[U][V]) {
  static_assert(V % 4 == 0, "a Philox call gives four normals");
  if (given.data != nullptr) {
#pragma unroll
    for (int u = 0; u < U; ++u) unpack(load<T, V, kAligned>(given, span[u], k), eps[u]);
    return;
  }
  // One block of code for all units: they share the key schedule.
#pragma unroll
  for (int u = 0; u < U; ++u) {
#pragma unroll
    for (int i = 0; i < V; i += 4) {
      Acc quad[4];
      const uint64_t q = static_cast<uint64_t>(span[u].j + i) / 4;
      if constexpr (sizeof(T) == 2) {
        quick_normal4(key, q, k, domain, quad);
      } else {
        philox_normal4<Acc>(key, q, k, domain, quad);
      }
#pragma unroll
      for (int lane = 0; lane < 4; ++lane) eps[u][i + lane] = quad[lane];
    }
  }
}

}  // namespace pygen::cuda
