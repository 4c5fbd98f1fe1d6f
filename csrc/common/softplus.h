// softplus and the logistic function out of one exponential e = exp(-|y|), for one number or a SIMD vector V.
//
//   softplus(y) = max(y, 0) + log(1 + e)        sigmoid(y) = (y < 0 ? e : 1) / (1 + e)
// Nothing cancels, so both keep their digits at every y. NaN goes through.
#pragma once

#include "common/elementary.h"
#include "common/special.h"

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
  return (p * z + low) * L::power_of_two(shifted, 127 + 24);
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

// The same two for losses and gates that on a GPU would wait for arithmetic and not for memory: there six instructions
// instead of fourteen, two instead of seven, within 3 ulp, and 0 where the exponential would be subnormal. Not for what
// goes on into long sums of such numbers, which then show it. What the product's rounding takes from the exponent is
// put back.
template <class V>
PYGEN_HD V quick_exp_minus_abs(V y) {
  return exp_minus_abs(y);
}
template <class V>
PYGEN_HD V quick_divide(V n, V d) {  // by a normal number
  return n / d;
}
#if defined(PYGEN_SPECIAL)
template <>
PYGEN_HD float quick_exp_minus_abs(float y) {
  const float x = Lanes<float>::at_most(::fabsf(y), 104.0f);
  const float turns = x * -1.44269504088896341f;
  const float rest = ::fmaf(turns, 1.9046543231482e-9f, ::fmaf(turns, -0.693147182464599609f, -x));
  const float power = special_ex2(turns);
  return ::fmaf(power, rest, power);
}
template <>
PYGEN_HD float quick_divide(float n, float d) {
  return n * special_rcp(d);
}
#endif
template <class V>
PYGEN_HD V quick_sigmoid_of(V y, V e) {
  return quick_divide(sigmoid_numerator(y, e), V(e + 1.0f));
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
