// Launchers of crf.cuh.
#include "cuda/crf.cuh"
#include "cuda/crf_params.h"

namespace pygen::cuda {
namespace {

template <class Tr>
void run_forward(const CrfForwardCall& call) {
  using Acc = typename Tr::Acc;
  const auto stream = reinterpret_cast<cudaStream_t>(call.stream);
  const std::uintptr_t each = call.reduce ? call.partial : call.nll;
  if (call.sequences > 0) {
    CrfParams p = params_of(call);
    p.nll = reinterpret_cast<void*>(call.nll == 0 ? 0 : each);
    launch("crf_prepare_kernel", &crf_prepare_kernel<Acc>, 1, kPrepareThreads, stream, p);
    launch("crf_forward_kernel", &crf_forward_kernel<Tr>, call.sequences, Tr::kThreads, stream, p);
  }
  if (call.reduce && call.nll != 0)
    launch_loss_sums<Acc>(
        {reinterpret_cast<void*>(each), reinterpret_cast<void*>(call.nll), call.sequences, call.scale}, 1, call.stream);
}

template <class Tr>
void run_decode(const CrfDecodeCall& call) {
  CrfParams p = params_of(call);
  p.decoded = reinterpret_cast<long long*>(call.decoded);
  p.scores = reinterpret_cast<void*>(call.scores);
  launch("crf_decode_kernel", &crf_decode_kernel<Tr>, call.sequences, Tr::kThreads,
         reinterpret_cast<cudaStream_t>(call.stream), p);
}

}  // namespace

int64_t crf_weights(int64_t tags) { return (2 * tags + 1) * tags + 3; }
int64_t crf_states(int64_t sequences, int64_t steps, int64_t tags) { return sequences * steps * (tags + 1); }
int64_t crf_sums(int64_t sequences, int64_t steps, int64_t tags) {
  const int64_t groups = sequences < kCrfGroups ? sequences : kCrfGroups;
  return sequences * (steps + 2) * tags + groups * tags * tags + 1;  // never none: no address
}

void crf_forward(const CrfForwardCall& call) {
  const DeviceGuard guard(call.device);
  PYGEN_CRF_RUN(call, run_forward, call);
}
void crf_decode(const CrfDecodeCall& call) {
  const DeviceGuard guard(call.device);
  if (call.sequences > 0) PYGEN_CRF_RUN(call, run_decode, call);
}

}  // namespace pygen::cuda
