// One softmax over numbers that come a tile at a time, two vectors of them in each step: categorical_nll's where levels
// lie side by side, and am_softmax's.
#pragma once

#include <algorithm>
#include <limits>

#include "common/categorical_nll.h"
#include "cpu/block_io.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kTile = 16 << 10;  // numbers

template <class Real>
using Vector = std::conditional_t<std::is_same_v<Real, float>, VecF, Real>;
template <class Real>
constexpr int kWidth = sizeof(Vector<Real>) / sizeof(Real);

template <class V>
PYGEN_INLINE V larger(V x, V y) {
  return Lanes<V>::select(x > y, x, y);
}

template <class Real>
PYGEN_INLINE Real largest_lane(Vector<Real> v) {
  Real lane[kWidth<Real>];
  store(lane, v);
  Real most = lane[0];
  for (int i = 1; i < kWidth<Real>; ++i) most = lane[i] > most ? lane[i] : most;
  return most;
}

// Fills the tile with `count` numbers, of which vector_at(j) gives a vector and one_at(j) one; returns the largest. It
// ends in numbers that cannot come, as far as vectors reach.
template <class Real, class VectorAt, class OneAt>
PYGEN_INLINE Real fill_tile(Real* tile, int64_t count, const VectorAt& vector_at, const OneAt& one_at) {
  using V = Vector<Real>;
  constexpr int64_t kW = kWidth<Real>, kStep = 2 * kW;
  V most[2] = {V{} - Lanes<V>::kMax, V{} - Lanes<V>::kMax};
  int64_t j = 0;
  for (; j + kStep <= count; j += kStep) {
    for (int v = 0; v < 2; ++v) {
      const V x = vector_at(j + v * kW);
      store(tile + j + v * kW, x);
      most[v] = larger(x, most[v]);
    }
  }
  if (j < count) {
    std::fill_n(tile + j, kStep, -std::numeric_limits<Real>::infinity());
    for (int64_t i = j; i < count; ++i) tile[i] = one_at(i);
    for (int v = 0; v < 2; ++v) most[v] = larger(load<V>(tile + j + v * kW), most[v]);
  }
  return largest_lane<Real>(larger(most[0], most[1]));
}

// Fills rows of kRow units' numbers from `count` of them, which lie `step` apart, a row's after another `stride`.
template <int64_t kRow, class T, class Real>
PYGEN_INLINE void read_stripe(const T* in, int64_t stride, int64_t step, int64_t rows, int64_t count, Real* tile) {
  using V = Vector<Real>;
  constexpr int64_t kW = kWidth<Real>;
  for (int64_t j = 0; j < rows; ++j) {
    const T* from = in + j * stride;
    Real* row = tile + j * kRow;
    if (count == kRow && step == 1) {
      for (int v = 0; v < kRow / kW; ++v) store(row + v * kW, load_as<V>(from + v * kW));
    } else if (step == 1) {
      widen_run(from, row, count);
    } else {
      for (int64_t i = 0; i < count; ++i) row[i] = widen(from[i * step]);
    }
  }
}

struct NoGradient {};

// The loss of `drawn`, -1 where there is none. read(first, count) fills the tile and returns the largest number there;
// write(first, count, inverse) finds in the tile what times `inverse` is the gradient of each number. A tile of numbers
// is read once, more of them twice: the second time each tile before it is written.
template <class Real, class Read, class Write = NoGradient>
PYGEN_INLINE Real softmax_row(int64_t levels, int64_t drawn, Real* tile, const Read& read, const Write& write = {}) {
  using V = Vector<Real>;
  constexpr int64_t kW = kWidth<Real>, kStep = 2 * kW;
  const int64_t chunks = (levels + kTile - 1) / kTile;
  Real top = -Lanes<Real>::kMax, others = 0, drawn_number = std::numeric_limits<Real>::quiet_NaN();
  const auto exponentials = [&](int64_t count) PYGEN_INLINE_LAMBDA {
    V sum[2] = {};
    for (int64_t j = 0; j < count; j += kStep) {
      for (int v = 0; v < 2; ++v) {
        const V e = exp_minus_abs(V(load<V>(tile + j + v * kW) - top));
        store(tile + j + v * kW, e);
        sum[v] = sum[v] + e;
      }
    }
    return static_cast<Real>(sum_lanes(V(sum[0] + sum[1])));
  };
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t first = chunk * kTile, count = std::min(kTile, levels - first);
    const Real most = read(first, count), before = top;
    top = most > top ? most : top;
    if (drawn >= first && drawn < first + count) {
      drawn_number = tile[drawn - first];
      tile[drawn - first] = -std::numeric_limits<Real>::infinity();  // its term is nothing
    }
    others = others * exp_minus_abs(Real(before - top)) + exponentials(count);
  }
  const Categorical<Real> of = categorical(top, drawn_number, others);
  if constexpr (!std::is_same_v<Write, NoGradient>) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t first = chunk * kTile, count = std::min(kTile, levels - first);
      if (chunks > 1) {
        read(first, count);
        exponentials(count);
      }
      if (drawn >= first && drawn < first + count) tile[drawn - first] = -others;
      write(first, count, of.inverse);
    }
  }
  return of.nll;
}

}  // namespace
}  // namespace PYGEN_ISA
}  // namespace pygen
