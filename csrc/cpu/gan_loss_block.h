// One block of gan_loss on CPUs: the loops over its logits.
#pragma once

#include "cpu/block_io.h"
#include "cpu/gan_loss.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

#define PYGEN_APART __attribute__((noinline, noclone))  // one copy, however many calls

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

// What one block is computed from. Loops look at a copy: of the caller's a store might change the pointers.
template <class Real>
struct Block {
  const GanSegment& segment;
  const Real* x;  // with GanOther::Pair less the other side's
  Real mean;      // that is subtracted
  int64_t n;
};

// sign y of the logits at i.
template <class Real, class V>
PYGEN_INLINE V difference(const Block<Real>& b, const Constants<V>& c, int64_t i) {
  return load<V>(b.x + i) - c.shift;
}

// How many vectors are taken at once: exp first, in a loop of its own, as the processor overlaps more iterations of two
// short loops than of one; but few enough that memory is read and written all the time.
template <class V>
constexpr int kRunLength = Log1pSum<V>::kRun;

// exp(-|y|) of one run, for the forms that use it.
template <class V>
struct RunOfExp {
  using Real = typename Lanes<V>::Real;
  static constexpr int64_t kWidth = sizeof(V) / sizeof(Real);
  alignas(64) Real values[kRunLength<V> * kWidth];
  template <GanForm kForm>
  PYGEN_INLINE void fill(const Block<Real>& b, const Constants<V>& c, int64_t begin, int64_t end) {
    if constexpr (uses_exp(kForm))
      for (int64_t i = begin; i < end; i += kWidth) store(values + (i - begin), exp_minus_abs(difference(b, c, i)));
  }
  template <GanForm kForm>
  PYGEN_INLINE V at(int64_t i) const {
    if constexpr (uses_exp(kForm)) return load<V>(values + i);
    return V{};
  }
};

// body(i, y, e) of the vectors in [begin, end), a multiple of V's width.
template <GanForm kForm, class V, class Real, class Body>
PYGEN_INLINE void for_each_vector(const Block<Real>& block, int64_t begin, int64_t end, Body body) {
  constexpr int64_t kWidth = sizeof(V) / sizeof(Real), kRun = kRunLength<V> * kWidth;
  const Block<Real> b = block;
  const Constants<V> c(b.segment, b.mean);
  RunOfExp<V> e;
  for (; begin < end; begin += kRun) {
    const int64_t stop = end - begin < kRun ? end : begin + kRun;
    e.template fill<kForm>(b, c, begin, stop);
    for (int64_t i = begin; i < stop; i += kWidth)
      body(i, V(difference(b, c, i) * c.sign), e.template at<kForm>(i - begin));
  }
}

// body(i, y, e) over the block: vectors, then a tail of single numbers, so that nothing outside is touched.
template <GanForm kForm, class Real, class Body>
PYGEN_INLINE void for_each_logit(const Block<Real>& b, Body body) {
  using V = Vector<Real>;
  constexpr int64_t kWidth = sizeof(V) / sizeof(Real);
  const int64_t whole = b.n / kWidth * kWidth;
  for_each_vector<kForm, V>(b, 0, whole, body);
  if constexpr (kWidth > 1) for_each_vector<kForm, Real>(b, whole, b.n, body);
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

// Sums over [begin, end), a multiple of V's width, in runs: short chains of additions, one logarithm each. With kGrad
// also stores the gradients, as store_gradients.
template <GanForm kForm, bool kStats, bool kSlopes, bool kGrad, class V, class Real>
PYGEN_INLINE Sums sum_vectors(const Block<Real>& block, int64_t begin, int64_t end, Real factor, Real* grad) {
  constexpr int64_t kWidth = sizeof(V) / sizeof(Real), kRun = kRunLength<V> * kWidth;
  const Block<Real> b = block;
  const Constants<V> c(b.segment, b.mean);
  RunOfExp<V> exps;
  V value{}, sum_x{}, right{}, slope{};
  for (int64_t start = begin; start < end; start += kRun) {
    const int64_t stop = end - start < kRun ? end : start + kRun;
    exps.template fill<kForm>(b, c, start, stop);
    V run_value{}, run_x{}, run_slope{};
    Log1pSum<V> log;
    for (int64_t i = start; i < stop; i += kWidth) {
      const V y = difference(b, c, i) * c.sign, e = exps.template at<kForm>(i - start);
      if constexpr (uses_exp(kForm)) log.add(e);
      run_value += gan_plain_part<kForm>(y, c.offset);
      if constexpr (kSlopes || kGrad) {
        const V each = gan_slope<kForm>(y, e, c.offset);
        if constexpr (kSlopes) run_slope += each;
        if constexpr (kGrad) store(grad + i, V(each * factor + Real(0)));  // + 0: no -0
      }
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

template <GanForm kForm, bool kStats, bool kSlopes, bool kGrad, class Real>
PYGEN_APART Sums sum_block_terms(const Block<Real>& b, Real factor, Real* grad) {
  using V = Vector<Real>;
  constexpr int64_t kWidth = sizeof(V) / sizeof(Real);
  const int64_t whole = b.n / kWidth * kWidth;
  Sums sums;
  if (whole) sums = sum_vectors<kForm, kStats, kSlopes, kGrad, V>(b, 0, whole, factor, grad);
  if constexpr (kWidth > 1) {
    if (whole < b.n) sums += sum_vectors<kForm, kStats, kSlopes, kGrad, Real>(b, whole, b.n, factor, grad);
  }
  return sums;
}

// out = the terms, each times `weight`.
template <GanForm kForm, class Real>
PYGEN_APART void store_terms(const Block<Real>& b, Real weight, Real* out) {
  const Real offset = static_cast<Real>(b.segment.offset);
  for_each_logit<kForm>(b, [&](int64_t i, auto y, auto e) PYGEN_INLINE_LAMBDA {
    using V = decltype(y);
    V term = gan_plain_part<kForm>(y, offset);
    if constexpr (uses_exp(kForm)) term += log1p_positive(e);
    store(out + i, V(term * weight));
  });
}

// out = (factor slope + constant) whole, or factor slope upstream + constant where each logit has its own. `whole`
// comes last, so that the result is that of forward times `whole`.
template <GanForm kForm, bool kUpstream, class Real>
PYGEN_APART void store_gradients(const Block<Real>& b, const Real* upstream, Real factor, Real constant, Real whole,
                                 Real* out) {
  const Real offset = static_cast<Real>(b.segment.offset);
  for_each_logit<kForm>(b, [&](int64_t i, auto y, auto e) PYGEN_INLINE_LAMBDA {
    using V = decltype(y);
    V grad = gan_slope<kForm>(y, e, offset) * factor;
    if constexpr (kUpstream) {
      store(out + i, V(grad * load<V>(upstream + i) + constant));
    } else {
      store(out + i, V((grad + constant) * whole));
    }
  });
}

}  // namespace
}  // namespace PYGEN_ISA
}  // namespace pygen
