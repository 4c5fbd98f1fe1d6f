// What a multiplying warpgroup of masked_conv2d_wgmma.cuh holds: its sums, and the pixels that it multiplies.
#pragma once

#include "cuda/conv_epilogue.cuh"
#include "cuda/wgmma.cuh"

namespace pygen::cuda {

// Of one multiplying warpgroup; a block's tile has two of them, one under the other.
template <class T, class Math, int kBlocksM, int kChannels>
struct WgmmaTraits {
  using Element = T;
  using Multiply = Math;
  using Acc = float;
  static constexpr bool kByDegree = false;
  static constexpr int kSize = sizeof(T);
  static constexpr int kThreads = 128;
  static constexpr int kGroups = 2;
  static constexpr int kBlocks = kBlocksM, kM = 64 * kBlocks, kTileM = kGroups * kM;
  static constexpr int kN = kChannels;
  static constexpr int kStep = kTileRowBytes / kSize;  // of k
  static constexpr int kParts = kTileRowBytes / 32;    // of a step, one instruction each
  static constexpr int kWeightBytes = kN * kTileRowBytes;
  static constexpr int kStagedBytes = staged_bytes<WgmmaTraits>();
  static_assert(kN == 64 || kN == 128);
};

// A tap's step from a pixel, and the rows of a run from a row of the tile to what the tap shows it.
struct TapStep {
  uint32_t dy, dx;
  int shift;
};

// A warpgroup's sums, and two steps' pixels: of the one that is multiplied and of the next.
template <class Tr>
struct WgmmaTile {
  float acc[Tr::kBlocks][1][Tr::kN / 8][4] = {};
  uint32_t a[2][Tr::kBlocks][Tr::kParts][4];
  int lane, first;  // of the warp's rows in the block's tile
  TileRows<Tr::kBlocks, kTileRowBytes> rows;

  __device__ __forceinline__ WgmmaTile(const ConvParams& p, int64_t pixel0, int group, int warp)
      : lane(static_cast<int>(threadIdx.x) % 32),
        first(group * Tr::kM + warp * 16),
        rows(p, pixel0, [this](int i) { return row_of(i); }) {}
  __device__ __forceinline__ int row_of(int i) const { return first + i * 64 + (lane & 15); }

  template <int kBuffer>
  __device__ __forceinline__ void load(const ConvParams& p, const ConvStep& step, unsigned char* run,
                                       const unsigned char* zeros, const TapStep& tap) {
    rows.at(p, tap.dy, tap.dx, tap.shift, run, zeros, [this](int i) { return row_of(i); });
#pragma unroll
    for (int m = 0; m < Tr::kBlocks; ++m) {
#pragma unroll
      for (int part = 0; part < Tr::kParts; ++part) {
        load_matrices(a[kBuffer][m][part], rows.part(m, 2 * part + (lane >> 4)));
        if constexpr (std::is_same_v<typename Tr::Multiply, Tf32>) {
#pragma unroll
          for (int i = 0; i < 4; ++i) a[kBuffer][m][part][i] = round_tf32(a[kBuffer][m][part][i]);
        }
      }
    }
    // The run has more channels than a centre by groups sees: zero weights alone would let NaN through.
    if (step.k + Tr::kStep > step.k_end) clear_from<kBuffer>(step.k_end - step.k);
  }
  template <int kBuffer>
  __device__ __forceinline__ void clear_from(int k_end) {
    constexpr int kPerWord = 4 / Tr::kSize;
#pragma unroll
    for (int part = 0; part < Tr::kParts; ++part) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int live = k_end - (part * 8 + i / 2 * 4 + (lane & 3)) * kPerWord;  // of the word's elements
        const uint32_t mask = live >= kPerWord ? ~0u : live <= 0 ? 0u : 0xffffu;
#pragma unroll
        for (int m = 0; m < Tr::kBlocks; ++m) a[kBuffer][m][part][i] &= mask;
      }
    }
  }
  template <int kBuffer>
  __device__ __forceinline__ void multiply(const unsigned char* weights) {
    const uint64_t tile = matrix_descriptor(shared_address(weights));
    begin_products();
#pragma unroll
    for (int part = 0; part < Tr::kParts; ++part) {
#pragma unroll
      for (int m = 0; m < Tr::kBlocks; ++m) {
        multiply_async<typename Tr::Multiply>(acc[m][0], a[kBuffer][m][part], tile + part * (32 >> 4));
      }
    }
    commit_products();
  }
  // The sums, by their rows in the warpgroup's half.
  static constexpr int kSpans = Tr::kN / 8, kSpan = 2;
  __device__ __forceinline__ int column(int span) const { return pair_column(span); }
  template <class Store>
  __device__ __forceinline__ void each(Store store, int span = 0, int count = kSpans) const {
#pragma unroll
    for (int m = 0; m < Tr::kBlocks; ++m) each_pair(acc[m], first % Tr::kM + m * 64, store, span, count);
  }
};

}  // namespace pygen::cuda
