// Launchers of noise_contrastive.cuh.
#include "cuda/launch.cuh"
#include "cuda/noise_contrastive.cuh"
#include "cuda/noise_contrastive.h"

namespace pygen::cuda {
namespace {

template <class T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

bool whole_units(const RowsArgument& rows, int64_t size) {
  return rows.address % 16 == 0 && rows.stride * size % 16 == 0;
}

template <class Tr>
void run_rows(const ContrastRowsCall& call) {
  constexpr int64_t size = sizeof(typename Tr::T);
  const ContrastRows p{pointer<const void>(call.input.address),
                       pointer<const void>(call.weight.address),
                       pointer<const void>(call.bias),
                       pointer<const void>(call.shift),
                       pointer<const double>(call.log_noise.address),
                       pointer<const int64_t>(call.target),
                       pointer<const int64_t>(call.chosen),
                       pointer<void>(call.scores),
                       pointer<void>(call.slopes),
                       pointer<void>(call.nll),
                       pointer<void>(call.grad),
                       call.input.stride,
                       call.weight.stride,
                       call.log_noise.stride,
                       call.negatives,
                       call.features,
                       call.classes,
                       call.log_count,
                       call.softmax,
                       call.remove_hits};
  const bool aligned =
      whole_units(call.input, size) && whole_units(call.weight, size) && call.features * size % 16 == 0;
  auto* kernel =
      call.shift != 0
          ? (aligned ? &noise_contrastive_rows_kernel<Tr, true, true> : &noise_contrastive_rows_kernel<Tr, true, false>)
          : (aligned ? &noise_contrastive_rows_kernel<Tr, false, true>
                     : &noise_contrastive_rows_kernel<Tr, false, false>);
  launch("noise_contrastive_rows_kernel", kernel, call.samples, Tr::kThreads, pointer<CUstream_st>(call.stream), p);
}

template <class Tr>
void run_sums(const ContrastSumsCall& call) {
  const ContrastSums p{pointer<const int64_t>(call.classes),
                       pointer<const int64_t>(call.order),
                       pointer<const int64_t>(call.ends),
                       pointer<const int64_t>(call.place != 0 ? call.place : call.classes),
                       pointer<const void>(call.scale),
                       pointer<const void>(call.bias_scale != 0 ? call.bias_scale : call.scale),
                       pointer<const void>(call.head.address),
                       pointer<const void>(call.tail.address),
                       pointer<void>(call.out),
                       pointer<void>(call.bias),
                       call.head.stride,
                       call.tail.stride,
                       call.targets,
                       call.per,
                       call.features,
                       call.rows};
  auto* kernel = call.wide_vectors ? &noise_contrastive_sums_kernel<Tr, typename Tr::Acc>
                                   : &noise_contrastive_sums_kernel<Tr, typename Tr::T>;
  launch("noise_contrastive_sums_kernel", kernel, call.entries, Tr::kThreads, pointer<CUstream_st>(call.stream), p);
}

}  // namespace

void noise_contrastive_rows(const ContrastRowsCall& call) {
  if (call.samples == 0) return;
  const DeviceGuard guard(call.device);
  if (call.dtype == "float32") return run_rows<ContrastTraits<float>>(call);
  if (call.dtype == "bfloat16") return run_rows<ContrastTraits<__nv_bfloat16>>(call);
  if (call.dtype == "float16") return run_rows<ContrastTraits<__half>>(call);
  if (call.dtype == "float64") return run_rows<ContrastTraits<double>>(call);
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + call.dtype);
}

void noise_contrastive_sums(const ContrastSumsCall& call) {
  if (call.entries == 0) return;
  const DeviceGuard guard(call.device);
  if (call.dtype == "float32") return run_sums<ContrastTraits<float>>(call);
  if (call.dtype == "bfloat16") return run_sums<ContrastTraits<__nv_bfloat16>>(call);
  if (call.dtype == "float16") return run_sums<ContrastTraits<__half>>(call);
  if (call.dtype == "float64") return run_sums<ContrastTraits<double>>(call);
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + call.dtype);
}

}  // namespace pygen::cuda
