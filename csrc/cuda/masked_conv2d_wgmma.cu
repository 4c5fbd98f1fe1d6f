// Launchers of masked_conv2d_wgmma.cuh.
#include "cuda/masked_conv2d_wgmma.cuh"
#include "cuda/masked_conv2d_wgmma.h"
#include "cuda/wgmma_pack.cuh"

namespace pygen::cuda {
namespace {

#ifndef PYGEN_WGMMA_FEW_TILES
#define PYGEN_WGMMA_FEW_TILES kProcessors
#endif
constexpr int kFewTiles = PYGEN_WGMMA_FEW_TILES;  // with fewer large ones: small tiles

constexpr int channels_of_tile(int group_n) { return group_n > 64 ? 128 : 64; }
constexpr int step_of(WgmmaType type) { return kTileRowBytes / (type == WgmmaType::Tf32 ? 4 : 2); }
int slabs_of(WgmmaType type, const ConvParams& p) { return (p.k + step_of(type) - 1) / step_of(type); }

// One run of pixels for all taps where there is room for two of them beside three tiles of weights; else each its own.
template <class Tr>
void set_buffers(WgmmaParams& p) {
  ConvParams& c = p.conv;
  const Reach reach = reach_of(c);
  for (const bool halo : {true, false}) {
    if (halo && (c.taps.count < 2 || reach.most - reach.least > 4096)) continue;
    c.halo = halo;
    c.first = reach.least;
    c.a_rows = Tr::kTileM + (halo ? static_cast<int>(reach.most - reach.least) : 0);
    c.a_buffers = halo ? 2 : 3;
    p.boxes = (c.a_rows + 255) / 256;
    p.box_rows = static_cast<int>(round_up((c.a_rows + p.boxes - 1) / p.boxes, 8));
    const int left = kMostShared - WgmmaMemory<Tr>::fixed_bytes(p);
    p.weight_buffers = std::min(kMostBuffers, left < 0 ? 0 : left / Tr::kWeightBytes);
    if (p.weight_buffers >= 3) return;
  }
}

template <class Tr>
void launch_tiles(const WgmmaParams& of, cudaStream_t stream) {
  WgmmaParams p = of;
  set_buffers<Tr>(p);
  p.tiles = (p.conv.pixels + Tr::kTileM - 1) / Tr::kTileM * p.conv.groups * p.conv.tiles_per_group;
  p.pixels =
      make_map(wgmma_type<typename Tr::Multiply>(), p.conv.x, p.conv.k, p.conv.pixels, p.conv.x_pitch, p.box_rows);
  const ConvSide& side = p.conv.side;
  if (side.k > 0) {
    p.side = make_map(wgmma_type<typename Tr::Multiply>(), side.x, side.k, p.conv.pixels, side.x_pitch, p.box_rows);
  }
  const int64_t blocks = std::min<int64_t>(p.tiles, current_attribute(cudaDevAttrMultiProcessorCount));
  const bool gated = p.conv.pairs.tile > 0;
  launch(gated ? "gated_masked_conv2d_wgmma_kernel" : "masked_conv2d_wgmma_kernel",
         gated ? &gated_masked_conv2d_wgmma_kernel<Tr> : &masked_conv2d_wgmma_kernel<Tr>, blocks,
         (1 + Tr::kGroups) * Tr::kThreads, stream, p,
         WgmmaMemory<Tr>::fixed_bytes(p) + p.weight_buffers * Tr::kWeightBytes);
}

template <class T, class Math, int kN>
void launch_product(const ConvParams& conv, cudaStream_t stream) {
  WgmmaParams p{};
  p.conv = conv;
  p.slabs = slabs_of(wgmma_type<Math>(), conv);
  p.conv.tiles_per_group = (conv.group_n + kN - 1) / kN;
  constexpr int kLarge = sizeof(T) == 2 ? 2 : 1;  // more of float32 would not leave room for the epilogue
  constexpr int64_t kPixels = WgmmaTraits<T, Math, kLarge, kN>::kTileM;
  if ((conv.pixels + kPixels - 1) / kPixels * conv.groups * p.conv.tiles_per_group >= kFewTiles) {
    launch_tiles<WgmmaTraits<T, Math, kLarge, kN>>(p, stream);
  } else {
    launch_tiles<WgmmaTraits<T, Math, 1, kN>>(p, stream);
  }
}

template <class T, class Math>
void launch_product(const ConvParams& p, cudaStream_t stream) {
  if (channels_of_tile(p.group_n) == 128) {
    launch_product<T, Math, 128>(p, stream);
  } else {
    launch_product<T, Math, 64>(p, stream);
  }
}

template <class Bits, int kN>
void launch_pack(PackTilesParams p, cudaStream_t stream) {
  p.elements /= static_cast<int64_t>(sizeof(Bits));
  p.conv.tiles_per_group = (p.conv.group_n + kN - 1) / kN;
  launch("masked_conv2d_pack_tiles_kernel", &masked_conv2d_pack_tiles_kernel<Bits, kN>,
         (p.elements + kPackThreads - 1) / kPackThreads, kPackThreads, stream, p);
}

}  // namespace

bool takes_wgmma(WgmmaType type, const ConvParams& p) {
  if (type == WgmmaType::None) return false;
  // Where more than half of a step or of a tile would be zeros, the smaller tiles of masked_conv2d.cuh are better.
  if (p.k <= step_of(type) / 2 || p.group_n <= 32) return false;
  if (p.taps.positions() == 0 || p.taps.positions() > kMostPositions) return false;
  if (p.pixels >= int64_t(1) << 30) return false;  // TMA counts them in 32 bits
  return has_wgmma();
}

int64_t wgmma_weight_bytes(WgmmaType type, const ConvParams& p) {
  const int64_t channels = channels_of_tile(p.group_n), tiles = (p.group_n + channels - 1) / channels * p.groups;
  return tiles * p.taps.positions() * slabs_of(type, p) * channels * kTileRowBytes;
}

void pack_wgmma_weights(WgmmaType type, const ConvParams& p, const PackWeightsParams& weights, cudaStream_t stream) {
  PackTilesParams t{};
  t.from = weights.from;
  t.to = weights.to;
  for (int d = 0; d < 4; ++d) t.strides[d] = weights.strides[d];
  t.reversed = weights.reversed;
  t.conv = p;
  t.conv.taps = weights.taps;
  t.conv.k = static_cast<int>(weights.k);
  t.slabs = slabs_of(type, t.conv);
  t.elements = wgmma_weight_bytes(type, t.conv);
  const bool wide = channels_of_tile(p.group_n) == 128;
  if (type == WgmmaType::Tf32)
    return wide ? launch_pack<uint32_t, 128>(t, stream) : launch_pack<uint32_t, 64>(t, stream);
  wide ? launch_pack<uint16_t, 128>(t, stream) : launch_pack<uint16_t, 64>(t, stream);
}

void launch_wgmma(WgmmaType type, const ConvParams& p, cudaStream_t stream) {
  if (type == WgmmaType::BFloat16) return launch_product<__nv_bfloat16, __nv_bfloat16>(p, stream);
  if (type == WgmmaType::Float16) return launch_product<__half, __half>(p, stream);
  launch_product<float, Tf32>(p, stream);
}

}  // namespace pygen::cuda
