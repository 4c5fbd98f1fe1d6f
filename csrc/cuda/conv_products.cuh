// A tile's sums: one warp's part on tensor cores, one thread's by multiply-adds.
#pragma once

#include "cuda/conv_steps.cuh"

namespace pygen::cuda {

// On the stairs, where some of a tile's n see fewer of k than others (masked_linear): the weights they do not see are
// zeros, but what of x is not finite must not meet those.
template <class Tr>
struct Stairs {
  const ConvParams& p;
  int n_first, n_live;

  __device__ __forceinline__ int64_t seen_by(int n) const { return n < n_live ? p.live[n_first + n] : 0; }
};

// Zeros in place of the elements that are not finite; whether there were any.
template <class T>
__device__ __forceinline__ bool clear_not_finite(uint32_t& word) {
  if constexpr (sizeof(T) == 4) {
    const bool spoilt = (word & 0x7f800000) == 0x7f800000;
    if (spoilt) word = 0;
    return spoilt;
  } else {
    constexpr uint32_t kExponent = std::is_same_v<T, __half> ? 0x7c00 : 0x7f80;
    const bool low = (word & kExponent) == kExponent, high = (word >> 16 & kExponent) == kExponent;
    if (low) word &= 0xffff0000;
    if (high) word &= 0x0000ffff;
    return low || high;
  }
}

// One warp's part of a tile on tensor cores.
template <class Tr>
struct TensorTile {
  using T = typename Tr::Element;
  float acc[Tr::kTilesM][Tr::kTilesN][4] = {};
  int lane, first_m, first_n;
  TileRows<Tr::kTilesM> rows;

  __device__ __forceinline__ TensorTile(const ConvParams& p, int64_t pixel0)
      : lane(static_cast<int>(threadIdx.x) % 32),
        first_m(static_cast<int>(threadIdx.x) / 32 / Tr::kWarpsN * Tr::kTilesM * 16),
        first_n(static_cast<int>(threadIdx.x) / 32 % Tr::kWarpsN * 32),
        rows(p, pixel0, [this](int i) { return row_of(i); }) {}
  __device__ __forceinline__ int row_of(int i) const { return first_m + i * 16 + (lane & 15); }

  template <bool kStairs, class Step>
  __device__ __forceinline__ void multiply(const ConvParams& p, const Step& step, unsigned char* run,
                                           const unsigned char* zeros, unsigned char* b_tile,
                                           const Stairs<Tr>& stairs) {
    rows.at(p, step, run, zeros, [this](int i) { return row_of(i); });
    bool spoilt = false;
#pragma unroll
    for (int half = 0; half < kRowBytes; half += 32) {
      uint32_t a[Tr::kTilesM][4], b[Tr::kTilesN][2];
#pragma unroll
      for (int m = 0; m < Tr::kTilesM; ++m) {
        load_matrices(a[m], rows.part(m, half / 16 + (lane >> 4)));
        if constexpr (kStairs) {
#pragma unroll
          for (int i = 0; i < 4; ++i) spoilt |= clear_not_finite<T>(a[m][i]);
        }
      }
#pragma unroll
      for (int n = 0; n < Tr::kTilesN; n += 2) {
        uint32_t r[4];
        const int row = first_n + n * 8 + (lane & 7) + (lane >> 4 << 3);
        load_matrices(r, part_of_row(b_tile, row, half / 16 + (lane >> 3 & 1)));
        b[n][0] = r[0];
        b[n][1] = r[1];
        b[n + 1][0] = r[2];
        b[n + 1][1] = r[3];
      }
      if constexpr (std::is_same_v<typename Tr::Multiply, Tf32>) {
#pragma unroll
        for (int m = 0; m < Tr::kTilesM; ++m) {
#pragma unroll
          for (int i = 0; i < 4; ++i) a[m][i] = round_tf32(a[m][i]);
        }
#pragma unroll
        for (int n = 0; n < Tr::kTilesN; ++n) {
#pragma unroll
          for (int i = 0; i < 2; ++i) b[n][i] = round_tf32(b[n][i]);
        }
      }
      multiply_tiles<typename Tr::Multiply>(acc, a, b);
    }
    if constexpr (kStairs) {
      if (__any_sync(0xffffffffu, spoilt)) add_not_finite(step.k, run, b_tile, stairs);
    }
  }
  // What was cleared, times the weights that see it.
  __device__ __forceinline__ void add_not_finite(int step_k, unsigned char* run, unsigned char* b_tile,
                                                 const Stairs<Tr>& stairs) {
    const auto element = [](unsigned char* tile, int row, int k) {
      const unsigned char* part = part_of_row(tile, row, k * Tr::kSize / 16);
      return widen_to(*reinterpret_cast<const T*>(part + k * Tr::kSize % 16));
    };
#pragma unroll 1
    for (int k = 0; k < Tr::kStep; ++k) {
#pragma unroll
      for (int m = 0; m < Tr::kTilesM; ++m) {
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
          const float x = element(run, first_m + m * 16 + (lane >> 2) + i / 2 * 8, k);
          if (is_finite(x)) continue;
#pragma unroll
          for (int j = 0; j < Tr::kTilesN * 2; ++j) {
            const int n = first_n + j / 2 * 8 + (lane & 3) * 2 + j % 2;
            if (step_k + k < stairs.seen_by(n)) acc[m][j / 2][i + j % 2] += x * element(b_tile, n, k);
          }
        }
      }
    }
  }
  static constexpr int kSpans = Tr::kTilesN, kSpan = 2;  // of neighbouring columns
  __device__ __forceinline__ int column(int span) const { return first_n + pair_column(span); }
  template <class Store>
  __device__ __forceinline__ void each(Store store, int first = 0, int count = kSpans) const {
    each_pair(acc, first_m, store, first, count);
  }
};

