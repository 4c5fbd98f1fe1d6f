// Parts of a log-sum-exp that several threads have, without the drawn number: categorical_nll's and am_softmax's;
// and without any, categorical_sample's.
#pragma once

#include <cuda_runtime.h>

#include "common/categorical_nll.h"

namespace pygen::cuda {

// e^x, x <= 0, in two instructions: the rounding of x log2(e) makes it wrong by |x| 2^-24 at most, of a term e^x in a
// sum of 1 or more, and that is below 2^-25.
__device__ __forceinline__ float exp_term(float x) {
#if defined(__CUDA_ARCH__)
  return __expf(x);
#else
  return ::expf(x);
#endif
}
__device__ __forceinline__ double exp_term(double x) { return ::exp(x); }

template <class Acc>
struct Terms {
  Acc top = -Lanes<Acc>::kMax, others = 0;
};

// Of numbers first, first + step, ... below `count`, read(j) each; kBatch of them in flight. What a number lies below
// the largest is multiplied by `scale`.
template <int kBatch, class Acc, class Read>
__device__ __forceinline__ Terms<Acc> sweep_terms(int count, int drawn, int first, int step, const Read& read,
                                                  Acc scale = 1) {
  Terms<Acc> terms;
  for (int start = first; start < count; start += step * kBatch) {
    Acc x[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int j = start + i * step;
      x[i] = j < count ? read(j) : -Acc(INFINITY);
    }
    Acc top = terms.top;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) top = x[i] > top ? x[i] : top;
    terms.others *= exp_term((terms.top - top) * scale);
    terms.top = top;
#pragma unroll
    for (int i = 0; i < kBatch; ++i)
      terms.others += start + i * step == drawn ? Acc(0) : exp_term((x[i] - top) * scale);
  }
  return terms;
}

// Those of a warp's lanes, in each of them.
template <class Acc>
__device__ __forceinline__ void join_lanes(Terms<Acc>& terms, Acc scale = 1) {
  const Acc own = terms.top;
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) {
    const Acc top = __shfl_xor_sync(0xffffffffu, terms.top, mask);
    terms.top = top > terms.top ? top : terms.top;
  }
  terms.others *= exp_term((own - terms.top) * scale);
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) terms.others += __shfl_xor_sync(0xffffffffu, terms.others, mask);
}

// Those of a block's warps, in each of its threads.
template <int kWarps, class Acc>
__device__ __forceinline__ void join_warps(Terms<Acc>& terms) {
  __shared__ Acc tops[kWarps], sums[kWarps];
  const int thread = static_cast<int>(threadIdx.x);
  if (thread % 32 == 0) {
    tops[thread / 32] = terms.top;
    sums[thread / 32] = terms.others;
  }
  __syncthreads();
  for (int warp = 0; warp < kWarps; ++warp) terms.top = tops[warp] > terms.top ? tops[warp] : terms.top;
  terms.others = 0;
  for (int warp = 0; warp < kWarps; ++warp) terms.others += sums[warp] * exp_term(tops[warp] - terms.top);
}

}  // namespace pygen::cuda
