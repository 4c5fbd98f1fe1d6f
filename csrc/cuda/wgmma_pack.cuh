// Before masked_conv2d's product on Hopper: weights as the tiles that wgmma reads.
#pragma once

#include "cuda/conv_steps.cuh"
#include "cuda/hopper.cuh"

namespace pygen::cuda {

struct PackTilesParams {
  const void* from;  // [n, k, kH, kW] by its strides
  void* to;          // [tile of n][position][step of k] of [kN][128 bytes], turned as hopper.cuh says
  int64_t strides[4];
  int64_t elements;  // bytes, until a launcher knows their size
  int slabs;
  bool reversed;  // k
  ConvParams conv;
};

template <class Bits, int kN>
__global__ void __launch_bounds__(kPackThreads)
    masked_conv2d_pack_tiles_kernel(const __grid_constant__ PackTilesParams p) {
  constexpr int kStep = kTileRowBytes / sizeof(Bits), kPart = 16 / sizeof(Bits);
  const ConvParams& c = p.conv;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x;
  if (i >= p.elements) return;
  const int row = static_cast<int>(i / kStep) % kN, place = static_cast<int>(i % kStep);
  const int64_t step = i / (kStep * kN), tile = step / p.slabs;
  const int positions = c.taps.positions(), position = static_cast<int>(tile % positions);
  const int n_tile = static_cast<int>(tile / positions), group = n_tile / c.tiles_per_group;
  const int in_group = (n_tile - group * c.tiles_per_group) * kN + row;
  const int part = place / kPart ^ turn<kTileRowBytes>(row);
  const int64_t k = (step - tile * p.slabs) * kStep + part * kPart + place % kPart;
  Bits value = 0;
  if (in_group < c.group_n && k < (position < c.taps.count ? c.k : c.centre_k(group))) {
    const int tap = c.taps.index(position), y = tap / c.taps.kernel_width;
    value = static_cast<const Bits*>(p.from)[c.pairs.channel(group * c.group_n + in_group) * p.strides[0] +
                                             (p.reversed ? c.k - 1 - k : k) * p.strides[1] + y * p.strides[2] +
                                             (tap - y * c.taps.kernel_width) * p.strides[3]];
    if constexpr (sizeof(Bits) == 4) value = round_tf32(value);
  }
  static_cast<Bits*>(p.to)[i] = value;
}

}  // namespace pygen::cuda
