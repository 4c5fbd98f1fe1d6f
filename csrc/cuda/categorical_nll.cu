// Launchers of categorical_nll.cuh: which units make a row, and what lies side by side.
#include "cuda/categorical_nll.cuh"
#include "cuda/categorical_nll.h"

namespace pygen::cuda {
namespace {

constexpr int kLeastAlong = 32;      // levels of a warp of its own
constexpr int kLevelsOfThread = 16;  // at least, where warps share a unit
constexpr int kLeastUnits = 32;      // of a block

int64_t tiles_of(int64_t units, int64_t each) { return (units + each - 1) / each; }

template <class Tr>
void run(const CategoricalCall& call) {
  using Acc = typename Tr::Acc;
  const bool backward = call.grad_logits.address != 0;
  const int64_t per_image = call.channels * call.positions;
  if (call.images * per_image == 0) {  // sums of nothing
    const int64_t sums = call.reduce ? 1 : call.images;
    if (!backward && call.nll != 0 && sums > 0)
      launch_loss_sums<Acc>({nullptr, reinterpret_cast<void*>(call.nll), 0, call.scale}, sums, call.stream);
    return;
  }
  CategoricalParams p{};
  p.logits = positions_of(call.logits);
  p.x = positions_of(call.x);
  p.grads = positions_of(call.grad_logits);
  p.grad_nll = reinterpret_cast<const void*>(call.grad_nll);
  p.grad_nll_stride = call.reduce ? 0 : call.grad_nll_stride;
  p.each = !call.reduce && per_image == 1;
  p.partial = reinterpret_cast<void*>(p.each ? call.nll : call.workspace);
  const int64_t rows = call.reduce || p.each ? 1 : call.images;
  p.row_units = call.images * per_image / rows;
  p.per_image = per_image;
  p.positions = call.positions;
  p.scale = call.scale;
  p.levels = static_cast<int>(call.levels);
  p.wide_levels = call.wide_levels;

  const bool along = call.logits.channel == 1 && call.levels >= kLeastAlong;
  while ((2 << p.split_bits) <= Tr::kWarps && (kLevelsOfThread << p.split_bits) < call.levels) ++p.split_bits;
  const int64_t units = along ? Tr::kWarps * Tr::kTurns : Tr::kThreads >> p.split_bits;
  static_assert(Tr::kWarps * Tr::kTurns >= kLeastUnits && Tr::kThreads / Tr::kWarps >= kLeastUnits);
  p.tiles = tiles_of(p.row_units, units);
  auto* kernel = along ? (backward ? &categorical_nll_along_kernel<Tr, true> : &categorical_nll_along_kernel<Tr, false>)
                       : (backward ? &categorical_nll_kernel<Tr, true> : &categorical_nll_kernel<Tr, false>);
  launch("categorical_nll_kernel", kernel, rows * p.tiles, Tr::kThreads, reinterpret_cast<cudaStream_t>(call.stream),
         p);
  if (backward || p.each) return;
  launch_loss_sums<Acc>({p.partial, reinterpret_cast<void*>(call.nll), p.tiles, call.scale}, rows, call.stream);
}

}  // namespace

int64_t categorical_nll_workspace(int64_t images, int64_t channels, int64_t, int64_t positions) {
  return images * tiles_of(channels * positions, kLeastUnits);
}

void categorical_nll(const CategoricalCall& call) {
  const DeviceGuard guard(call.device);
  if (call.dtype == "float32") return run<CategoricalTraits<float>>(call);
  if (call.dtype == "bfloat16") return run<CategoricalTraits<__nv_bfloat16>>(call);
  if (call.dtype == "float16") return run<CategoricalTraits<__half>>(call);
  if (call.dtype == "float64") return run<CategoricalTraits<double>>(call);
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + call.dtype);
}

}  // namespace pygen::cuda
