// Launchers of masked_linear.cuh.
#include "cuda/masked_linear.h"
#include "cuda/masked_linear_launch.h"

namespace pygen::cuda {
namespace {

cudaStream_t stream_of(const MaskedLinearCall& call) { return reinterpret_cast<cudaStream_t>(call.stream); }

// A matrix [rows, columns] by degree: the tensor itself where its rows are of whole 16 bytes, else a copy.
template <class Bits>
Rows as_rows(const MaskedLinearCall& call, const Tensor& tensor, PackMatrixParams p, Workspace& workspace) {
  constexpr int64_t kSize = sizeof(Bits);
  const auto& s = tensor.strides;
  const int64_t pitch = p.rows > 1 ? s[0] : round_up(p.columns, 16 / kSize);
  const bool in_place = p.live == nullptr && p.column_order == nullptr && (p.columns == 1 || s[1] == 1) &&
                        pitch >= p.columns && pitch * kSize % 16 == 0 && tensor.address % 16 == 0;
  if (in_place) return {reinterpret_cast<const unsigned char*>(tensor.address), pitch * kSize};
  p.from = reinterpret_cast<const void*>(tensor.address);
  p.strides[0] = s[0];
  p.strides[1] = s[1];
  p.pitch = round_up(p.columns, 16 / kSize);
  p.to = workspace.take(p.rows * p.pitch * kSize);
  p.column_tiles = (p.pitch + kPackTile - 1) / kPackTile;
  p.rows_inner = s[0] < s[1];
  const int64_t blocks = (p.rows + kPackTile - 1) / kPackTile * p.column_tiles;
  if (!workspace.counting() && blocks > 0) {
    launch("masked_linear_pack_kernel", &masked_linear_pack_kernel<Bits>, blocks, kPackThreads, stream_of(call), p);
  }
  return {static_cast<const unsigned char*>(p.to), p.pitch * kSize};
}

template <class Bits>
Rows source_rows(const MaskedLinearCall& call, Workspace& workspace) {
  PackMatrixParams p{};
  p.rows = call.rows;
  p.columns = call.sources;
  p.column_order = call.source_order;
  return as_rows<Bits>(call, call.source, p, workspace);
}

void check_sizes(const MaskedLinearCall& call) {
  constexpr int64_t kMost = int64_t(1) << 30;
  for (int64_t size : {call.sources, call.targets}) {
    if (size > kMost) throw std::invalid_argument("weight: expected dims of at most 2^30, got " + std::to_string(size));
  }
}

template <class Tr>
void launch_tiles(ConvParams p, cudaStream_t stream) {
  const int64_t blocks = tile_params<Tr>(p);
  launch("masked_linear_fwd_kernel", &masked_linear_fwd_kernel<Tr>, blocks, Tr::kThreads, stream, p,
         shared_bytes<Tr>(p));
}

template <class T, class Math>
int64_t product(const MaskedLinearCall& call) {
  using Bits = BitsOf<T>;
  check_sizes(call);
  Workspace workspace(call.workspace);
  if (call.rows * call.targets == 0) return workspace.bytes();
  PackMatrixParams w{};
  w.rows = call.targets;
  w.columns = call.sources;
  w.row_order = call.target_order;
  w.column_order = call.source_order;
  w.live = call.live;
  const Rows weight = as_rows<Bits>(call, call.weight, w, workspace), x = source_rows<Bits>(call, workspace);
  if (workspace.counting()) return workspace.bytes();
  ConvParams p = product_params(x, weight, call.rows, call.targets, call.sources, call.live);
  p.bias = reinterpret_cast<const void*>(call.bias);
  p.out = reinterpret_cast<void*>(call.target.address);
  p.order = call.target_order;
  constexpr bool kTensor = ConvTraits<T, Math, 64>::kTensor;
  if (kTensor && p.n > 64) {
    launch_tiles<ConvTraits<T, Math, kTensor ? 128 : 64, true>>(p, stream_of(call));
  } else {
    launch_tiles<ConvTraits<T, Math, 64, true>>(p, stream_of(call));
  }
  return workspace.bytes();
}

// The sums of each split, in the workspace; how many splits there are.
template <class Tr>
int64_t launch_weight(WeightParams p, cudaStream_t stream, Workspace& workspace, void*& partial) {
  const int64_t tiles = ((p.outs + Tr::kTile - 1) / Tr::kTile) * int64_t((p.ins + Tr::kTile - 1) / Tr::kTile);
  const Splits splits = make_splits(p.pixels, tiles);
  partial = p.partial = workspace.take(splits.count * p.outs * p.ins * static_cast<int64_t>(sizeof(typename Tr::Acc)));
  p.per_split = splits.pixels;
  if (!workspace.counting() && splits.count > 0) {
    launch("masked_linear_bwd_weight_kernel", &masked_linear_bwd_weight_kernel<Tr>, tiles * splits.count, Tr::kThreads,
           stream, p, Tr::kSharedBytes);
  }
  return splits.count;
}

template <class T, class Math>
int64_t grad_weight(const MaskedLinearCall& call) {
  using Bits = BitsOf<T>;
  check_sizes(call);
  Workspace workspace(call.workspace);
  const int64_t size = call.targets * call.sources;
  if (size == 0) return workspace.bytes();
  PackMatrixParams g{};
  g.rows = call.rows;
  g.columns = call.targets;
  g.column_order = call.target_order;
  const Rows grad = as_rows<Bits>(call, call.target, g, workspace), x = source_rows<Bits>(call, workspace);
  WeightParams p{};
  p.taps = no_taps();
  p.grad = grad.data;
  p.grad_pitch = grad.pitch;
  p.x = x.data;
  p.x_pitch = x.pitch;
  p.pixels = call.rows;
  p.plane = p.height = p.width = 1;
  p.outs = static_cast<int>(call.targets);
  p.ins = static_cast<int>(call.sources);
  p.groups = 1;
  p.live = call.live;
  FinishLinearParams f{};
  constexpr bool kTensor = WeightTraits<T, Math, 64>::kTensor;
  void* partial = nullptr;
  f.splits =
      kTensor && std::max(p.outs, p.ins) > 64
          ? launch_weight<WeightTraits<T, Math, kTensor ? 128 : 64, true>>(p, stream_of(call), workspace, partial)
          : launch_weight<WeightTraits<T, Math, 64, true>>(p, stream_of(call), workspace, partial);
  if (workspace.counting()) return workspace.bytes();
  f.partial = partial;
  f.out = reinterpret_cast<void*>(call.weight.address);
  f.targets = call.targets;
  f.sources = call.sources;
  f.source_order = call.source_order;
  f.target_order = call.target_order;
  f.live = call.live;
  launch("masked_linear_finish_kernel", &masked_linear_finish_kernel<T>, (size + kPackThreads - 1) / kPackThreads,
         kPackThreads, stream_of(call), f);
  return workspace.bytes();
}

}  // namespace

int64_t masked_linear_product(const MaskedLinearCall& call) {
  const DeviceGuard guard(call.device);
  return with_math(call.dtype, call.tf32,
                   [&](auto element, auto math) { return product<decltype(element), decltype(math)>(call); });
}

int64_t masked_linear_grad_weight(const MaskedLinearCall& call) {
  const DeviceGuard guard(call.device);
  return with_math(call.dtype, call.tf32,
                   [&](auto element, auto math) { return grad_weight<decltype(element), decltype(math)>(call); });
}

}  // namespace pygen::cuda