// One thread's part of a tile by multiply-adds.
template <class Tr>
struct ScalarTile {
  using T = typename Tr::Element;
  static constexpr int kPer = 16 / Tr::kSize;
  T acc[Tr::kRows][Tr::kColumns] = {};
  int row0, column0;
  TileRows<Tr::kRows> rows;

  __device__ __forceinline__ ScalarTile(const ConvParams& p, int64_t pixel0)
      : row0(static_cast<int>(threadIdx.x) / 16),
        column0(static_cast<int>(threadIdx.x) % 16),
        rows(p, pixel0, [this](int i) { return row0 + 16 * i; }) {}

  template <bool kStairs, class Step>
  __device__ __forceinline__ void multiply(const ConvParams& p, const Step& step, unsigned char* run,
                                           const unsigned char* zeros, unsigned char* b_tile,
                                           const Stairs<Tr>& stairs) {
    rows.at(p, step, run, zeros, [this](int i) { return row0 + 16 * i; });
    int seen[Tr::kColumns];  // of the step's k
    if constexpr (kStairs) {
#pragma unroll
      for (int j = 0; j < Tr::kColumns; ++j) {
        seen[j] = static_cast<int>(max(stairs.seen_by(column0 + 16 * j) - step.k, int64_t(0)));
      }
    }
#pragma unroll 1
    for (int part = 0; part < kRowBytes / 16; ++part) {
      T a[Tr::kRows][kPer];
#pragma unroll
      for (int i = 0; i < Tr::kRows; ++i) load16(a[i], rows.part(i, part));
#pragma unroll
      for (int j = 0; j < Tr::kColumns; ++j) {
        T b[kPer];
        load16(b, part_of_row(b_tile, column0 + 16 * j, part));
#pragma unroll
        for (int i = 0; i < Tr::kRows; ++i) {
#pragma unroll
          for (int e = 0; e < kPer; ++e) {
            if (!kStairs || part * kPer + e < seen[j]) acc[i][j] += a[i][e] * b[e];
          }
        }
      }
    }
  }
  static __device__ __forceinline__ void load16(T (&to)[kPer], const unsigned char* from) {
    const uint4 bits = *reinterpret_cast<const uint4*>(from);
    memcpy(to, &bits, 16);
  }
  static constexpr int kSpans = Tr::kColumns, kSpan = 1;
  __device__ __forceinline__ int column(int span) const { return column0 + 16 * span; }
  template <class Store>
  __device__ __forceinline__ void each(Store store, int first = 0, int count = kSpans) const {
#pragma unroll
    for (int i = 0; i < Tr::kRows; ++i) {
#pragma unroll
      for (int j = first; j < first + count; ++j) {
        const T one[1] = {acc[i][j]};
        store(row0 + 16 * i, j, one);
      }
    }
  }
};

}  // namespace pygen::cuda
