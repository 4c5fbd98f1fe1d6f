// Launchers of reparameterize_kl.cuh: which view, tiling and kernel fit a call.
#include "cuda/launch.cuh"
#include "cuda/reparameterize_kl.cuh"
#include "cuda/reparameterize_kl.h"
#include "cuda/views.h"

namespace pygen::cuda {
namespace {

void fill(InputParams& p, const Frame& frame, const ReparameterizeKlCall& call) {
  p.mu = make_view(frame, call.mu);
  p.logvar = make_view(frame, call.logvar);
  p.prior_mu = make_view(frame, call.prior_mu);
  p.prior_logvar = make_view(frame, call.prior_logvar);
  p.eps = make_view(frame, call.eps);
  p.seed = reinterpret_cast<const int64_t*>(call.seed);
  p.num_samples = static_cast<uint32_t>(call.num_samples);
  p.clamp = call.free_bits > 0;
  p.free_bits = call.free_bits;
  p.kl_scale = call.kl_scale;
}

template <class Tr>
Tiling sum_tiling(int64_t rows, int64_t row_size, bool total) {
  return make_tiling(rows, row_size, Tr::kUnit, Tr::kUnits, Tr::kThreads, total, Tr::kMaxTurns);
}

template <class Tr>
void launch_finish(const FinishParams& p, int64_t rows, cudaStream_t stream) {
  launch("reparameterize_kl_finish_kernel", &reparameterize_kl_finish_kernel<Tr>, rows, Tr::kFinishThreads, stream, p);
}

template <class Tr>
void forward(const ReparameterizeKlForwardCall& call) {
  const auto stream = reinterpret_cast<cudaStream_t>(call.stream);
  Frame frame = make_frame(call.shape, call.num_samples, Tr::kUnit);
  if (frame.rows * frame.row_size == 0) {  // sums of nothing
    const int64_t sums = call.reduce ? 1 : frame.rows;
    if (sums > 0) launch_finish<Tr>({nullptr, reinterpret_cast<void*>(call.kl), 0, call.kl_scale}, sums, stream);
    return;
  }
  if (call.reduce) join_rows(frame, {&call.mu, &call.logvar, &call.prior_mu, &call.prior_logvar, &call.eps, &call.z});
  ForwardParams p{};
  fill(p, frame, call);
  p.z = make_view(frame, call.z);
  p.per_row = !call.reduce;
  p.tiling = sum_tiling<Tr>(frame.rows, frame.row_size, call.reduce);
  const int64_t partials = call.reduce ? p.tiling.blocks : p.tiling.blocks_per_row;
  const bool finish = partials > 1;
  p.sums = reinterpret_cast<void*>(finish ? call.workspace : call.kl);
  if (finish) p.kl_scale = 1;
  // Few rows and many samples: the samples fill the machine.
  const int64_t wanted = std::max<int64_t>(1, Tr::kFewBlocks / p.tiling.blocks);
  p.samples_per_block = static_cast<uint32_t>(std::max<int64_t>(1, (call.num_samples + wanted - 1) / wanted));
  const int64_t sample_blocks =
      std::max<int64_t>(1, (call.num_samples + p.samples_per_block - 1) / p.samples_per_block);
  const bool prior = call.prior_mu.address != 0;
  const bool aligned = all_aligned(frame, {p.mu, p.logvar, p.prior_mu, p.prior_logvar, p.eps, p.z});
  auto* kernel =
      prior ? (aligned ? &reparameterize_kl_fwd_kernel<Tr, true, true> : &reparameterize_kl_fwd_kernel<Tr, true, false>)
            : (aligned ? &reparameterize_kl_fwd_kernel<Tr, false, true>
                       : &reparameterize_kl_fwd_kernel<Tr, false, false>);
  launch("reparameterize_kl_fwd_kernel", kernel, p.tiling.blocks * sample_blocks, Tr::kThreads, stream, p);
  if (finish) {
    const FinishParams f{p.sums, reinterpret_cast<void*>(call.kl), partials, call.kl_scale};
    launch_finish<Tr>(f, call.reduce ? 1 : frame.rows, stream);
  }
}

template <class Tr>
void backward(const ReparameterizeKlBackwardCall& call) {
  Frame frame = make_frame(call.shape, call.num_samples, Tr::kUnit);
  if (frame.rows * frame.row_size == 0) return;
  if (call.reduce || call.grad_kl == 0) {
    join_rows(frame, {&call.mu, &call.logvar, &call.prior_mu, &call.prior_logvar, &call.eps, &call.grad_z,
                      &call.grads[0], &call.grads[1], &call.grads[2], &call.grads[3]});
  }
  BackwardParams p{};
  fill(p, frame, call);
  p.grad_z = make_view(frame, call.grad_z);
  if (call.grad_z.address == 0) p.num_samples = 0;
  p.grad_kl = reinterpret_cast<const void*>(call.grad_kl);
  p.grad_kl_stride = call.reduce ? 0 : call.grad_kl_stride;
  p.grad_mu = make_view(frame, call.grads[0], call.wide[0]);
  p.grad_logvar = make_view(frame, call.grads[1], call.wide[1]);
  p.grad_prior_mu = make_view(frame, call.grads[2], call.wide[2]);
  p.grad_prior_logvar = make_view(frame, call.grads[3], call.wide[3]);
  p.tiling = make_tiling(frame.rows, frame.row_size, Tr::kUnit, Tr::kUnits, Tr::kThreads, false, 1);
  const bool prior = call.prior_mu.address != 0;
  const bool aligned = all_aligned(frame, {p.mu, p.logvar, p.prior_mu, p.prior_logvar, p.eps, p.grad_z, p.grad_mu,
                                           p.grad_logvar, p.grad_prior_mu, p.grad_prior_logvar});
  auto* kernel =
      prior ? (aligned ? &reparameterize_kl_bwd_kernel<Tr, true, true> : &reparameterize_kl_bwd_kernel<Tr, true, false>)
            : (aligned ? &reparameterize_kl_bwd_kernel<Tr, false, true>
                       : &reparameterize_kl_bwd_kernel<Tr, false, false>);
  launch("reparameterize_kl_bwd_kernel", kernel, p.tiling.blocks, Tr::kThreads,
         reinterpret_cast<cudaStream_t>(call.stream), p);
}

template <class Do>
auto with_traits(const std::string& dtype, Do go) {
  if (dtype == "float32") return go(Traits<float>());
  if (dtype == "bfloat16") return go(Traits<__nv_bfloat16>());
  if (dtype == "float16") return go(Traits<__half>());
  if (dtype == "float64") return go(Traits<double>());
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + dtype);
}

}  // namespace

int64_t reparameterize_kl_workspace(const std::string& dtype, const std::vector<int64_t>& shape, bool reduce) {
  return with_traits(dtype, [&](auto traits) {
    using Tr = decltype(traits);
    const Frame frame = make_frame(shape, 1, Tr::kUnit);
    if (frame.rows * frame.row_size == 0) return int64_t(0);
    const Tiling rows = sum_tiling<Tr>(frame.rows, frame.row_size, reduce);
    if (!reduce) return rows.blocks_per_row == 1 ? int64_t(0) : rows.blocks;
    const int64_t most = std::max(rows.blocks, sum_tiling<Tr>(1, frame.rows * frame.row_size, true).blocks);
    return most == 1 ? int64_t(0) : most;
  });
}

void reparameterize_kl_forward(const ReparameterizeKlForwardCall& call) {
  const DeviceGuard guard(call.device);
  with_traits(call.dtype, [&](auto traits) { forward<decltype(traits)>(call); });
}

void reparameterize_kl_backward(const ReparameterizeKlBackwardCall& call) {
  const DeviceGuard guard(call.device);
  with_traits(call.dtype, [&](auto traits) { backward<decltype(traits)>(call); });
}

}  // namespace pygen::cuda
