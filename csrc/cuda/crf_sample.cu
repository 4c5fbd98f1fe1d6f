// Launcher of crf_sample.cuh.
#include "cuda/crf_params.h"
#include "cuda/crf_sample.cuh"

namespace pygen::cuda {
namespace {

template <class Tr>
void run_sample(const CrfSampleCall& call) {
  CrfParams p = params_of(call);
  p.decoded = reinterpret_cast<long long*>(call.drawn);
  p.seed = reinterpret_cast<const int64_t*>(call.seed);
  p.samples = call.samples;
  const int64_t warps = call.sequences * call.samples;
  launch("crf_sample_kernel", &crf_sample_kernel<Tr>, (warps + kSampleWarps - 1) / kSampleWarps, 32 * kSampleWarps,
         reinterpret_cast<cudaStream_t>(call.stream), p);
}

}  // namespace

void crf_sample(const CrfSampleCall& call) {
  const DeviceGuard guard(call.device);
  if (call.sequences > 0 && call.samples > 0) PYGEN_CRF_RUN(call, run_sample, call);
}

}  // namespace pygen::cuda
