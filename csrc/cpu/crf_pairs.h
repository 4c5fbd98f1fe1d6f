// The sums over steps and sequences of what two neighbouring tags come to: the transitions' gradient.
#pragma once

#include "cpu/crf_tile.h"

namespace pygen {
inline namespace PYGEN_ISA {

template <class Real>
PYGEN_INLINE Real total_of(Reg<Real> x) {
  Real lane[kRegLanes<Real>];
  store(lane, x);
  Real sum = 0;
  for (int i = 0; i < kRegLanes<Real>; ++i) sum += lane[i];
  return sum;
}

// pairs[i, j] += sum over steps c of a chunk and sequences of a[i] u[j], for I x J of them; the states of the steps
// before lie `pitch` numbers apart, backwards, and the u as far, forwards.
template <int I, int J, class Real>
PYGEN_INLINE void pair_tile(const Real* a, int64_t pitch, const Real* u, int64_t steps, Real* pairs, int64_t k) {
  using R = Reg<Real>;
  R sum[I][J] = {};
  for (int64_t c = 0; c < steps; ++c) {
    PYGEN_UNROLL
    for (int r = 0; r < kRegs<Real>; ++r) {
      R x[I];
      for (int i = 0; i < I; ++i) x[i] = load<R>(a - c * pitch + i * kS + r * kRegLanes<Real>);
      PYGEN_UNROLL
      for (int j = 0; j < J; ++j) {
        const R y = load<R>(u + c * pitch + j * kS + r * kRegLanes<Real>);
        PYGEN_UNROLL
        for (int i = 0; i < I; ++i) sum[i][j] += x[i] * y;
      }
    }
  }
  for (int i = 0; i < I; ++i)
    for (int j = 0; j < J; ++j) pairs[i * k + j] += total_of<Real>(sum[i][j]);
}
template <class Real>
__attribute__((noinline)) void add_pairs(const Real* a, int64_t pitch, const Real* u, int64_t steps, int64_t k,
                                         Real* pairs) {
  constexpr int I = kAccumulators >= 24 ? 4 : 2, J = kAccumulators / 4 > 4 ? 5 : 3;
  for (int64_t i = 0; i < k;) {
    const bool many = i + I <= k;
    for (int64_t j = 0; j < k;) {
      const bool wide = j + J <= k;
      const auto run = [&](auto rows, auto columns) PYGEN_INLINE_LAMBDA {
        pair_tile<rows(), columns()>(a + i * kS, pitch, u + j * kS, steps, pairs + i * k + j, k);
      };
      using One = std::integral_constant<int, 1>;
      if (many && wide) {
        run(std::integral_constant<int, I>{}, std::integral_constant<int, J>{});
      } else if (many) {
        run(std::integral_constant<int, I>{}, One{});
      } else if (wide) {
        run(One{}, std::integral_constant<int, J>{});
      } else {
        run(One{}, One{});
      }
      j += wide ? J : 1;
    }
    i += many ? I : 1;
  }
}

// The same of logarithms, with the upstream gradients g.
template <class Real>
__attribute__((noinline)) void add_log_pairs(const Real* a, int64_t pitch, const Real* u, int64_t steps, int64_t k,
                                             const Real* transitions, const Real* g, Real* pairs) {
  using V = Vector<Real>;
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = 0; j < k; ++j) {
      const Real w = transitions[i * k + j];
      double total = 0;
      along_row<Real>([&](int64_t v) PYGEN_INLINE_LAMBDA {
        V sum{};
        for (int64_t c = 0; c < steps; ++c) {
          const V x = load<V>(u + c * pitch + j * kS + v) + w + load<V>(a - c * pitch + i * kS + v);
          sum = sum + exp_minus(V(-x)) * load<V>(g + v);
        }
        total += sum_lanes(sum);
      });
      pairs[i * k + j] += static_cast<Real>(total);
    }
  }
}

}  // namespace PYGEN_ISA
}  // namespace pygen
