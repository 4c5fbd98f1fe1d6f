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

enum class CouplingScale : int { None, Exp, Tanh, Sigmoid };

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

// e^(f / 2)
template <class V>
PYGEN_HD V coupling_root(V f) {
  using L = Lanes<V>;
  return exp_terms(V(L::at_least(V(L::at_most(f, 176.0f)), -176.0f))).root;
}
template <>
PYGEN_HD double coupling_root(double f) {
  using L = Lanes<double>;
  return ::exp(0.5 * L::at_least(L::at_most(f, 1416.0), -1416.0));
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
  } else if constexpr (kScale == CouplingScale::Tanh) {
    const V a = s / bound;
    const ExpTerms<V> terms = exp_terms(V(L::absolute(a) * Real(-2)));
    const V over = Real(1) / (terms.em1 + Real(2));
    const V f = L::with_sign(V(-terms.em1 * over), a) * bound;
    return {coupling_root(V(kInverse ? -f : f)), one, f, Real(4) * (terms.root * terms.root) * (over * over)};
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
