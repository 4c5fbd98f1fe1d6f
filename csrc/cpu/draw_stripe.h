// Some draws side by side, each of one of so many levels by their logits: categorical_sample's, and which component of
// a mixture. In cache logits become the running sums of their exponentials, and a level is how many of these do not
// reach the uniform number.
#pragma once

#include "cpu/running_sums.h"
#include "cpu/softmax_row.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kWideTileLevels = 256;  // up to so many, vectors of draws go four abreast

template <class Real>
struct StripeScratch {
  alignas(64) Real tile[kTile + 2 * kWidth<Real>];
  alignas(64) Real level[64], sum[64];  // of the exponentials: not above 0 where there is nothing to choose
};

template <class Real>
struct StripeChoice {
  int64_t levels, stride;  // of a draw's logits
  Real inverse;            // 1 / temperature
};

// Levels of at most kVectors vectors of draws, whose numbers lie u_step apart and whose logits `step`.
template <class T, class Real, int kVectors>
__attribute__((noinline)) void draw_stripe(const StripeChoice<Real>& p, const T* in, int64_t step, const float* u,
                                           int64_t u_step, int64_t count, StripeScratch<Real>& s) {
  using V = Vector<Real>;
  constexpr int64_t kW = kWidth<Real>, kRow = kVectors * kW;
  static_assert(kRow <= 64);
  const int64_t most = kTile / kRow, chunks = (p.levels + most - 1) / most;
  const auto read = [&](int64_t chunk) PYGEN_INLINE_LAMBDA {
    const int64_t first = chunk * most, rows = std::min(most, p.levels - first);
    read_stripe<kRow>(in + first * p.stride, p.stride, step, rows, count, s.tile);
    return rows;
  };
  V top[kVectors], sum[kVectors], wanted[kVectors], below[kVectors];
  for (int v = 0; v < kVectors; ++v) top[v] = V{} - Lanes<V>::kMax;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t rows = read(chunk);
    for (int64_t j = 0; j < rows; ++j)
      for (int v = 0; v < kVectors; ++v) top[v] = larger(load<V>(s.tile + j * kRow + v * kW), top[v]);
  }
  const Real inverse = p.inverse;
  const auto cumulate = [&](int64_t rows) PYGEN_INLINE_LAMBDA {  // goes on from `sum`
    add_up<kVectors, kRow>(s.tile, rows, sum, [&](int v) PYGEN_INLINE_LAMBDA {
      const V most_of_draw = top[v];
      return [most_of_draw, inverse](V x, int64_t)
                 PYGEN_INLINE_LAMBDA { return exp_minus(V((most_of_draw - x) * inverse)); };
    });
  };
  for (int v = 0; v < kVectors; ++v) sum[v] = V{};
  for (int64_t chunk = 0; chunk < chunks; ++chunk) cumulate(chunks == 1 ? p.levels : read(chunk));
  alignas(64) Real number[kRow] = {};
  for (int64_t i = 0; i < count; ++i) number[i] = static_cast<Real>(u[i * u_step]);
  for (int v = 0; v < kVectors; ++v) {
    wanted[v] = load<V>(number + v * kW) * sum[v];
    store(s.sum + v * kW, sum[v]);
    below[v] = sum[v] = V{};
  }
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    int64_t rows = p.levels;
    if (chunks > 1) cumulate(rows = read(chunk));
    count_below<kVectors, kRow>(s.tile, rows, wanted, below);
  }
  for (int v = 0; v < kVectors; ++v) store(s.level + v * kW, below[v]);
}

}  // namespace
}  // namespace PYGEN_ISA
}  // namespace pygen
