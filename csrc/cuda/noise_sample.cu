// noise_sample for NVIDIA GPUs: csrc/common/noise_sample.h. Not yet run on a GPU.
//
// Traffic of a draw: 16 bytes of a column of the table, from anywhere, and 8 written; a thread makes one.
#include "common/noise_sample.h"
#include "cuda/launch.cuh"
#include "cuda/noise_sample.h"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

struct NoiseSample {
  const int64_t *table, *seed;
  int64_t* drawn;
  int64_t total, count, classes;
};

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) noise_sample_kernel(const __grid_constant__ NoiseSample p) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (i >= p.total) return;
  const int64_t row = static_cast<int64_t>(divide(static_cast<uint64_t>(i), static_cast<uint64_t>(p.count)));
  p.drawn[i] = draw_class(p.table, p.classes, static_cast<uint64_t>(*p.seed), row, i - row * p.count);
}

}  // namespace

void noise_sample(const NoiseSampleCall& call) {
  const int64_t total = call.rows * call.count;
  if (total == 0) return;
  const DeviceGuard guard(call.device);
  const NoiseSample p{reinterpret_cast<const int64_t*>(call.table),
                      reinterpret_cast<const int64_t*>(call.seed),
                      reinterpret_cast<int64_t*>(call.drawn),
                      total,
                      call.count,
                      call.classes};
  launch("noise_sample_kernel", &noise_sample_kernel, (total + kThreads - 1) / kThreads, kThreads,
         reinterpret_cast<cudaStream_t>(call.stream), p);
}

}  // namespace pygen::cuda
