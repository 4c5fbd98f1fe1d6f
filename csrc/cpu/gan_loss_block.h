// One block of gan_loss on CPUs: the loops over its logits.
#pragma once

#include "cpu/block_io.h"
#include "cpu/gan_loss.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

template <class Real>
using Vector = std::conditional_t<__is_same(Real, float), VecF, Real>;

// The numbers of a segment, in every lane.
template <class V>
struct Constants {
  using Real = typename Lanes<V>::Real;
  V sign, shift;  // shift: the mean that is subtracted
  Real offset, limit;
  PYGEN_INLINE Constants(const GanSegment& s, Real mean)
      : sign(V{} + static_cast<Real>(s.sign)),
        shift(V{} + mean),
        offset(static_cast<Real>(s.offset)),
        limit(static_cast<Real>(s.limit)) {}
};

// What one block is computed from.
template <class Real>
struct Block {
  const GanSegment& segment;
  const Real *x, *other;  // other: nullptr without GanOther::Pair
  Real mean;              // that is subtracted
  int64_t n;
  Real* e;  // scratch: exp(-|y|)
};

// sign y of the logits at i.
template <class Real, class V>
PYGEN_INLINE V difference(const Block<Real>& b, const Constants<V>& c, int64_t i) {
  return load<V>(b.x + i) - (b.other ? load<V>(b.other + i) : c.shift);
}

// body(i, constants) over the block: vectors, then a tail of single numbers, so that nothing outside is touched.
template <class Real, class Body>
PYGEN_INLINE void for_each_vector(const Block<Real>& b, Body body) {
  using V = Vector<Real>;
  constexpr int64_t kWidth = sizeof(V) / sizeof(Real);
  const Constants<V> c(b.segment, b.mean);
  int64_t i = 0;
  for (; i + kWidth <= b.n; i += kWidth) body(i, c);
  const Constants<Real> one(b.segment, b.mean);
  for (; i < b.n; ++i) body(i, one);
}

PYGEN_INLINE double sum_lanes(double v) { return v; }
PYGEN_INLINE double sum_lanes(float v) { return v; }
PYGEN_INLINE double sum_lanes(VecF v) {
  float lane[kLanes];
  store(lane, v);
  double total = 0;
  for (float x : lane) total += static_cast<double>(x);
  return total;
}

struct Sums {
  double value = 0, x = 0, right = 0, slope = 0;
  Sums& operator+=(const Sums& s) {
    value += s.value;
    x += s.x;
    right += s.right;
    slope += s.slope;
    return *this;
  }
};

// In a loop of its own: the processor overlaps more iterations of two short loops than of one.
template <class Real>
__attribute__((noinline)) void fill_exp(const Block<Real>& b) {
  for_each_vector(
      b, [&](int64_t i, const auto& c) PYGEN_INLINE_LAMBDA { store(b.e + i, exp_minus_abs(difference(b, c, i))); });
}

// Sums over [begin, end), a multiple of V's width, in runs: short chains of additions, one logarithm each.
template <GanForm kForm, bool kStats, bool kSlopes, class V, class Real>
PYGEN_INLINE Sums sum_vectors(const Block<Real>& b, int64_t begin, int64_t end) {
  constexpr int64_t kWidth = sizeof(V) / sizeof(Real), kRun = Log1pSum<V>::kRun * kWidth;
  const Constants<V> c(b.segment, b.mean);
  V value{}, sum_x{}, right{}, slope{};
  for (int64_t i = begin; i < end;) {
    const int64_t stop = end - i < kRun ? end : i + kRun;
    V run_value{}, run_x{}, run_slope{};
    Log1pSum<V> log;
    for (; i < stop; i += kWidth) {
      const V y = difference(b, c, i) * c.sign;
      V e{};
      if constexpr (uses_exp(kForm)) {
        e = load<V>(b.e + i);
        log.add(e);
      }
      run_value += gan_plain_part<kForm>(y, c.offset);
      if constexpr (kSlopes) run_slope += gan_slope<kForm>(y, e, c.offset);
      if constexpr (kStats) {
        run_x += load<V>(b.x + i);
        right += Lanes<V>::select(y < c.limit, V(V{} + Real(1)), V{});
      }
    }
    if constexpr (uses_exp(kForm)) run_value += log.take();
    value += run_value;
    if constexpr (kSlopes) slope += run_slope;
    if constexpr (kStats) sum_x += run_x;
  }
  return {sum_lanes(value), sum_lanes(sum_x), sum_lanes(right), sum_lanes(slope)};
}

template <GanForm kForm, bool kStats, bool kSlopes, class Real>
__attribute__((noinline)) Sums sum_block_terms(const Block<Real>& b) {
  using V = Vector<Real>;
  constexpr int64_t kWidth = sizeof(V) / sizeof(Real);
  const int64_t whole = b.n / kWidth * kWidth;
  Sums sums;
  if (whole) sums = sum_vectors<kForm, kStats, kSlopes, V>(b, 0, whole);
  if (whole < b.n) sums += sum_vectors<kForm, kStats, kSlopes, Real>(b, whole, b.n);
  return sums;
}

// out = the terms, each times `weight`.
template <GanForm kForm, class Real>
__attribute__((noinline)) void store_terms(const Block<Real>& b, Real weight, Real* out) {
  for_each_vector(b, [&](int64_t i, const auto& c) PYGEN_INLINE_LAMBDA {
    using V = std::decay_t<decltype(c.sign)>;
    V term = gan_plain_part<kForm>(V(difference(b, c, i) * c.sign), c.offset);
    if constexpr (uses_exp(kForm)) term += log1p_positive(load<V>(b.e + i));
    store(out + i, V(term * weight));
  });
}

// out = factor slope + constant, or times upstream where each logit has its own.
template <GanForm kForm, bool kUpstream, class Real>
__attribute__((noinline)) void store_gradients(const Block<Real>& b, const Real* upstream, Real factor, Real constant,
                                               Real* out) {
  for_each_vector(b, [&](int64_t i, const auto& c) PYGEN_INLINE_LAMBDA {
    using V = std::decay_t<decltype(c.sign)>;
    V e{};
    if constexpr (uses_exp(kForm)) e = load<V>(b.e + i);
    V grad = gan_slope<kForm>(V(difference(b, c, i) * c.sign), e, c.offset) * factor;
    if constexpr (kUpstream) grad = grad * load<V>(upstream + i);
    store(out + i, V(grad + constant));
  });
}

}  // namespace
}  // namespace PYGEN_ISA
}  // namespace pygen
