// A block of the CRF: kCrfSequences sequences side by side, one in each lane, so that a tag is a row of a tile.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "common/crf.h"
#include "cpu/block_io.h"
#include "cpu/crf.h"
#include "cpu/registers.h"

namespace pygen {
inline namespace PYGEN_ISA {

constexpr int64_t kS = kCrfSequences;

template <class Real>
using Vector = std::conditional_t<std::is_same_v<Real, float>, VecF, Real>;
template <class Real>
constexpr int64_t kWidth = sizeof(Vector<Real>) / sizeof(Real);
template <class Real>
constexpr int kRegs = kS / kRegLanes<Real>;  // of a row

template <class V>
PYGEN_INLINE V larger(V x, V y) {
  return Lanes<V>::select(x > y, x, y);
}

// body(v) for the vectors of a row.
template <class Real, class Body>
PYGEN_INLINE void along_row(Body body) {
  for (int64_t v = 0; v < kS; v += kWidth<Real>) body(v);
}

// The matrices of a call, e^(A - shift) or with logarithms A.
template <class Real>
struct CrfMatrices {
  bool logarithms = false;
  Real shift = 0, last_shift = 0;
  std::vector<Real> to, from;          // [i, j], and transposed
  std::vector<Real> start, end, last;  // the last: of end, as the matrices are of A

  explicit CrfMatrices(const Crf& p) {
    const int64_t k = p.tags;
    const Real* a = static_cast<const Real*>(p.transitions);
    const auto vector = [&](const void* t) {
      const Real* x = static_cast<const Real*>(t);
      return x ? std::vector<Real>(x, x + k) : std::vector<Real>(static_cast<size_t>(k));
    };
    start = vector(p.start);
    end = last = vector(p.end);
    const Real top = *std::max_element(a, a + k * k), last_top = *std::max_element(end.begin(), end.end());
    const auto near = [](Real most, const Real* x, int64_t n) {
      bool all = true;
      for (int64_t i = 0; i < n; ++i) all &= most - x[i] <= kScaledRange<Real>;  // not of NaN or infinities
      return all;
    };
    logarithms = !(near(top, a, k * k) && near(last_top, end.data(), k));
    if (!logarithms) {
      shift = top;
      last_shift = last_top;
      for (Real& x : last) x = exp_minus(Real(last_shift - x));
    }
    to.assign(a, a + k * k);
    if (!logarithms)
      for (Real& x : to) x = exp_minus(Real(top - x));
    from.resize(to.size());
    for (int64_t i = 0; i < k; ++i)
      for (int64_t j = 0; j < k; ++j) from[static_cast<size_t>(j * k + i)] = to[static_cast<size_t>(i * k + j)];
  }
};

// Which sequences a block has, and how long they are.
struct CrfBlock {
  int64_t first, count, least, most;  // the last two: lengths
  int64_t length[kS] = {};
  bool wrong[kS] = {};

  CrfBlock(const Crf& p, int64_t block) : first(block * kS), count(std::min(kS, p.sequences - first)) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t given = p.lengths ? p.lengths[first + i] : p.steps;
      length[i] = std::clamp<int64_t>(given, 0, p.steps);
      wrong[i] = length[i] != given;
    }
    least = *std::min_element(length, length + kS);
    most = *std::max_element(length, length + kS);
  }
  // 1 for sequences that have this step, else 0.
  template <class Real>
  PYGEN_INLINE void live_at(int64_t t, Real* live) const {
    for (int64_t i = 0; i < kS; ++i) live[i] = t < length[i] ? Real(1) : Real(0);
  }
};

// call(T{}), T being what memory holds of tensors that are computed in Real: the blocks are compiled for Real alone.
template <class Real, class Call>
PYGEN_INLINE void by_stored(DType dtype, Call call) {
  if constexpr (std::is_same_v<Real, double>) {
    call(double{});
  } else if (dtype == DType::BFloat16) {
    call(BFloat16{});
  } else if (dtype == DType::Float16) {
    call(Float16{});
  } else {
    call(float{});
  }
}

// Emissions of step t as a tile [K, kS]; of sequences that have ended, what was there before.
template <class Real>
__attribute__((noinline)) void read_step(const Crf& p, const CrfBlock& b, int64_t t, Real* tile) {
  by_stored<Real>(p.dtype, [&](auto zero) PYGEN_INLINE_LAMBDA {
    using T = decltype(zero);
    const T* data = static_cast<const T*>(p.emissions.data) + b.first * p.emissions.image + t * p.emissions.channel;
    for (int64_t i = 0; i < b.count; ++i) {
      if (t >= b.length[i]) continue;
      const T* in = data + i * p.emissions.image;
      const int64_t stride = p.emissions.position;
      for (int64_t k = 0; k < p.tags; ++k) tile[k * kS + i] = widen(in[k * stride]);
    }
  });
}

