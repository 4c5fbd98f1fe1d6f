// exp_terms and log for losses that on a GPU would wait for arithmetic and not for memory.
#pragma once

#include "common/elementary.h"
#include "common/special.h"

namespace pygen {

// kNarrow: what comes of it is rounded to 16 bits.
template <bool kNarrow, class V>
PYGEN_HD ExpTerms<V> quick_exp_terms(V x) {
  return exp_terms(x);
}

// log(x), x > 0: not within an ulp where x is near 1, but within 3e-7, which is enough for what is added to larger
// logarithms.
template <class V>
PYGEN_HD V quick_log(V x) {
  return log_positive(x);
}

#if defined(PYGEN_SPECIAL)
template <>
PYGEN_HD float quick_log(float x) {
  return special_lg2(x) * 0.69314718055994531f;
}

// Twice the least number whose exponential is too large for a float: there `turns` below is 128 and `rest` above 0, so
// that the root is inf and not inf - inf.
constexpr float kMostTerms = 177.4456787109375f;

// 17 instructions, not 27: the root within 3 ulp, and 0 where it would be subnormal. What the product's rounding takes
// from the exponent is put back; from -1 to 1 exp(x) - 1 - x is x^2 times a polynomial (minimax), within 2 ulp.
template <>
PYGEN_HD ExpTerms<float> quick_exp_terms<true, float>(float x) {
  using L = Lanes<float>;
  const float capped = L::at_most(x, kMostTerms);
  const float h = L::at_least(0.5f * capped, -105.0f);
  const float turns = h * 1.44269504088896341f;
  const float rest = ::fmaf(turns, 1.9046543231482e-9f, ::fmaf(turns, -0.693147182464599609f, h));
  const float power = special_ex2(turns);
  float q = ::fmaf(2.4960776500e-5f, x, 2.0325483638e-4f);
  q = ::fmaf(q, x, 1.3891336275e-3f);
  q = ::fmaf(q, x, 8.3309300244e-3f);
  q = ::fmaf(q, x, 4.1666515172e-2f);
  q = ::fmaf(q, x, 1.6666695476e-1f);
  const bool small = ::fabsf(x) < 1.0f;  // no subtraction below cancels
  ExpTerms<float> out;
  out.root = ::fmaf(power, rest, power);
  const float em1 = ::fmaf(out.root, out.root, -1.0f);
  // Ends in an fma, so that no compiler makes one of it and of what it is added to: the bits would hang on that.
  const float excess = ::fmaf(q * x, x * x, 0.5f * (x * x));
  out.em1 = small ? excess + x : em1;
  out.excess = small ? excess : em1 - capped;
  return out;
}

// 22 instructions: those of exp_terms with one scale instead of two, and so 0 for roots below 2^-125.
template <>
PYGEN_HD ExpTerms<float> quick_exp_terms<false, float>(float x) {
  using L = Lanes<float>;
  const float capped = L::at_most(x, kMostTerms);
  const float least = L::at_least(capped, -175.0f);  // n = -126, a scale of 0
  const float shifted = ::fmaf(least, 0.5f * 1.44269504088896341f, kRoundMagic);
  const float n = shifted - kRoundMagic;
  const float r = ::fmaf(n, 2 * 2.12194440e-4f, ::fmaf(n, 2 * -0.693359375f, least));  // twice what exp is taken of
  float q = ::fmaf(1.9875691500e-4f / 128, r, 1.3981999507e-3f / 64);
  q = ::fmaf(q, r, 8.3334519073e-3f / 32);
  q = ::fmaf(q, r, 4.1665795894e-2f / 16);
  q = ::fmaf(q, r, 1.6666665459e-1f / 8);
  q = ::fmaf(q, r, 5.0000001201e-1f / 4);
  const float tail = q * (r * r);
  const float p = ::fmaf(0.5f, r, tail);
  const float scale = L::power_of_two(shifted, 126);  // half of it: 2^128 is none
  const float half = ::fmaf(p, scale, scale);
  ExpTerms<float> out;
  out.root = half + half;
  const bool small = n == 0.0f;
  const float em1 = ::fmaf(out.root, out.root, -1.0f);
  out.em1 = small ? p * (p + 2.0f) : em1;
  out.excess = small ? ::fmaf(p, p, 2.0f * tail) : em1 - capped;
  return out;
}
#endif

}  // namespace pygen
