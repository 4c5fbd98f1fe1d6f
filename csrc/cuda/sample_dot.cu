// Launchers of sample_dot.cuh: which views, tiling and kernel fit a call.
#include "cuda/launch.cuh"
#include "cuda/sample_dot.cuh"
#include "cuda/sample_dot.h"
#include "cuda/views.h"

namespace pygen::cuda {
namespace {

template <class Tr>
Tiling tiling_of(const Frame& frame, int max_turns) {
  return make_tiling(frame.rows, frame.row_size, Tr::kUnit, Tr::kUnits, Tr::kThreads, false, max_turns);
}

template <class Tr>
void launch_finish(const DotFinishParams& p, int64_t rows, cudaStream_t stream) {
  launch("sample_dot_finish_kernel", &sample_dot_finish_kernel<Tr>, rows, Tr::kFinishThreads, stream, p);
}

template <class Tr>
void forward(const SampleDotCall& call) {
  const auto stream = reinterpret_cast<cudaStream_t>(call.stream);
  auto* sums = reinterpret_cast<void*>(call.sums);
  const Frame frame = make_frame(call.shape, 1, Tr::kUnit);
  if (frame.row_size == 0) return launch_finish<Tr>({nullptr, sums, 0}, frame.rows, stream);
  DotParams p{};
  p.x = make_view(frame, call.x);
  p.y = make_view(frame, call.y);
  p.tiling = tiling_of<Tr>(frame, Tr::kMaxTurns);
  const bool finish = p.tiling.blocks_per_row > 1;
  p.sums = finish ? reinterpret_cast<void*>(call.workspace) : sums;
  const bool pair = call.y.address != 0, aligned = all_aligned(frame, {p.x, p.y});
  auto* kernel = pair ? (aligned ? &sample_dot_fwd_kernel<Tr, true, true> : &sample_dot_fwd_kernel<Tr, true, false>)
                      : (aligned ? &sample_dot_fwd_kernel<Tr, false, true> : &sample_dot_fwd_kernel<Tr, false, false>);
  launch("sample_dot_fwd_kernel", kernel, p.tiling.blocks, Tr::kThreads, stream, p);
  if (finish) launch_finish<Tr>({p.sums, sums, p.tiling.blocks_per_row}, frame.rows, stream);
}

template <class Tr>
void backward(const SampleDotCall& call) {
  const Frame frame = make_frame(call.shape, 1, Tr::kUnit);
  if (frame.row_size == 0) return;
  ScaleParams p{};
  p.x = make_view(frame, call.x);
  p.out = make_view(frame, call.out);
  p.factor = reinterpret_cast<const void*>(call.factor);
  p.factor_stride = call.factor_stride;
  p.tiling = tiling_of<Tr>(frame, 1);
  auto* kernel =
      all_aligned(frame, {p.x, p.out}) ? &sample_dot_bwd_kernel<Tr, true> : &sample_dot_bwd_kernel<Tr, false>;
  launch("sample_dot_bwd_kernel", kernel, p.tiling.blocks, Tr::kThreads, reinterpret_cast<cudaStream_t>(call.stream),
         p);
}

template <class Do>
auto with_traits(const std::string& dtype, Do go) {
  if (dtype == "float32") return go(DotTraits<float>());
  if (dtype == "bfloat16") return go(DotTraits<__nv_bfloat16>());
  if (dtype == "float16") return go(DotTraits<__half>());
  if (dtype == "float64") return go(DotTraits<double>());
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + dtype);
}

}  // namespace

int64_t sample_dot_workspace(const std::string& dtype, const std::vector<int64_t>& shape) {
  return with_traits(dtype, [&](auto traits) {
    using Tr = decltype(traits);
    const Frame frame = make_frame(shape, 1, Tr::kUnit);
    if (frame.row_size == 0) return int64_t(0);
    const Tiling tiling = tiling_of<Tr>(frame, Tr::kMaxTurns);
    return tiling.blocks_per_row == 1 ? int64_t(0) : tiling.blocks;
  });
}

void sample_dot_forward(const SampleDotCall& call) {
  const DeviceGuard guard(call.device);
  with_traits(call.dtype, [&](auto traits) { forward<decltype(traits)>(call); });
}

void sample_dot_backward(const SampleDotCall& call) {
  const DeviceGuard guard(call.device);
  with_traits(call.dtype, [&](auto traits) { backward<decltype(traits)>(call); });
}

}  // namespace pygen::cuda
