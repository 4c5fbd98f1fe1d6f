// Launchers of crf_backward.cuh.
#include "cuda/crf_backward.cuh"
#include "cuda/crf_params.h"

namespace pygen::cuda {
namespace {

template <class Acc>
void launch_sums(const void* partial, std::uintptr_t sums, int64_t rows, int64_t columns, cudaStream_t stream) {
  const int64_t blocks = (columns + kCrfSumsThreads - 1) / kCrfSumsThreads;
  launch("crf_sums_kernel", &crf_sums_kernel<Acc>, blocks, kCrfSumsThreads, stream,
         CrfSumsParams{partial, reinterpret_cast<void*>(sums), rows, columns});
}

template <class Tr>
void run_backward(const CrfBackwardCall& call) {
  using Acc = typename Tr::Acc;
  const auto stream = reinterpret_cast<cudaStream_t>(call.stream);
  const int64_t k = call.tags, rows = call.sequences;
  CrfParams p = params_of(call);
  p.grads = positions_of(call.grad_emissions);
  p.grad = reinterpret_cast<const void*>(call.grad);
  p.grad_stride = call.grad_stride;
  p.scale = call.scale;
  Acc* sums = reinterpret_cast<Acc*>(call.sums);
  Acc *ends = nullptr, *partial = nullptr;
  if (sums) {
    p.u = sums;
    p.ends = ends = sums + rows * call.steps * k;
    partial = ends + 2 * rows * k;
  }
  if (rows > 0) launch("crf_backward_kernel", &crf_backward_kernel<Tr>, rows, Tr::kThreads, stream, p);
  if (!sums) return;
  if (rows > 0) {
    const int64_t tiles = (k + CrfPairsTraits::kTile - 1) / CrfPairsTraits::kTile;
    launch("crf_transitions_kernel", &crf_transitions_kernel<Acc>, call.groups() * tiles * tiles,
           CrfPairsTraits::kThreads, stream,
           CrfPairsParams{p.weights, p.states, p.u, p.grad, p.labels, p.lengths, partial, p.grad_stride, p.scale, rows,
                          call.steps, call.groups(), p.k});
  }
  launch_sums<Acc>(partial, call.grad_transitions, call.groups(), k * k, stream);
  launch_sums<Acc>(ends, call.grad_start, rows, k, stream);
  launch_sums<Acc>(ends + rows * k, call.grad_end, rows, k, stream);
}

}  // namespace

void crf_backward(const CrfBackwardCall& call) {
  const DeviceGuard guard(call.device);
  PYGEN_CRF_RUN(call, run_backward, call);
}

}  // namespace pygen::cuda
