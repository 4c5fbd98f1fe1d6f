// Launchers of logistic_mixture_nll.cuh: which positions make a tile, and whether it is staged.
#include "cuda/launch.cuh"
#include "cuda/logistic_mixture_nll.cuh"
#include "cuda/logistic_mixture_nll.h"

namespace pygen::cuda {
namespace {

constexpr int kTile = 32;
constexpr int64_t kMostShared = 48 << 10;  // that every kernel gets unasked

// Of samples that are one position each, the batch takes the place of the positions.
Positions turned(const PositionsArgument& t) { return {reinterpret_cast<char*>(t.address), 0, t.channel, t.image}; }

int64_t tiles_of(int64_t images, int64_t positions) {
  return positions == 1 ? (images + kTile - 1) / kTile : images * ((positions + kTile - 1) / kTile);
}

template <class Tr>
void run(const LogisticMixtureCall& call) {
  using Acc = typename Tr::Acc;
  static_assert(Tr::kTile == kTile);
  const bool backward = call.grad_params.address != 0, batch = call.positions == 1;
  if (call.images * call.positions == 0) {  // sums of nothing
    const int64_t sums = call.reduce ? 1 : call.images;
    if (!backward && call.nll != 0 && sums > 0)
      launch_loss_sums<Acc>({nullptr, reinterpret_cast<void*>(call.nll), 0, call.scale}, sums, call.stream);
    return;
  }
  MixtureParams<Acc> p{};
  const auto place = [&](const PositionsArgument& t) { return batch ? turned(t) : positions_of(t); };
  p.params = place(call.params);
  p.x = place(call.x);
  p.grad_params = place(call.grad_params);
  p.positions = batch ? call.images : call.positions;
  p.tiles = (p.positions + kTile - 1) / kTile;
  p.components = static_cast<int>(call.components);
  p.bins = Bins<Acc>(call.num_levels);
  p.num_levels = call.num_levels;
  p.min_log_scale = call.min_log_scale;
  p.wide_levels = call.wide_levels;
  p.scale = call.scale;
  p.grad_nll = reinterpret_cast<const void*>(call.grad_nll);
  p.grad_nll_stride = call.reduce ? 0 : call.grad_nll_stride;
  p.per_position = batch && !call.reduce;
  p.each = batch && !call.reduce;
  p.partial = reinterpret_cast<void*>(p.each ? call.nll : call.workspace);

  const int64_t rows = call.components * int64_t(sizeof(Acc)) * kTile * 2;
  const int64_t staged_bytes = rows + Tr::pitch(call.components) * int64_t(sizeof(Acc)) * kTile;
  const bool apart = p.params.position != 1 || (backward && p.grad_params.position != 1);
  const bool staged = apart && staged_bytes <= kMostShared;
  const int warps = static_cast<int>(call.components < Tr::kMaxWarps ? call.components : Tr::kMaxWarps);
  auto* kernel =
      backward
          ? (staged ? &logistic_mixture_nll_kernel<Tr, true, true> : &logistic_mixture_nll_kernel<Tr, true, false>)
          : (staged ? &logistic_mixture_nll_kernel<Tr, false, true> : &logistic_mixture_nll_kernel<Tr, false, false>);
  launch("logistic_mixture_nll_kernel", kernel, tiles_of(call.images, call.positions), warps * kTile,
         reinterpret_cast<cudaStream_t>(call.stream), p, static_cast<int>(staged ? staged_bytes : rows));
  if (backward || p.each) return;
  const int64_t tiles = tiles_of(call.images, call.positions);
  launch_loss_sums<Acc>({p.partial, reinterpret_cast<void*>(call.nll), call.reduce ? tiles : p.tiles, call.scale},
                        call.reduce ? 1 : call.images, call.stream);
}

template <class Number>
void run_channels(const LogisticMixtureCall& call) {
  call.channels == 1 ? run<MixtureTraits<Number, 1>>(call) : run<MixtureTraits<Number, 3>>(call);
}

}  // namespace

int64_t logistic_mixture_nll_workspace(int64_t images, int64_t positions) { return tiles_of(images, positions); }

void logistic_mixture_nll(const LogisticMixtureCall& call) {
  const DeviceGuard guard(call.device);
  if (call.dtype == "float32") return run_channels<float>(call);
  if (call.dtype == "bfloat16") return run_channels<__nv_bfloat16>(call);
  if (call.dtype == "float16") return run_channels<__half>(call);
  if (call.dtype == "float64") return run_channels<double>(call);
  throw std::invalid_argument("dtype: expected float64, float32, bfloat16 or float16, got " + call.dtype);
}

}  // namespace pygen::cuda
