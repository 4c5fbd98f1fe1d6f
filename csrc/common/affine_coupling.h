// The arithmetic of one transformed place of affine_coupling, V = float, double or a SIMD vector.
//
//   forward  y = x e^f + t        inverse  x = (y - t) e^-f        f = f(s): s, bound tanh(s / bound), log sigmoid(s +
//   2)
// The factor is root^2 rest with a root that is neither 0 nor infinite: 0 times it is 0, and what overflows is the
// product alone.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "common/softplus.h"

namespace pygen {

enum class CouplingScale : int { None, Exp, Tanh, TanhNear, Sigmoid };
constexpr double kCouplingNear = 40;  // TanhNear: Tanh whose bound is at most this; C++ takes it by itself

inline CouplingScale parse_coupling_scale(std::string_view scale) {
  if (scale == "none") return CouplingScale::None;
  if (scale == "exp") return CouplingScale::Exp;
  if (scale == "tanh") return CouplingScale::Tanh;
  if (scale == "sigmoid") return CouplingScale::Sigmoid;
  throw std::invalid_argument("scale: expected none, exp, tanh or sigmoid, got " + std::string(scale));
}

template <class V>
struct CouplingFactor {
  V root, rest;  // e^f, or of the inverse e^-f, is root^2 rest
  V log, slope;  // f, and df / ds
};

// e^(f / 2), f / 2 within +-88; the polynomial is exp_minus's, and its scale two factors, as one has not the range.
template <class V>
PYGEN_HD V coupling_root(V f) {
  using L = Lanes<V>;
  const V h = L::at_least(V(L::at_most(f * 0.5f, 88.0f)), -88.0f);
  const V shifted = h * 1.44269504088896341f + kRoundMagic;
  const V n = shifted - kRoundMagic;
  const auto whole = L::bits(shifted), half = whole >> 1;
  const V r = n * 2.12194440e-4f + (n * -0.693359375f + h);
  const V z = r * r;
  const V high = 8.3687518919e-3f * r + 4.1668407364e-2f, middle = 1.6666520269e-1f * r + 4.9999993289e-1f;
  const V p = ((1.3814138470e-3f * z + high) * z + middle) * z + (r + 1.0f);
  return p * L::from_bits((half + 127) << 23) * L::from_bits((whole - half + 127) << 23);
}
template <>
PYGEN_HD double coupling_root(double f) {
  using L = Lanes<double>;
  return ::exp(0.5 * L::at_least(L::at_most(f, 1416.0), -1416.0));
}

// The same for |f| <= kCouplingNear, in a third of the instructions.
template <class V>
PYGEN_HD V coupling_near_root(V f) {
  return exp_minus(V(f * -0.5f));
}
template <>
PYGEN_HD double coupling_near_root(double f) {
  return ::exp(0.5 * f);
}

// tanh a and 4 sigmoid(2 a) sigmoid(-2 a), its slope, which keeps its digits where tanh a is 1. Chains are short, as a
// vector waits for the one before it: where 1 - e^(-2 |a|) would cancel a polynomial of a^2 stands beside it.
template <class V>
struct TanhTerms {
  V value, slope;
};
template <class V>
PYGEN_HD TanhTerms<V> tanh_terms(V a) {
  using L = Lanes<V>;
  const V x = L::absolute(a), e = exp_minus(V(x + x)), over = 1.0f / (1.0f + e);
  const V z = a * a;
  const V p = (1.9420951072e-2f * z - 5.3722632444e-2f) * (z * z) + (1.3332348932e-1f * z - 3.3333320998e-1f);
  const V far = L::with_sign(V((1.0f - e) * over), a);
  return {L::select(x < 0.35f, V(p * (z * a) + a), far), (4.0f * e) * (over * over)};
}
template <>
PYGEN_HD TanhTerms<double> tanh_terms(double a) {
  using L = Lanes<double>;
  const ExpTerms<double> terms = exp_terms(L::absolute(a) * -2.0);
  const double over = 1.0 / (terms.em1 + 2.0);
  return {L::with_sign(-terms.em1 * over, a), 4.0 * (terms.root * terms.root) * (over * over)};
}

template <CouplingScale kScale, bool kInverse, class V>
PYGEN_HD CouplingFactor<V> coupling_factor(V s, typename Lanes<V>::Real bound) {
  using L = Lanes<V>;
  using Real = typename L::Real;
  const V one = V{} + Real(1);
  if constexpr (kScale == CouplingScale::None) {
    return {one, one, V{}, V{}};
  } else if constexpr (kScale == CouplingScale::Exp) {
    return {coupling_root(V(kInverse ? -s : s)), one, s, one};
  } else if constexpr (kScale == CouplingScale::Tanh || kScale == CouplingScale::TanhNear) {
    const TanhTerms<V> of = tanh_terms(V(s * (Real(1) / bound)));
    const V f = of.value * bound, own = kInverse ? V(-f) : f;
    const V root = kScale == CouplingScale::Tanh ? coupling_root(own) : coupling_near_root(own);
    return {root, one, f, of.slope};
  } else {
    const V y = s + Real(2);
    const V r = coupling_root(V(-L::absolute(y))), e = r * r, total = e + Real(1);
    const auto negative = y < Real(0);
    const V root = L::select(negative, kInverse ? V(Real(1) / r) : r, one);
    const V below = L::at_most(y, Real(0));
    return {root, kInverse ? total : V(Real(1) / total), below - log1p_positive(e),
            L::select(negative, one, e) / total};
  }
}

template <CouplingScale kScale, bool kInverse, class V>
PYGEN_HD V coupling_value(V x, V t, const CouplingFactor<V>& f) {
  if constexpr (kScale == CouplingScale::None) return kInverse ? V(x - t) : V(x + t);
  const V u = kInverse ? V(x - t) : x;
  const V scaled = u * f.root * f.root * f.rest;
  return kInverse ? scaled : V(scaled + t);
}

// Of the sum g out + grad_log_det log_det, log_det being that of the direction.
template <CouplingScale kScale, bool kInverse, class V>
PYGEN_HD void coupling_gradients(V x, V t, V g, V grad_log_det, const CouplingFactor<V>& f, V& grad_x, V& grad_t,
                                 V& grad_s) {
  grad_x = kScale == CouplingScale::None ? g : V(g * f.root * f.root * f.rest);
  grad_t = kInverse ? V(-grad_x) : g;
  if constexpr (kScale != CouplingScale::None) {
    const V u = kInverse ? V(x - t) : x;
    const V total = (u * f.root) * (g * f.root) * f.rest + grad_log_det;
    grad_s = (kInverse ? V(-total) : total) * f.slope;
  }
}

}  // namespace pygen
