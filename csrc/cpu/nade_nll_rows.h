// Rows of H units as vectors, the last one of which may be partial, and sums over the lanes of four vectors at once.
#pragma once

#include <algorithm>

#include "common/nade_nll.h"
#include "cpu/block_io.h"
#include "cpu/registers.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

template <class Real>
using Vector = std::conditional_t<std::is_same_v<Real, float>, VecF, Reg<double>>;
template <class Real>
constexpr int64_t kWidth = sizeof(Vector<Real>) / sizeof(Real);

PYGEN_INLINE VecF units_of(VecF a) { return nade_unit(a); }
PYGEN_INLINE Reg<double> units_of(Reg<double> a) {
  for (int i = 0; i < kRegLanes<double>; ++i) a[i] = nade_unit(static_cast<double>(a[i]));
  return a;
}

template <class Real>
constexpr int64_t padded(int64_t n) {
  return (n + kWidth<Real> - 1) / kWidth<Real> * kWidth<Real>;
}

// The first n numbers at p, zeros behind them.
template <class Real>
PYGEN_INLINE Vector<Real> load_part(const Real* p, int64_t n) {
  alignas(64) Real whole[kWidth<Real>] = {};
  std::copy_n(p, n, whole);
  return load<Vector<Real>>(whole);
}

// body(j, v): v the vector of row[j ...], zeros behind the row's end.
template <class Real, class Body>
PYGEN_INLINE void for_each_vector_of_row(const Real* row, int64_t n, Body body) {
  int64_t j = 0;
  for (; j + kWidth<Real> <= n; j += kWidth<Real>) body(j, load<Vector<Real>>(row + j));
  if (j < n) body(j, load_part(row + j, n - j));
}

typedef float Quad __attribute__((vector_size(16)));
typedef int32_t QuadI __attribute__((vector_size(16)));

PYGEN_INLINE Quad quad_of(VecF v) {
  static_assert(kLanes % 4 == 0);
  alignas(64) float lanes[kLanes];
  store(lanes, v);
  Quad sum = load<Quad>(lanes);
  for (int i = 4; i < kLanes; i += 4) sum += load<Quad>(lanes + i);
  return sum;
}

// Sums over the lanes, by one tree for any count.
template <int kCount>
PYGEN_INLINE void sum_each(const VecF (&v)[kCount], float* sums) {
  if constexpr (kCount == 4) {
    const Quad a = quad_of(v[0]), b = quad_of(v[1]), c = quad_of(v[2]), d = quad_of(v[3]);
    const Quad ab = __builtin_shuffle(a, b, QuadI{0, 4, 1, 5}), ab2 = __builtin_shuffle(a, b, QuadI{2, 6, 3, 7});
    const Quad cd = __builtin_shuffle(c, d, QuadI{0, 4, 1, 5}), cd2 = __builtin_shuffle(c, d, QuadI{2, 6, 3, 7});
    const Quad low = __builtin_shuffle(ab, cd, QuadI{0, 1, 4, 5}) + __builtin_shuffle(ab, cd, QuadI{2, 3, 6, 7});
    const Quad high = __builtin_shuffle(ab2, cd2, QuadI{0, 1, 4, 5}) + __builtin_shuffle(ab2, cd2, QuadI{2, 3, 6, 7});
    store(sums, Quad(low + high));
  } else {
    for (int i = 0; i < kCount; ++i) {
      const Quad q = quad_of(v[i]);
      sums[i] = (q[0] + q[1]) + (q[2] + q[3]);
    }
  }
}
template <int kCount>
PYGEN_INLINE void sum_each(const Reg<double> (&v)[kCount], double* sums) {
  for (int i = 0; i < kCount; ++i) {
    sums[i] = v[i][0];
    for (int j = 1; j < kRegLanes<double>; ++j) sums[i] += v[i][j];
  }
}

}  // namespace
}  // namespace PYGEN_ISA
}  // namespace pygen
