// Levels side by side in a tile, draw by draw in its lanes: weights become running sums in place, and a level is how
// many of these do not reach the uniform number's part of the last.
#pragma once

#include <algorithm>

#include "cpu/simd.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kChain = 64;  // additions one after the other

// Of rows of kRow numbers the first kVectors vectors; each goes on from its `sum`. term_of(v)(x, j): the weight that x
// is in row j.
template <int kVectors, int64_t kRow, class V, class Real, class TermOf>
PYGEN_INLINE void add_up(Real* tile, int64_t rows, V (&sum)[kVectors], const TermOf& term_of) {
  constexpr int64_t kW = sizeof(V) / sizeof(Real);
  for (int64_t start = 0; start < rows; start += kChain) {
    for (int v = 0; v < kVectors; ++v) {
      V run{};
      const V before = sum[v];
      const auto term = term_of(v);
      for (int64_t j = start; j < std::min(start + kChain, rows); ++j) {
        Real* at = tile + j * kRow + v * kW;
        run = run + term(load<V>(at), j);
        store(at, V(before + run));
      }
      sum[v] = before + run;
    }
  }
}

// below[v] += how many of them lie below wanted[v].
template <int kVectors, int64_t kRow, class V, class Real>
PYGEN_INLINE void count_below(const Real* tile, int64_t rows, const V (&wanted)[kVectors], V (&below)[kVectors]) {
  constexpr int64_t kW = sizeof(V) / sizeof(Real);
  for (int64_t j = 0; j < rows; ++j)
    for (int v = 0; v < kVectors; ++v)
      below[v] = below[v] + Lanes<V>::select(load<V>(tile + j * kRow + v * kW) < wanted[v], V{} + Real(1), V{});
}

}  // namespace
}  // namespace PYGEN_ISA
}  // namespace pygen
