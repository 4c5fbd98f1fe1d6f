// Sums over features and over rows, which the kernels of noise_contrastive share.
#pragma once

#include <algorithm>

#include "cpu/softmax_row.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kAtOnce = 4;  // vectors of a row: as many chains of additions

template <class T>
PYGEN_INLINE void fetch(const T* row, int64_t count) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t j = 0; j < count; j += kLine) __builtin_prefetch(row + j);
  if (count) __builtin_prefetch(row + count - 1);  // rows begin anywhere in a line
}

// The vector that ends with a row: its lanes that no whole vector before it had; the others become 0.
template <class V>
PYGEN_INLINE V lanes_left(V v, int64_t left) {
  if constexpr (std::is_same_v<V, VecF>) {
    static constexpr auto kMask = [] {
      struct {
        int32_t lane[2 * kLanes] = {};
      } mask;
      for (int i = kLanes; i < 2 * kLanes; ++i) mask.lane[i] = -1;
      return mask;
    }();
    return Lanes<VecF>::select(load<VecI>(kMask.lane + left), v, VecF{});
  }
  return v;
}

// A vector whose lanes' sum is the dot product.
template <class T, class Real>
PYGEN_INLINE Vector<Real> dot_lanes(const T* a, const T* b, int64_t count) {
  using V = Vector<Real>;
  constexpr int64_t kW = kWidth<Real>, kStep = kAtOnce * kW;
  if (count < kW) {
    Real each[kW] = {};
    for (int64_t j = 0; j < count; ++j) each[j] = widen(a[j]) * widen(b[j]);
    return load<V>(each);
  }
  V sum[kAtOnce] = {};
  int64_t j = 0;
  for (; j + kStep <= count; j += kStep)
    for (int v = 0; v < kAtOnce; ++v) sum[v] = sum[v] + load_as<V>(a + j + v * kW) * load_as<V>(b + j + v * kW);
  for (; j + kW <= count; j += kW) sum[0] = sum[0] + load_as<V>(a + j) * load_as<V>(b + j);
  if (j < count) {
    const T *x = a + count - kW, *y = b + count - kW;
    sum[1] = sum[1] + lanes_left(load_as<V>(x), count - j) * lanes_left(load_as<V>(y), count - j);
  }
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// sums[i] = the sum of the lanes of v[i], for four of them: a sixth of the shuffles that each alone would take.
PYGEN_INLINE void sum_lanes_of_four(const double* v, double* sums) { std::copy_n(v, 4, sums); }
PYGEN_INLINE void sum_lanes_of_four(const VecF* v, float* sums) {
  const auto one = [](const VecF& x) PYGEN_INLINE_LAMBDA {
#if PYGEN_TWIN
    return x.a + x.b;
#else
    return x;
#endif
  };
  const auto halved = [](RegF x, RegF y) PYGEN_INLINE_LAMBDA {
    return interleave_low_register(x, y) + interleave_high_register(x, y);
  };
  typedef float Four __attribute__((vector_size(16)));
  float lane[PYGEN_REGISTER_LANES];
  store(lane, halved(halved(one(v[0]), one(v[2])), halved(one(v[1]), one(v[3]))));
  Four sum = load<Four>(lane);
  for (int i = 4; i < PYGEN_REGISTER_LANES; i += 4) sum = sum + load<Four>(lane + i);
  store(sums, sum);
}

constexpr int64_t kRun = 32;  // rows summed at once; then the sums are, so that errors do not grow with the count

// One stripe of kVectors vectors, or of single numbers, of the sum over i of scale(i) row(i).
template <int kVectors, class V, class Scale, class Row, class Keep>
PYGEN_INLINE void combine_stripe(int64_t count, int64_t j, const Scale& scale, const Row& row, const Keep& keep) {
  constexpr int64_t kW = sizeof(V) / sizeof(typename Lanes<V>::Real);
  V total[kVectors] = {};
  for (int64_t start = 0; start < count; start += kRun) {
    const int64_t end = std::min(count, start + kRun);
    V sum[kVectors] = {};
    for (int64_t i = start; i < end; ++i) {
      const auto* from = row(i) + j;
      const auto s = scale(i);
      for (int v = 0; v < kVectors; ++v) sum[v] = sum[v] + load_as<V>(from + v * kW) * s;
    }
    for (int v = 0; v < kVectors; ++v) total[v] = total[v] + sum[v];
  }
  for (int v = 0; v < kVectors; ++v) keep(j + v * kW, total[v]);
}

// What is left of a row that has a vector ends with one more, over what has been done.
template <class Real, class Scale, class Row, class Keep>
PYGEN_INLINE void combine(int64_t count, int64_t features, const Scale& scale, const Row& row, const Keep& keep) {
  using V = Vector<Real>;
  constexpr int64_t kW = kWidth<Real>, kStep = kAtOnce * kW;
  int64_t j = 0;
  for (; j + kStep <= features; j += kStep) combine_stripe<kAtOnce, V>(count, j, scale, row, keep);
  for (; j + kW <= features; j += kW) combine_stripe<1, V>(count, j, scale, row, keep);
  if (j > 0 && j < features) return combine_stripe<1, V>(count, features - kW, scale, row, keep);
  for (; j < features; ++j) combine_stripe<1, Real>(count, j, scale, row, keep);
}

}  // namespace
}  // namespace PYGEN_ISA
}  // namespace pygen
