// Launchers of am_softmax.cuh.
#include "cuda/am_softmax.cuh"
#include "cuda/am_softmax.h"
#include "cuda/launch.cuh"

namespace pygen::cuda {
namespace {

template <class T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

template <class Tr>
void run_rows(const AmSoftmaxRowsCall& call) {
  if (call.wide != (sizeof(typename Tr::Acc) == 8))
    throw std::invalid_argument("dtype: expected float64 gradients of float64 products, and of them alone, got " +
                                call.dtype);
  const AmSoftmaxRows p{pointer<const void>(call.products),
                        pointer<const void>(call.row_scale),
                        pointer<const void>(call.column_scale),
                        pointer<const void>(call.upstream),
                        pointer<const int64_t>(call.target),
                        pointer<void>(call.nll),
                        pointer<void>(call.grads),
                        call.classes,
                        call.shift};
  auto* kernel = call.upstream != 0 ? &am_softmax_rows_kernel<Tr, true> : &am_softmax_rows_kernel<Tr, false>;
  launch("am_softmax_rows_kernel", kernel, call.rows, Tr::kThreads, pointer<CUstream_st>(call.stream), p);
}

template <class Tr>
void run_across(const AmSoftmaxAcrossCall& call) {
  const AmSoftmaxAcross p{pointer<const void>(call.grad),
                          pointer<const void>(call.t),
                          pointer<const void>(call.norm),
                          pointer<const void>(call.factor),
                          pointer<void>(call.result),
                          call.rows,
                          call.features,
                          call.least};
  launch("am_softmax_across_kernel", &am_softmax_across_kernel<Tr>, (call.rows + Tr::kWarps - 1) / Tr::kWarps,
         Tr::kThreads, pointer<CUstream_st>(call.stream), p);
}

}  // namespace

void am_softmax_rows(const AmSoftmaxRowsCall& call) {
  if (call.rows == 0) return;
  const DeviceGuard guard(call.device);
  if (call.dtype == "float32") return run_rows<AmSoftmaxTraits<float>>(call);
  if (call.dtype == "bfloat16") return run_rows<AmSoftmaxTraits<__nv_bfloat16>>(call);
  if (call.dtype == "float16") return run_rows<AmSoftmaxTraits<__half>>(call);
  if (call.dtype == "float64") return run_rows<AmSoftmaxTraits<double>>(call);
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + call.dtype);
}

void am_softmax_across(const AmSoftmaxAcrossCall& call) {
  if (call.rows * call.features == 0) return;
  const DeviceGuard guard(call.device);
  if (call.dtype == "float32") return run_across<AmSoftmaxTraits<float>>(call);
  if (call.dtype == "bfloat16") return run_across<AmSoftmaxTraits<__nv_bfloat16>>(call);
  if (call.dtype == "float16") return run_across<AmSoftmaxTraits<__half>>(call);
  if (call.dtype == "float64") return run_across<AmSoftmaxTraits<double>>(call);
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + call.dtype);
}

}  // namespace pygen::cuda
