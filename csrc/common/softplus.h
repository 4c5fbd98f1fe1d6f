// softplus and the logistic function out of one exponential e = exp(-|y|), for one number or a SIMD vector V.
//
//   softplus(y) = max(y, 0) + log(1 + e)        sigmoid(y) = (y < 0 ? e : 1) / (1 + e)
// Nothing cancels, so both keep their digits at every y. NaN goes through.
#pragma once

#include "common/elementary.h"

namespace pygen {

// exp(-x) for x >= -60, subnormal results included: within 1.5 ulp for |x| < 20; at 87 within 4, as ln 2 is one float.
// Multiplications set the pace, so there are few; the polynomial (minimax) is split (Estrin) for short chains.
template <class V>
PYGEN_HD V exp_minus(V y) {
  using L = Lanes<V>;
  constexpr float k =
      0x1p-24f;  // folded into the coefficients and taken back by the scale, which so is a normal number
  const V x = L::at_most(y, 104.0f);  // exp(-104) rounds to 0
  const V shifted = x * -1.44269504088896341f + kRoundMagic;
  const V n = shifted - kRoundMagic;
  const V r = n * -0.69314718055994531f - x;
  const V z = r * r;
  const V high = (8.3687518919e-3f * k) * r + 4.1668407364e-2f * k;
  const V middle = (1.6666520269e-1f * k) * r + 4.9999993289e-1f * k;
  const V low = r * k + k;
  const V p = ((1.3814138470e-3f * k) * z + high) * z + middle;
  return (p * z + low) * L::from_bits((L::bits(shifted) + (127 + 24)) << 23);
}
template <>
PYGEN_HD double exp_minus(double y) {
  return ::exp(-y);
}

template <class V>
PYGEN_HD V exp_minus_abs(V y) {
  return exp_minus(V(Lanes<V>::absolute(y)));
}

// log(1 + x), x >= 0: the rounding of 1 + x is put back.
template <class V>
PYGEN_HD V log1p_positive(V x) {
  const V u = 1.0f + x;
  return log_positive(u) + (x - (u - 1.0f)) / u;
}
template <>
PYGEN_HD double log1p_positive(double x) {
  return ::log1p(x);
}

template <class V>
PYGEN_HD V positive_part(V y) {
  return Lanes<V>::at_least(y, 0);
}

template <class V>
PYGEN_HD V sigmoid_numerator(V y, V e) {
  using L = Lanes<V>;
  return L::select_top_bit(L::bits(y), e, V{} + 1.0f);
}
template <>
PYGEN_HD double sigmoid_numerator(double y, double e) {
  return y < 0 ? e : 1.0;
}
template <class V>
PYGEN_HD V sigmoid_of(V y, V e) {
  return sigmoid_numerator(y, e) / (e + 1.0f);
}

// The sum of log(1 + e) over a run of numbers 0 <= e <= 1, with one logarithm: it is log(1 + q) for
// 1 + q = prod (1 + e), and q <- q (1 + e) + e adds positive numbers, so small e keep their digits.
template <class V>
struct Log1pSum {
  static constexpr int kRun = 32;  // q stays below 2^32
  V q{};
  PYGEN_HD void add(V e) {
    const V u = e + 1.0f;
    q = q * u + e;
  }
  PYGEN_HD V take() {
    const V total = log1p_positive(q);
    q = V{};
    return total;
  }
};

}  // namespace pygen
