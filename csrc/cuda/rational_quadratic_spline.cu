// Launchers of rational_quadratic_spline.cuh: how a sample is dealt to threads.
#include "cuda/launch.cuh"
#include "cuda/rational_quadratic_spline.cuh"
#include "cuda/rational_quadratic_spline.h"

namespace pygen::cuda {
namespace {

template <class Acc>
SplineParams<Acc> make_params(const RationalQuadraticSplineCall& call) {
  SplineParams<Acc> p{};
  p.from = operand(call.from);
  p.to = operand(call.to);
  p.input = operand(call.input);
  p.numbers = operand(call.params);
  p.grad_numbers = operand(call.grad_params);
  p.rest_from = operand(call.rest_from);
  p.rest_to = operand(call.rest_to);
  p.step = call.step;
  p.grad_step = call.grad_step;
  p.live = part(call.sizes, SplineDeal::kUnit);
  p.rest = part(call.rest_sizes, SplineDeal::kUnit);
  p.rows = call.images;
  p.grad_log_det = reinterpret_cast<const Acc*>(call.grad_log_det);
  p.grad_log_det_stride = call.grad_log_det_stride;
  p.constants = spline_constants<Acc>(call.options);
  deal_units<SplineDeal>(p);
  p.partial = reinterpret_cast<Acc*>(p.tiles > 1 ? call.workspace : call.log_det);
  return p;
}

template <class Tr, class Numbers>
void run_with(const RationalQuadraticSplineCall& call, bool backward, int shared_bytes) {
  const auto p = make_params<typename Tr::Acc>(call);
  if (p.rows == 0) return;
  const int64_t rows_a_block = Tr::kThreads >> p.lane_bits;
  const int64_t blocks = (p.rows + rows_a_block - 1) / rows_a_block * p.tiles;
  const auto stream = reinterpret_cast<cudaStream_t>(call.stream);
  if (backward) {
    launch("rational_quadratic_spline_bwd_kernel",
           call.inverse ? &rational_quadratic_spline_bwd_kernel<Tr, Numbers, true>
                        : &rational_quadratic_spline_bwd_kernel<Tr, Numbers, false>,
           blocks, Tr::kThreads, stream, p, shared_bytes);
    return;
  }
  launch("rational_quadratic_spline_fwd_kernel",
         call.inverse ? &rational_quadratic_spline_fwd_kernel<Tr, Numbers, true>
                      : &rational_quadratic_spline_fwd_kernel<Tr, Numbers, false>,
         blocks, Tr::kThreads, stream, p, shared_bytes);
  if (p.tiles > 1)
    launch_loss_sums<typename Tr::Acc>({p.partial, reinterpret_cast<void*>(call.log_det), p.tiles, 1.0}, p.rows,
                                       call.stream);
}

constexpr int64_t kMostShared = 48 << 10;  // what every kernel gets unasked: 31 bins, of float64 15

template <class Tr>
void run(const RationalQuadraticSplineCall& call, bool backward) {
  using Near = SharedNumbers<typename Tr::T>;
  const int64_t numbers = 3 * call.options.bins + (call.options.linear ? -1 : 1);
  const int64_t bytes = Tr::kThreads * Near::stride_of(static_cast<int>(numbers)) * int64_t(sizeof(typename Tr::Acc));
  if (bytes <= kMostShared) return run_with<Tr, Near>(call, backward, static_cast<int>(bytes));
  run_with<Tr, DistantNumbers<typename Tr::T>>(call, backward, 0);
}

void run_dtype(const RationalQuadraticSplineCall& call, bool backward) {
  const DeviceGuard guard(call.device);
  if (call.dtype == "float32") return run<SplineTraits<float>>(call, backward);
  if (call.dtype == "bfloat16") return run<SplineTraits<__nv_bfloat16>>(call, backward);
  if (call.dtype == "float16") return run<SplineTraits<__half>>(call, backward);
  if (call.dtype == "float64") return run<SplineTraits<double>>(call, backward);
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + call.dtype);
}

}  // namespace

int64_t rational_quadratic_spline_tiles(const RationalQuadraticSplineCall& call) {
  return make_params<float>(call).tiles;
}
void rational_quadratic_spline_forward(const RationalQuadraticSplineCall& call) { run_dtype(call, false); }
void rational_quadratic_spline_backward(const RationalQuadraticSplineCall& call) { run_dtype(call, true); }

}  // namespace pygen::cuda
