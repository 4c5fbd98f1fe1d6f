// Restricted Boltzmann machines for NVIDIA GPUs: one layer given the other, a product whose epilogue is all there is
// beside it. Formula: csrc/common/rbm.h, pygen/reference/rbm.py. Not yet run on a GPU.
//
// The product is masked_linear's with everything live: tensor cores for 16 bits and TF32, multiply-adds else; the grid
// changes no sum. Its tiles are 64 units wide: 512 images of 1,024 units are 64 blocks, each of which goes through all
// of its k. Traffic of a half step: x once for each tile of units and the weight once for each tile of images, from L2
// but for the first; sizeof(T) bytes a unit written, no sum ever. Philox gives four units side by side their uniforms.
#pragma once

#include "common/philox.h"
#include "common/rbm.h"
#include "cuda/conv_loop.cuh"
#include "cuda/masked_linear_launch.h"

namespace pygen::cuda {

// --- params

struct RbmEnergyParams {
  ConvParams product;
  void* partial;  // [tiles of units][rows], the sums of softplus
  void* units;    // [rows][n], or null
};

struct RbmDrawParams {
  ConvParams product;
  const int64_t* seed;
  void* out;          // [rows][out_pitch]
  const void* given;  // the same
  const bool* known;  // [rows][n], or null
  int64_t out_pitch;
  double inverse_temperature;
  uint32_t half;
};

// --- traits

constexpr int kRbmUnits = 64;
template <class T, class Math>
struct RbmTraits : ConvTraits<T, Math, kRbmUnits, true> {
  using Base = ConvTraits<T, Math, kRbmUnits, true>;
  static constexpr int kPitch = kRbmUnits + 1;  // of sums in shared memory
  static constexpr int kSumBytes = Base::kM * kPitch * static_cast<int>(sizeof(typename Base::Acc));
  static constexpr int kPerRow = Base::kThreads / Base::kM;  // threads that add up a row
};

// --- kernels

// The tile's sums to shared memory, where each thread may read them.
template <class Tr, class Tile>
__device__ __forceinline__ typename Tr::Acc* share_sums(const Tile& tile, unsigned char* memory) {
  auto* const sums = reinterpret_cast<typename Tr::Acc*>(memory);
  tile.each([&](int row, int span, const typename Tr::Acc(&some)[Tile::kSpan]) {
#pragma unroll
    for (int i = 0; i < Tile::kSpan; ++i) sums[row * Tr::kPitch + tile.column(span) + i] = some[i];
  });
  __syncthreads();
  return sums;
}

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads, Tr::kBlocks) rbm_free_energy_fwd_kernel(RbmEnergyParams p) {
  using Acc = typename Tr::Acc;
  sum_tile_and<Tr>(p.product, [&](const auto& tile, const TilePlace<Tr, Tr::kM>& place, unsigned char* memory) {
    Acc* const sums = share_sums<Tr>(tile, memory);
    const int thread = static_cast<int>(threadIdx.x);
    const auto* const bias = static_cast<const typename Tr::Element*>(p.product.bias) + place.n_first;
    for (int i = thread; i < Tr::kM * kRbmUnits; i += Tr::kThreads) {
      const int row = i / kRbmUnits, column = i % kRbmUnits;
      const int64_t image = place.pixel0 + row;
      Acc& sum = sums[row * Tr::kPitch + column];
      if (column >= place.n_live || image >= p.product.pixels) {
        sum = 0;
        continue;
      }
      const Acc y = sum + widen_to(bias[column]), e = exp_minus_abs(y);
      sum = positive_part(y) + log1p_positive(e);
      if (p.units != nullptr)
        static_cast<Acc*>(p.units)[image * p.product.n + place.n_first + column] = sigmoid_of(y, e);
    }
    __syncthreads();
    constexpr int kEach = kRbmUnits / Tr::kPerRow;
    const int row = thread / Tr::kPerRow;
    Acc total = 0;
    for (int i = 0; i < kEach; ++i) total += sums[row * Tr::kPitch + thread % Tr::kPerRow * kEach + i];
#pragma unroll
    for (int mask = 1; mask < Tr::kPerRow; mask *= 2) total += __shfl_xor_sync(0xffffffffu, total, mask);
    if (thread % Tr::kPerRow == 0 && place.pixel0 + row < p.product.pixels)
      static_cast<Acc*>(p.partial)[place.n_tile * p.product.pixels + place.pixel0 + row] = total;
  });
}

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads, Tr::kBlocks) rbm_gibbs_kernel(RbmDrawParams p) {
  using T = typename Tr::Element;
  using Acc = typename Tr::Acc;
  sum_tile_and<Tr>(p.product, [&](const auto& tile, const TilePlace<Tr, Tr::kM>& place, unsigned char* memory) {
    Acc* const sums = share_sums<Tr>(tile, memory);
    const auto* const bias = static_cast<const T*>(p.product.bias) + place.n_first;
    const uint64_t key = static_cast<uint64_t>(*p.seed);
    const Acc inverse = static_cast<Acc>(p.inverse_temperature);
    constexpr int kQuads = kRbmUnits / 4;
    for (int i = static_cast<int>(threadIdx.x); i < Tr::kM * kQuads; i += Tr::kThreads) {
      const int row = i / kQuads, first = i % kQuads * 4;
      const int64_t image = place.pixel0 + row;
      if (first >= place.n_live || image >= p.product.pixels) continue;
      uint32_t words[4];
      philox_words(key, rbm_counter(place.n_first + first, p.half), static_cast<uint32_t>(image), NoiseDomain::Rbm,
                   words);
#pragma unroll
      for (int lane = 0; lane < 4; ++lane) {
        const int column = first + lane, unit = place.n_first + column;
        if (column >= place.n_live) break;
        const float u = uniform_of_word(words[lane]);
        const Acc y = (sums[row * Tr::kPitch + column] + widen_to(bias[column])) * inverse;
        const int64_t at = image * p.out_pitch + unit;
        T drawn = narrow_to<T>(rbm_unit<Acc>(y, static_cast<Acc>(u)) ? Acc(1) : Acc(0));
        if (p.known != nullptr && p.known[image * p.product.n + unit]) drawn = static_cast<const T*>(p.given)[at];
        static_cast<T*>(p.out)[at] = drawn;
      }
    }
  });
}

}  // namespace pygen::cuda
