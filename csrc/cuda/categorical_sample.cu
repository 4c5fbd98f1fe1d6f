// Launcher of categorical_sample.cuh: what lies side by side.
#include "cuda/categorical_sample.cuh"
#include "cuda/categorical_sample.h"

namespace pygen::cuda {
namespace {

constexpr int kLeastAlong = 32;      // levels of a warp of its own
constexpr int kLevelsOfThread = 16;  // at least, where warps share a draw

template <class Tr>
void run(const CategoricalSampleCall& call) {
  CategoricalSampleParams p{};
  p.count = call.images * call.channels * call.positions;
  if (p.count == 0) return;
  p.logits = positions_of(call.logits);
  p.x = positions_of(call.x);
  p.seed = reinterpret_cast<const int64_t*>(call.seed);
  p.channels = call.channels;
  p.positions = call.positions;
  p.inverse_temperature = call.inverse_temperature;
  p.levels = static_cast<int>(call.levels);
  p.wide_levels = call.wide_levels;
  const bool along = call.logits.channel == 1 && call.levels >= kLeastAlong;
  while ((2 << p.split_bits) <= Tr::kWarps && (kLevelsOfThread << p.split_bits) < call.levels) ++p.split_bits;
  const int64_t draws = along ? Tr::kWarps : Tr::kThreads >> p.split_bits;
  launch("categorical_sample_kernel", along ? &categorical_sample_along_kernel<Tr> : &categorical_sample_kernel<Tr>,
         (p.count + draws - 1) / draws, Tr::kThreads, reinterpret_cast<cudaStream_t>(call.stream), p);
}

}  // namespace

void categorical_sample(const CategoricalSampleCall& call) {
  const DeviceGuard guard(call.device);
  if (call.dtype == "float32") return run<CategoricalSampleTraits<float>>(call);
  if (call.dtype == "bfloat16") return run<CategoricalSampleTraits<__nv_bfloat16>>(call);
  if (call.dtype == "float16") return run<CategoricalSampleTraits<__half>>(call);
  if (call.dtype == "float64") return run<CategoricalSampleTraits<double>>(call);
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + call.dtype);
}

}  // namespace pygen::cuda
