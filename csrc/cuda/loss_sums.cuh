// Sums of losses over what the blocks of a launch left, in double and in fixed order; and how kernels see positions.
#pragma once

#include "cuda/launch.cuh"
#include "cuda/positions.h"
#include "cuda/reduce.cuh"

namespace pygen::cuda {
namespace {

struct Positions {
  char* data;
  int64_t image, channel, position;
};

inline Positions positions_of(const PositionsArgument& t) {
  return {reinterpret_cast<char*>(t.address), t.image, t.channel, t.position};
}

struct LossSumsParams {
  const void* partial;  // [rows, count]
  void* sums;           // [rows]
  int64_t count;
  double scale;
};

constexpr int kLossSumsThreads = 256;

// sums[row] = scale * sum of partial[row, :].
template <class Acc>
__global__ void __launch_bounds__(kLossSumsThreads) loss_sums_kernel(const __grid_constant__ LossSumsParams p) {
  const Acc* partial = static_cast<const Acc*>(p.partial) + static_cast<int64_t>(blockIdx.x) * p.count;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < p.count; i += kLossSumsThreads) sum += partial[i];
  sum = group_sum<kLossSumsThreads>(sum, kLossSumsThreads);
  if (threadIdx.x == 0) static_cast<Acc*>(p.sums)[blockIdx.x] = static_cast<Acc>(sum * p.scale);
}

template <class Acc>
void launch_loss_sums(const LossSumsParams& p, int64_t rows, std::uintptr_t stream) {
  launch("loss_sums_kernel", &loss_sums_kernel<Acc>, rows, kLossSumsThreads, reinterpret_cast<cudaStream_t>(stream), p);
}

}  // namespace
}  // namespace pygen::cuda
