// Launchers of vector_quantize.cuh.
#include "cuda/launch.cuh"
#include "cuda/vector_quantize.cuh"
#include "cuda/vector_quantize.h"

namespace pygen::cuda {
namespace {

QuantizeParams params_of(const QuantizeCall& call) {
  QuantizeParams p{};
  p.input = positions_of(call.input);
  p.out = positions_of(call.out);
  p.grad_quantized = positions_of(call.grad_quantized);
  p.codebook = reinterpret_cast<const void*>(call.codebook);
  p.half = reinterpret_cast<const void*>(call.half);
  p.factor = reinterpret_cast<const void*>(call.factor);
  p.indices = reinterpret_cast<int64_t*>(call.indices);
  p.distances = reinterpret_cast<void*>(call.distances);
  p.sums = reinterpret_cast<void*>(call.sums);
  p.order = reinterpret_cast<const int64_t*>(call.order);
  p.begins = reinterpret_cast<const int64_t*>(call.begins);
  p.channels = call.channels;
  p.positions = call.positions > 0 ? call.positions : 1;
  p.codes = call.codes;
  p.total = call.images * call.positions;
  p.blocks_per_code = (call.channels + kSumChannels - 1) / kSumChannels;
  return p;
}

template <class T>
void run_nearest(const QuantizeCall& call) {
  using Tr = QuantizeTraits<T>;
  const QuantizeParams p = params_of(call);
  launch("vector_quantize_nearest_kernel", &vector_quantize_nearest_kernel<Tr>,
         (p.total + Tr::kPositions - 1) / Tr::kPositions, Tr::kThreads, reinterpret_cast<cudaStream_t>(call.stream), p);
}

template <class T>
void run_grad_input(const QuantizeCall& call) {
  const QuantizeParams p = params_of(call);
  launch("vector_quantize_grad_input_kernel", &vector_quantize_grad_input_kernel<T>,
         (p.total * p.channels + kGradThreads - 1) / kGradThreads, kGradThreads,
         reinterpret_cast<cudaStream_t>(call.stream), p);
}

template <class T>
void run_sums(const QuantizeCall& call) {
  const QuantizeParams p = params_of(call);
  launch("vector_quantize_sums_kernel", &vector_quantize_sums_kernel<T>, p.codes * p.blocks_per_code,
         kSumChannels * kSumWarps, reinterpret_cast<cudaStream_t>(call.stream), p);
}

}  // namespace

#define PYGEN_QUANTIZE_BY_DTYPE(run)                             \
  const DeviceGuard guard(call.device);                          \
  if (call.dtype == "float32") return run<float>(call);          \
  if (call.dtype == "bfloat16") return run<__nv_bfloat16>(call); \
  if (call.dtype == "float16") return run<__half>(call);         \
  if (call.dtype == "float64") return run<double>(call);         \
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + call.dtype)

void vector_quantize_nearest(const QuantizeCall& call) {
  if (call.images * call.positions == 0) return;
  PYGEN_QUANTIZE_BY_DTYPE(run_nearest);
}
void vector_quantize_grad_input(const QuantizeCall& call) {
  if (call.images * call.positions * call.channels == 0) return;
  PYGEN_QUANTIZE_BY_DTYPE(run_grad_input);
}
void vector_quantize_sums(const QuantizeCall& call) {
  if (call.codes * call.channels == 0) return;
  PYGEN_QUANTIZE_BY_DTYPE(run_sums);
}
#undef PYGEN_QUANTIZE_BY_DTYPE

}  // namespace pygen::cuda
