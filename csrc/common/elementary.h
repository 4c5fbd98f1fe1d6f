// exp, log, sin and cos as the ops need them, for one number or a SIMD vector V of float, and for double.
// Polynomials after Cephes (Moshier); each range reduction is exact, so the errors stay below 2 ulp where it matters:
// log near 1, sin and cos near their zeros, exp(x) - 1 - x near 0. NaN goes through every function.
#pragma once

#include "common/lanes.h"

namespace pygen {

constexpr float kRoundMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer held in the low mantissa bits

// ln(u) for normal positive u.
template <class V>
PYGEN_HD V log_positive(V u) {
  using L = Lanes<V>;
  const auto bits = L::bits(u);
  const auto e = (bits - 0x3f3504f3) & ~0x7fffff;  // 2^23 * exponent that leaves the mantissa in [sqrt(1/2), sqrt(2))
  const V x = L::from_bits(bits - e) - 1.0f;
  const V n = L::to_real(e);
  const V z = x * x;
  V y = 7.0376836292e-2f * x - 1.1514610310e-1f;
  y = y * x + 1.1676998740e-1f;
  y = y * x - 1.2420140846e-1f;
  y = y * x + 1.4249322787e-1f;
  y = y * x - 1.6668057665e-1f;
  y = y * x + 2.0000714765e-1f;
  y = y * x - 2.4999993993e-1f;
  y = y * x + 3.3333331174e-1f;
  y = y * x - 0.5f;
  return n * 8.26295829e-8f + (y * z + x);  // ln 2 / 2^23
}
template <>
PYGEN_HD double log_positive(double u) {
  return ::log(u);
}

// sin(2 pi u) and cos(2 pi u), 0 <= u <= 1, but for a sign that both then take: the top bit of what is returned. The
// quadrant is taken off u itself, where that is exact.
template <class V>
PYGEN_HD auto sincos_turn(V u, V& sine, V& cosine) -> decltype(Lanes<V>::bits(u)) {
  using L = Lanes<V>;
  const V shifted = u * 4.0f + kRoundMagic;
  const auto quadrant = L::bits(shifted);
  const V x = u - (shifted - kRoundMagic) * 0.25f;  // [-1/8, 1/8]; the coefficients hold the powers of 2 pi
  const V z = x * x;
  V s = -75.4456525026f * z + 81.5937678118f;
  s = s * z - 41.3416723363f;
  s = s * z + 6.28318530718f;
  s = s * x;
  V c = 59.3497008987f * z - 85.4471409617f;
  c = c * z + 64.9393613187f;
  c = c * z - 19.7392088022f;
  c = c * z + 1.0f;
  const auto odd = quadrant << 31;
  sine = L::select_top_bit(odd, c, s);
  cosine = L::select_top_bit(odd, V(-s), c);
  return (quadrant & 2) << 30;
}

// Two normals from two uniforms in (0, 1] (Box and Muller 1958).
template <class V>
PYGEN_HD void box_muller(V u0, V u1, V& z0, V& z1) {
  using L = Lanes<V>;
  V sine, cosine;
  const auto sign = sincos_turn(u1, sine, cosine);
  const V radius = L::from_bits(L::bits(L::sqrt(log_positive(u0) * -2.0f)) ^ sign);
  z0 = radius * cosine;
  z1 = radius * sine;
}
template <>
PYGEN_HD void box_muller(double u0, double u1, double& z0, double& z1) {
  const double quarter = ::rint(u1 * 4.0);
  const double x = (u1 - quarter * 0.25) * 6.283185307179586476925;
  const int quadrant = static_cast<int>(quarter) & 3;
  const double sine = quadrant & 1 ? ::cos(x) : ::sin(x), cosine = quadrant & 1 ? -::sin(x) : ::cos(x);
  const double radius = ::sqrt(log_positive(u0) * -2.0) * (quadrant & 2 ? -1.0 : 1.0);
  z0 = radius * cosine;
  z1 = radius * sine;
}

// Everything the Gaussian ops take from exp(x), out of one exponential.
template <class V>
struct ExpTerms {
  V root;    // exp(x / 2)
  V em1;     // exp(x) - 1
  V excess;  // exp(x) - 1 - x; +inf at both infinities
};

template <class V>
PYGEN_HD ExpTerms<V> exp_terms(V x) {
  using L = Lanes<V>;
  const V capped = L::at_most(x, 180.0f);           // exp(180) is inf, as exp(inf); and inf - 180 is a number
  const V h = L::at_least(0.5f * capped, -105.0f);  // exp(-105) rounds to 0
  const V shifted = h * 1.44269504088896341f + kRoundMagic;
  const V n = shifted - kRoundMagic;
  const auto whole = L::bits(shifted);  // n in the low bits; the shifts below drop what is above
  V r = n * -0.693359375f + h;
  r = n * 2.12194440e-4f + r;
  V q = 1.9875691500e-4f * r + 1.3981999507e-3f;
  q = q * r + 8.3334519073e-3f;
  q = q * r + 4.1665795894e-2f;
  q = q * r + 1.6666665459e-1f;
  q = q * r + 5.0000001201e-1f;
  const V tail = q * (r * r);  // exp(r) - 1 - r
  const V p = r + tail;
  const auto half = whole >> 1;  // two factors, so that neither over- nor underflow comes early
  const V scale = L::from_bits((half + 127) << 23);
  const V scale_rest = L::from_bits((whole - half + 127) << 23);
  ExpTerms<V> out;
  out.root = (p * scale + scale) * scale_rest;
  const auto small = n == 0.0f;  // |x| < 0.69: no subtraction below cancels
  const V em1 = out.root * out.root - 1.0f;
  out.em1 = L::select(small, p * (p + 2.0f), em1);
  out.excess = L::select(small, p * p + 2.0f * tail, em1 - capped);
  return out;
}
template <>
PYGEN_HD ExpTerms<double> exp_terms(double x) {
  ExpTerms<double> out;
  out.root = ::exp(0.5 * x);
  out.em1 = ::expm1(x);
  // Below 0.5 the difference would lose digits: Taylor to x^13 / 13! is exact to 1e-17 relative there.
  if (x > -0.5 && x < 0.5) {
    double q = 1.0;
    for (int i = 15; i > 2; --i) q = 1.0 + q * x * (1.0 / i);
    out.excess = 0.5 * x * x * q;
  } else {
    out.excess = out.em1 - Lanes<double>::at_most(x, Lanes<double>::kMax);
  }
  return out;
}

}  // namespace pygen
