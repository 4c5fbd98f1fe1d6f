// Launchers of masked_conv2d_wgmma_weight.cuh.
#include "cuda/masked_conv2d_wgmma_weight.cuh"
#include "cuda/masked_conv2d_wgmma_weight.h"

namespace pygen::cuda {
namespace {

constexpr int64_t kLeastPixels = 512;  // of a split

// All but the tensor maps and the splits.
template <class Tr>
WgmmaWeightParams describe(const WeightParams& weight) {
  WgmmaWeightParams p{};
  p.weight = weight;
  p.plane = Divider::of(weight.plane);
  p.width = Divider::of(weight.width);
  p.row_sets = (weight.ins + Tr::kIns - 1) / Tr::kIns * weight.taps.positions();
  p.set_groups = (p.row_sets + Tr::kGroups * Tr::kSets - 1) / (Tr::kGroups * Tr::kSets);
  p.out_tiles = (weight.outs + Tr::kN - 1) / Tr::kN;
  for (int64_t group = 0; group < p.set_groups; ++group) {
    p.stage_bytes = std::max(p.stage_bytes, WeightPlace<Tr>(p, group).stage_bytes());
  }
  while (p.stages < kMostStages && WeightMemory<Tr>::bytes(p.stages + 1, p.stage_bytes) <= kMostShared) ++p.stages;
  return p;
}

template <class T, int kN>
Splits launch_of(const WeightParams& weight, Workspace& workspace, cudaStream_t stream, void*& partial) {
  using Tr = WgmmaWeightTraits<T, kN>;
  WgmmaWeightParams p = describe<Tr>(weight);
  const int64_t blocks = static_cast<int64_t>(p.set_groups) * p.out_tiles;
  const int64_t wanted =
      std::clamp<int64_t>(kProcessors / blocks, 1, std::max<int64_t>(weight.pixels / kLeastPixels, 1));
  p.weight.per_split = std::max<int64_t>(round_up((weight.pixels + wanted - 1) / wanted, Tr::kPixels), Tr::kPixels);
  const Splits splits{(weight.pixels + p.weight.per_split - 1) / p.weight.per_split, p.weight.per_split};
  const int64_t sums = splits.count * weight.taps.positions() * weight.outs * weight.ins;
  partial = p.weight.partial = workspace.take(sums * static_cast<int64_t>(sizeof(float)));
  if (workspace.counting() || sums == 0) return splits;
  constexpr WgmmaType kType = wgmma_type<T>();
  p.grad = make_map(kType, weight.grad, weight.outs, weight.pixels, weight.grad_pitch, Tr::kPixels);
  p.x = make_map(kType, weight.x, weight.ins, weight.pixels, weight.x_pitch, kRunBox);
  launch("masked_conv2d_wgmma_weight_kernel", &masked_conv2d_wgmma_weight_kernel<Tr>, blocks * splits.count,
         (1 + Tr::kGroups) * Tr::kThreads, stream, p, WeightMemory<Tr>::bytes(p.stages, p.stage_bytes));
  return splits;
}

}  // namespace

bool takes_wgmma(WgmmaType type, const WeightParams& p) {
  if (type != WgmmaType::BFloat16 && type != WgmmaType::Float16) return false;
  // Below, half of a set's rows or columns would be zeros; above, TMA's 32 bits for pixels. None: nothing to divide by.
  if (p.pixels == 0 || p.ins <= 32 || p.outs <= 32 || p.pixels >= int64_t(1) << 30 || p.taps.positions() == 0)
    return false;
  if (!has_wgmma()) return false;
  const int64_t most = (p.taps.dilation < 0 ? -p.taps.dilation : p.taps.dilation) * kMaxTaps * (p.width + 1);
  if (most > int64_t(1) << 30) return false;  // offsets between taps in 32 bits
  const auto stages = p.outs > 64 ? describe<WgmmaWeightTraits<__half, 128>>(p).stages
                                  : describe<WgmmaWeightTraits<__half, 64>>(p).stages;
  return stages >= 3;
}

Splits launch_wgmma_weight(WgmmaType type, WeightParams p, Workspace& workspace, cudaStream_t stream, void*& partial) {
  const auto launch_type = [&](auto element) {
    using T = decltype(element);
    return p.outs > 64 ? launch_of<T, 128>(p, workspace, stream, partial)
                       : launch_of<T, 64>(p, workspace, stream, partial);
  };
  return type == WgmmaType::BFloat16 ? launch_type(__nv_bfloat16()) : launch_type(__half());
}

}  // namespace pygen::cuda