// out[j] = sum_i in[i] m[i, j] for C columns j.
template <int C, class Real>
PYGEN_INLINE void product_columns(const Real* m, int64_t rows, int64_t pitch, const Real* in, Real* out) {
  using R = Reg<Real>;
  R sum[C][kRegs<Real>] = {};
  for (int64_t i = 0; i < rows; ++i) {
    R x[kRegs<Real>];
    for (int r = 0; r < kRegs<Real>; ++r) x[r] = load<R>(in + i * kS + r * kRegLanes<Real>);
    PYGEN_UNROLL
    for (int c = 0; c < C; ++c) {
      PYGEN_UNROLL
      for (int r = 0; r < kRegs<Real>; ++r) sum[c][r] += x[r] * m[i * pitch + c];
    }
  }
  for (int c = 0; c < C; ++c)
    for (int r = 0; r < kRegs<Real>; ++r) store(out + c * kS + r * kRegLanes<Real>, sum[c][r]);
}
// body(C) for each run of C columns: as many as keep 8 sums in registers, then halves of it.
template <int C, class Body>
PYGEN_INLINE void by_columns(int64_t columns, Body body, int64_t j = 0) {
  for (; j + C <= columns; j += C) body(j, std::integral_constant<int, C>{});
  if constexpr (C > 1)
    if (j < columns) by_columns<C / 2>(columns, body, j);
}
template <class Real>
__attribute__((noinline)) void product(const Real* m, int64_t rows, int64_t columns, const Real* in, Real* out) {
  by_columns<8 / kRegs<Real>>(columns, [&](int64_t j, auto c) PYGEN_INLINE_LAMBDA {
    product_columns<c()>(m + j, rows, columns, in, out + j * kS);
  });
}

// out[j] = log sum_i e^(in[i] + m[j, i]).
template <class Real>
__attribute__((noinline)) void log_product(const Real* m, int64_t rows, int64_t columns, const Real* in, Real* out) {
  using V = Vector<Real>;
  for (int64_t j = 0; j < columns; ++j) {
    along_row<Real>([&](int64_t v) PYGEN_INLINE_LAMBDA {
      const Real* w = m + j * rows;
      V top = V{} - Lanes<V>::kMax, sum{};
      for (int64_t i = 0; i < rows; ++i) top = larger(V(load<V>(in + i * kS + v) + w[i]), top);
      for (int64_t i = 0; i < rows; ++i) sum = sum + exp_minus(V(top - (load<V>(in + i * kS + v) + w[i])));
      store(out + j * kS + v, V(top + crf_log(sum)));
    });
  }
}

// One or the other, along the transitions or against them.
template <class Real>
PYGEN_INLINE void along_chain(const CrfMatrices<Real>& m, int64_t k, const Real* in, Real* out) {
  m.logarithms ? log_product(m.from.data(), k, k, in, out) : product(m.to.data(), k, k, in, out);
}
template <class Real>
PYGEN_INLINE void against_chain(const CrfMatrices<Real>& m, int64_t k, const Real* in, Real* out) {
  m.logarithms ? log_product(m.to.data(), k, k, in, out) : product(m.from.data(), k, k, in, out);
}
// Of the last states: their sum with the end's weights, one row.
template <class Real>
PYGEN_INLINE void finish_chain(const CrfMatrices<Real>& m, int64_t k, const Real* in, Real* out) {
  m.logarithms ? log_product(m.last.data(), k, 1, in, out) : product(m.last.data(), k, 1, in, out);
}

// From one state to the next, where sequences go on.
template <class Real>
struct Step {
  const Real *before, *emissions, *live;
  bool all;  // live
  Real *now, *m;
};

// Logarithms q, and M: what is larger than none is taken off.
// Of t = 0, where q is nullptr, the state is that of `start`.
template <class Real>
__attribute__((noinline)) void shift_state(const Step<Real>& s, int64_t k, const Real* q, const Real* start) {
  using V = Vector<Real>;
  constexpr Real kNone = -std::numeric_limits<Real>::infinity();
  along_row<Real>([&](int64_t v) PYGEN_INLINE_LAMBDA {
    V most = V{} + kNone;
    const auto next = [&](int64_t j) PYGEN_INLINE_LAMBDA {
      const V e = load<V>(s.emissions + j * kS + v);
      return q ? V(load<V>(q + j * kS + v) + e) : V(e + start[j]);
    };
    for (int64_t j = 0; j < k; ++j) most = larger(next(j), most);
    most = Lanes<V>::select(most == kNone, V{}, most);
    store(s.m + v, most);
    for (int64_t j = 0; j < k; ++j) {
      V a = next(j) - most;
      if (!s.all) a = Lanes<V>::select(load<V>(s.live + v) == Real(1), a, load<V>(s.before + j * kS + v));
      store(s.now + j * kS + v, a);
    }
  });
}

}  // namespace PYGEN_ISA
}  // namespace pygen
