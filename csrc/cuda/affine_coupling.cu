// Launchers of affine_coupling.cuh: how a sample is dealt to threads, and whether 128-bit accesses fit.
#include "cuda/affine_coupling.cuh"
#include "cuda/affine_coupling.h"
#include "cuda/launch.cuh"

namespace pygen::cuda {
namespace {

template <class Tr>
CouplingParams make_params(const AffineCouplingCall& call) {
  CouplingParams p{};
  p.from = operand(call.from);
  p.to = operand(call.to);
  p.input = operand(call.input);
  p.shift = operand(call.shift);
  p.log_scale = operand(call.log_scale);
  p.rest_from = operand(call.rest_from);
  p.rest_to = operand(call.rest_to);
  p.grad_shift = operand(call.grad_shift);
  p.grad_log_scale = operand(call.grad_log_scale);
  p.live = part(call.sizes, Tr::kUnit);
  p.rest = part(call.rest_sizes, Tr::kUnit);
  p.rows = call.images;
  p.grad_log_det = reinterpret_cast<const void*>(call.grad_log_det);
  p.grad_log_det_stride = call.grad_log_det_stride;
  p.bound = call.bound;
  p.inverse = call.inverse;
  p.parity = call.parity;
  p.even = call.even;
  for (int d = 0; d < 3; ++d) p.weights[d] = static_cast<int>(call.weights[d]);
  deal_units<Tr>(p);
  return p;
}

// Its units are whole, and start at multiples of 16 bytes.
template <class Tr>
bool aligned(const CouplingOperand& t) {
  if (t.data == nullptr) return true;
  const auto whole = [](int64_t stride) { return stride % Tr::kUnit == 0; };
  return t.inner == 1 && reinterpret_cast<std::uintptr_t>(t.data) % 16 == 0 && whole(t.row) && whole(t.outer) &&
         whole(t.middle);
}

template <class Tr>
bool all_aligned(const CouplingParams& p) {
  const auto whole = [](const CouplingPart& part) { return part.inner % Tr::kUnit == 0; };
  bool all = whole(p.live) && whole(p.rest);
  for (const CouplingOperand* t :
       {&p.from, &p.to, &p.input, &p.shift, &p.log_scale, &p.rest_from, &p.rest_to, &p.grad_shift, &p.grad_log_scale})
    all = all && aligned<Tr>(*t);
  return all;
}

template <class Tr, CouplingScale kScale>
void run_scale(const AffineCouplingCall& call, bool backward) {
  CouplingParams p = make_params<Tr>(call);
  if (p.rows == 0) return;
  p.partial = reinterpret_cast<void*>(p.tiles > 1 ? call.workspace : call.log_det);
  const int64_t rows_a_block = Tr::kThreads >> p.lane_bits;
  const int64_t blocks = (p.rows + rows_a_block - 1) / rows_a_block * p.tiles;
  const bool wide = all_aligned<Tr>(p);
  const auto stream = reinterpret_cast<cudaStream_t>(call.stream);
  if (backward) {
    launch("affine_coupling_bwd_kernel",
           wide ? &affine_coupling_bwd_kernel<Tr, kScale, true> : &affine_coupling_bwd_kernel<Tr, kScale, false>,
           blocks, Tr::kThreads, stream, p);
    return;
  }
  launch("affine_coupling_fwd_kernel",
         wide ? &affine_coupling_fwd_kernel<Tr, kScale, true> : &affine_coupling_fwd_kernel<Tr, kScale, false>, blocks,
         Tr::kThreads, stream, p);
  if (kScale != CouplingScale::None && p.tiles > 1)
    launch_loss_sums<typename Tr::Acc>({p.partial, reinterpret_cast<void*>(call.log_det), p.tiles, 1.0}, p.rows,
                                       call.stream);
}

template <class Tr>
void run(const AffineCouplingCall& call, bool backward) {
  using S = CouplingScale;
  switch (parse_coupling_scale(call.scale)) {
    case S::None:
      return run_scale<Tr, S::None>(call, backward);
    case S::Exp:
      return run_scale<Tr, S::Exp>(call, backward);
    case S::Tanh:
    case S::TanhNear:
      return run_scale<Tr, S::Tanh>(call, backward);
    case S::Sigmoid:
      return run_scale<Tr, S::Sigmoid>(call, backward);
  }
}

template <class Do>
auto with_traits(const std::string& dtype, Do go) {
  if (dtype == "float32") return go(CouplingTraits<float>());
  if (dtype == "bfloat16") return go(CouplingTraits<__nv_bfloat16>());
  if (dtype == "float16") return go(CouplingTraits<__half>());
  if (dtype == "float64") return go(CouplingTraits<double>());
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + dtype);
}

}  // namespace

int64_t affine_coupling_tiles(const AffineCouplingCall& call) {
  return with_traits(call.dtype, [&](auto traits) { return make_params<decltype(traits)>(call).tiles; });
}

void affine_coupling_forward(const AffineCouplingCall& call) {
  const DeviceGuard guard(call.device);
  with_traits(call.dtype, [&](auto traits) { run<decltype(traits)>(call, false); });
}

void affine_coupling_backward(const AffineCouplingCall& call) {
  const DeviceGuard guard(call.device);
  with_traits(call.dtype, [&](auto traits) { run<decltype(traits)>(call, true); });
}

}  // namespace pygen::cuda
