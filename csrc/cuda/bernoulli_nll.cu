// Launchers of bernoulli_nll.cuh: which view, tiling and kernel fit a call.
#include "cuda/bernoulli_nll.cuh"
#include "cuda/bernoulli_nll.h"
#include "cuda/loss_sums.cuh"
#include "cuda/views.h"

namespace pygen::cuda {
namespace {

template <class Tr>
Tiling sum_tiling(int64_t rows, int64_t row_size, bool total) {
  return make_tiling(rows, row_size, Tr::kUnit, Tr::kUnits, Tr::kThreads, total, Tr::kMaxTurns);
}

void fill(BernoulliParams& p, const Frame& frame, const BernoulliCall& call) {
  p.holds = call.x_dtype == "uint8" ? XHolds::Bytes : call.x_dtype == "int64" ? XHolds::Words : XHolds::Floats;
  p.logits = make_view(frame, call.logits);
  p.x = make_view(frame, call.x, false, p.holds == XHolds::Bytes ? frame.unit : 16);
  p.scale = call.scale;
}

// The fastest kernel whose promise the views keep.
Way way(const Frame& frame, const BernoulliParams& p, const View& grad_logits) {
  if (p.holds == XHolds::Words || !all_aligned(frame, {p.logits, p.x, grad_logits})) return Way::Any;
  return p.holds == XHolds::Bytes ? Way::Bytes : Way::Floats;
}

template <class Tr>
void forward(const BernoulliCall& call, Frame frame) {
  using Acc = typename Tr::Acc;
  if (call.reduce) join_rows(frame, {&call.logits, &call.x});
  BernoulliForward p{};
  fill(p, frame, call);
  p.per_row = !call.reduce;
  p.tiling = sum_tiling<Tr>(frame.rows, frame.row_size, call.reduce);
  const int64_t partials = call.reduce ? p.tiling.blocks : p.tiling.blocks_per_row;
  const bool finish = partials > 1;
  p.sums = reinterpret_cast<void*>(finish ? call.workspace : call.nll);
  if (finish) p.scale = 1;
  const Way kept = way(frame, p, {});
  auto* kernel = kept == Way::Bytes    ? &bernoulli_nll_fwd_kernel<Tr, Way::Bytes>
                 : kept == Way::Floats ? &bernoulli_nll_fwd_kernel<Tr, Way::Floats>
                                       : &bernoulli_nll_fwd_kernel<Tr, Way::Any>;
  launch("bernoulli_nll_fwd_kernel", kernel, p.tiling.blocks, Tr::kThreads, reinterpret_cast<cudaStream_t>(call.stream),
         p);
  if (finish) {
    launch_loss_sums<Acc>({p.sums, reinterpret_cast<void*>(call.nll), partials, call.scale},
                          call.reduce ? 1 : frame.rows, call.stream);
  }
}

template <class Tr>
void backward(const BernoulliCall& call, Frame frame) {
  if (call.reduce) join_rows(frame, {&call.logits, &call.x, &call.grad_logits});
  BernoulliBackward p{};
  fill(p, frame, call);
  p.grad_nll = reinterpret_cast<const void*>(call.grad_nll);
  p.grad_nll_stride = call.reduce ? 0 : call.grad_nll_stride;
  p.grad_logits = make_view(frame, call.grad_logits);
  p.tiling = make_tiling(frame.rows, frame.row_size, Tr::kUnit, Tr::kUnits, Tr::kThreads, false, 1);
  const Way kept = way(frame, p, p.grad_logits);
  auto* kernel = kept == Way::Bytes    ? &bernoulli_nll_bwd_kernel<Tr, Way::Bytes>
                 : kept == Way::Floats ? &bernoulli_nll_bwd_kernel<Tr, Way::Floats>
                                       : &bernoulli_nll_bwd_kernel<Tr, Way::Any>;
  launch("bernoulli_nll_bwd_kernel", kernel, p.tiling.blocks, Tr::kThreads, reinterpret_cast<cudaStream_t>(call.stream),
         p);
}

template <class Tr>
void run(const BernoulliCall& call) {
  using Acc = typename Tr::Acc;
  const Frame frame = make_frame(call.shape, 1, Tr::kUnit);
  if (frame.rows * frame.row_size > 0) {
    if (call.grad_logits.address != 0) return backward<Tr>(call, frame);
    return forward<Tr>(call, frame);
  }
  const int64_t sums = call.reduce ? 1 : frame.rows;  // of nothing
  if (call.nll != 0 && sums > 0)
    launch_loss_sums<Acc>({nullptr, reinterpret_cast<void*>(call.nll), 0, call.scale}, sums, call.stream);
}

template <class Do>
auto with_traits(const std::string& dtype, Do go) {
  if (dtype == "float32") return go(BernoulliTraits<float>());
  if (dtype == "bfloat16") return go(BernoulliTraits<__nv_bfloat16>());
  if (dtype == "float16") return go(BernoulliTraits<__half>());
  if (dtype == "float64") return go(BernoulliTraits<double>());
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + dtype);
}

}  // namespace

int64_t bernoulli_nll_workspace(const std::string& dtype, const std::vector<int64_t>& shape, bool reduce) {
  return with_traits(dtype, [&](auto traits) {
    using Tr = decltype(traits);
    const Frame frame = make_frame(shape, 1, Tr::kUnit);
    if (frame.rows * frame.row_size == 0) return int64_t(0);
    const Tiling rows = sum_tiling<Tr>(frame.rows, frame.row_size, reduce);
    if (!reduce) return rows.blocks_per_row == 1 ? int64_t(0) : rows.blocks;
    return std::max(rows.blocks, sum_tiling<Tr>(1, frame.rows * frame.row_size, true).blocks);
  });
}

void bernoulli_nll(const BernoulliCall& call) {
  const DeviceGuard guard(call.device);
  with_traits(call.dtype, [&](auto traits) { run<decltype(traits)>(call); });
}

}  // namespace pygen::cuda
