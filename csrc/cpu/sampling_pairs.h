// The inner loop of early convolutions with three taps side by side, by minimal filtering: F(2, 3) along the row, as in
// masked_conv2d_winograd.h. Pixels x = 2j and x + 1 of one image share products, two for each tap row and channel less
// than one by one:
//     even = P + M + (s[x-1] - s[x+1]) w[-1]      P = (s[x] + s[x+1]) (w[-1] + w[0] + w[1]) / 2
//     odd  = P - M + (s[x+2] - s[x]) w[1]         M = (s[x+1] - s[x]) (w[-1] - w[0] + w[1]) / 2
// Each pixel's products hold what it sees and nothing else. Each output is computed in one order, whatever the tile.
// Differences of infinities would be NaN: so of gates, whose results lie within -1 and 1, and of elu while its images
// are tame; others are drawn anew by the taps themselves.
#pragma once

#include "cpu/sampling_tile.h"

namespace pygen {
inline namespace PYGEN_ISA {

constexpr int kSamplingPairs = kAccumulators / 4;  // most pairs of a tile
constexpr double kTameWeight = 1e15;               // beyond it sums and differences may overflow where taps do not

// Combined weights of product i, of taps -1, 0, 1.
template <class Real>
Real sampling_product_weight(int i, Real left, Real middle, Real right) {
  if (i == 0) return left;
  if (i == 3) return right;
  const Real outer = left + right;
  return (i == 1 ? outer + middle : outer - middle) / 2;
}

// The sums and differences of pairs, [pair][image][product][channel], of columns from the one at `in` on; a column is
// `column` numbers wide, a pixel `width`.
template <class Real>
void split_pairs(const Real* in, int64_t pairs, int64_t images, int64_t width, Real* out) {
  using V = Reg<Real>;
  const int64_t column = images * width;
  for (int64_t pair = 0; pair < pairs; ++pair, in += 2 * column) {
    for (int64_t n = 0; n < images; ++n, out += kSamplingProducts * width) {
      const Real* s = in + n * width;
      for (int64_t k = 0; k < width; k += kRegLanes<Real>) {
        const V before = load<V>(s + k - column), even = load<V>(s + k), odd = load<V>(s + k + column),
                behind = load<V>(s + k + 2 * column);
        store(out + k, before - odd);
        store(out + width + k, even + odd);
        store(out + 2 * width + k, odd - even);
        store(out + 3 * width + k, behind - even);
      }
    }
  }
}

// Onto two sums of each pair and register: products `first` and `second` of all rows of taps.
template <class Real, int kPairs, int kColumns>
PYGEN_INLINE void add_products(const SamplingTileArguments<Real>& a, int64_t pair, int first, int second,
                               const Real*& w, Reg<Real> (&s)[kPairs][kColumns], Reg<Real> (&t)[kPairs][kColumns]) {
  using V = Reg<Real>;
  constexpr int kN = kRegLanes<Real>;
  const auto add = [&](const Real* const* x, int64_t k, V(&sum)[kPairs][kColumns]) __attribute__((always_inline)) {
    V weight[kColumns];
    PYGEN_UNROLL
    for (int c = 0; c < kColumns; ++c) weight[c] = load<V>(w + c * kN);
    PYGEN_UNROLL
    for (int r = 0; r < kPairs; ++r) {
      const Real value = x[r][k];
      PYGEN_UNROLL
      for (int c = 0; c < kColumns; ++c) sum[r][c] += weight[c] * value;
    }
    w += kColumns * kN;
  };
  const int64_t width = a.source_pitch / kSamplingProducts;
  for (int64_t i = 0; i < a.num_runs; ++i) {
    const Real *x[kPairs], *y[kPairs];
    PYGEN_UNROLL
    for (int r = 0; r < kPairs; ++r) {
      x[r] = a.runs[i] + (pair + r) * a.source_pitch + first * width;
      y[r] = a.runs[i] + (pair + r) * a.source_pitch + second * width;
    }
    const int64_t count = a.lengths[i].count;
    for (int64_t k = 0; k < count; ++k) {
      add(x, k, s);
      add(y, k, t);
    }
  }
}

// even: of each pair its first pixel, counted among those at work; the other lies `images` behind, or nowhere.
template <class Real, int kPairs, int kColumns>
__attribute__((noinline)) void sampling_pairs_tile(const SamplingTileArguments<Real>& a, int64_t m, int64_t pair,
                                                   const int64_t* even, int64_t images) {
  using V = Reg<Real>;
  constexpr int kN = kRegLanes<Real>;
  V s[kPairs][kColumns] = {}, t[kPairs][kColumns] = {};
  const Real* w = a.weights;
  add_products<Real, kPairs, kColumns>(a, pair, 1, 2, w, s, t);
  PYGEN_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    const V bias = load<V>(a.bias + c * kN);
    PYGEN_UNROLL
    for (int r = 0; r < kPairs; ++r) {
      const V sum = s[r][c] + t[r][c], difference = s[r][c] - t[r][c];
      s[r][c] = sum + bias;
      t[r][c] = difference + bias;
    }
  }
  if (a.add.base) {
    PYGEN_UNROLL
    for (int r = 0; r < kPairs; ++r) {
      const Real* add = a.add.at(m, even[r]);
      PYGEN_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        s[r][c] += load<V>(add + a.at[c]);
        if (images) t[r][c] += load<V>(add + images * a.add.pitch + a.at[c]);
      }
    }
  }
  add_products<Real, kPairs, kColumns>(a, pair, 0, 3, w, s, t);
  for (int form = 0; form < 2; ++form) {
    if (!a.out[form].base) continue;
    PYGEN_UNROLL
    for (int r = 0; r < kPairs; ++r) {
      Real* out = a.out[form].at(m, even[r]);
      PYGEN_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        const V x = s[r][c], y = t[r][c];
        store(out + a.at[c], form ? (x < Real(0) ? V{} : x) : x);
        if (images) store(out + images * a.out[form].pitch + a.at[c], form ? (y < Real(0) ? V{} : y) : y);
      }
    }
  }
}

template <class Real>
using SamplingPairsFunction = void (*)(const SamplingTileArguments<Real>&, int64_t, int64_t, const int64_t*, int64_t);
template <class Real, int kColumns, int... kPairs>
constexpr auto sampling_pairs_tiles(std::integer_sequence<int, kPairs...>) {
  return std::array<SamplingPairsFunction<Real>, sizeof...(kPairs)>{
      &sampling_pairs_tile<Real, kPairs + 1, kColumns>...};
}
// [columns - 1][pairs - 1]
template <class Real>
inline constexpr std::array<SamplingPairsFunction<Real>, kSamplingPairs> kSamplingPairsTiles[2] = {
    sampling_pairs_tiles<Real, 1>(std::make_integer_sequence<int, kSamplingPairs>()),
    sampling_pairs_tiles<Real, 2>(std::make_integer_sequence<int, kSamplingPairs>())};

// All pairs of some columns of `images` images, in tiles of about equal height; of an odd number of columns the last
// has no neighbour.
template <class Real>
void sampling_pairs(const SamplingTileArguments<Real>& a, int columns, int64_t m, int64_t image_columns,
                    int64_t images) {
  for (int half = 0; half < 2; ++half) {
    int64_t pair = half ? image_columns / 2 * images : 0;
    const int64_t end = half ? (image_columns + 1) / 2 * images : image_columns / 2 * images;
    for (int64_t left = (end - pair + kSamplingPairs - 1) / kSamplingPairs; left > 0; --left) {
      const int64_t height = (end - pair + left - 1) / left;
      int64_t even[kSamplingPairs];
      for (int64_t r = 0; r < height; ++r) even[r] = pair + r + (pair + r) / images * images;
      kSamplingPairsTiles<Real>[columns - 1][height - 1](a, m, pair, even, half ? 0 : images);
      pair += height;
    }
  }
}

}  // namespace PYGEN_ISA
}  // namespace pygen
