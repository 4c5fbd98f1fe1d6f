// The arithmetic of one component and channel of logistic_mixture_nll, V = float, double or a SIMD vector.
//
// A level at v owns the bin v +- h; with s = e^log_scale, u = v - mean and w = 2 h / s its log-probability is
//   log sigma((u + h) / s) + log sigma((h - u) / s) + log(1 - e^-w)    (Salimans et al. 2017),
// of the lowest level the first term alone, of the highest the second. Let t be u of the highest level, -u of the
// lowest and |u| of others, d = (t - h) / s (how far the mean lies beyond the nearer edge), n = e^-|d| and e = e^-w, 0
// in the open bins. What belongs to the far edge is n e outside the bin and e / n inside, so that all of it comes out
// of two exponentials, one logarithm and one division:
//   log p = -max(d, 0) + log((1 - e) q / ((1 + n) r)),    (q, r) = (1, 1 + n e) outside,    (n, n + e) inside
// Nothing cancels, for any mean and scale.
#pragma once

#include "common/quick_exp.h"
#include "common/softplus.h"

namespace pygen {

// e^-y and 1 - e^-y for y >= 0, each with its own digits; e^-y is 0 beyond 87.
template <class V>
PYGEN_HD void decay(V y, V& e, V& one_minus_e) {
  using L = Lanes<V>;
  const V x = L::at_most(y, 87.0f);
  const V shifted = x * -1.44269504088896341f + kRoundMagic;
  const V n = shifted - kRoundMagic;
  const V r = n * -0.69314718055994531f - x;
  const V z = r * r;
  const V high = 1.9875691500e-4f * r + 1.3981999507e-3f;
  const V middle = 8.3334519073e-3f * r + 4.1665795894e-2f;
  const V low = 1.6666665459e-1f * r + 5.0000001201e-1f;
  const V p = ((high * z + middle) * z + low) * z + r;  // e^r - 1
  const V scale = L::power_of_two(shifted, 127);
  e = L::select(y > 87.0f, V{}, V(scale * p + scale));
  one_minus_e = (1.0f - scale) - scale * p;
}
template <>
PYGEN_HD void decay(double y, double& e, double& one_minus_e) {
  e = ::exp(-y);
  one_minus_e = -::expm1(-y);
}

// tanh(c) and its derivative, 4 e / (1 + e)^2 with e = exp(-2|c|).
template <class V>
PYGEN_HD V tanh_of(V c, V& slope) {
  using L = Lanes<V>;
  using Real = typename L::Real;
  V e, rest;
  decay(V(L::absolute(c) * Real(2)), e, rest);
  const V inverse = quick_divide(V(V{} + Real(1)), V(e + Real(1)));
  slope = e * Real(4) * inverse * inverse;
  return L::with_sign(V(rest * inverse), c);
}

// log(x), x > 0; NaN stays.
template <class V>
PYGEN_HD V log_or_nan(V x) {
  return log_positive(x) + (x - x);
}

template <class Real>
struct Least;
template <>
struct Least<float> {
  static constexpr float kEdge = 1e-35f, kWidth = 1e-10f;
  static constexpr double kLogWidth = -23.025850929940457;
};
template <>
struct Least<double> {
  static constexpr double kEdge = 1e-300, kWidth = 1e-30;
  static constexpr double kLogWidth = -69.07755278982137;
};

// Of the bins' width 2 h: half of it, one over it, its logarithm, and that over the narrowest w's, below which 1 - e^-w
// is w.
template <class Real>
struct Bins {
  Real half, inverse, log_width, log_over_least;
  Bins() = default;
  explicit Bins(int num_levels)
      : half(static_cast<Real>(1.0 / (num_levels - 1))),
        inverse(static_cast<Real>(0.5 * (num_levels - 1))),
        log_width(static_cast<Real>(::log(2.0 / (num_levels - 1)))),
        log_over_least(static_cast<Real>(::log(2.0 / (num_levels - 1)) - Least<Real>::kLogWidth)) {}
};

// What of a level all components share. One that is none has v = NaN.
//
// Of inner bins the logarithms are taken of chances over 2 h, and log 2 h is added to the mixture's: smaller numbers
// have more digits behind the point, and those make the components' weights.
template <class V>
struct PixelLevel {
  using Real = typename Lanes<V>::Real;
  V v;                     // in [-1, 1]
  V edge;                  // -1 for the lowest level, 1 for the highest, else 0
  V per_width, log_width;  // 1 / (2 h) and log(2 h); of the open bins 1 and 0
  PYGEN_HD PixelLevel(V v, const Bins<Real>& bins) : v(v) {
    const auto open = Lanes<V>::absolute(v) == Real(1);
    edge = Lanes<V>::select(open, v, V{});
    per_width = Lanes<V>::select(open, V(V{} + Real(1)), V(V{} + bins.inverse));
    log_width = Lanes<V>::select(open, V{}, V(V{} + bins.log_width));
  }
  PixelLevel() = default;
};

template <class V>
struct Logistic {
  V log_p;                  // less the level's log_width
  V to_mean, to_log_scale;  // the derivatives of -log_p
};

template <bool kGrad, class V>
PYGEN_HD Logistic<V> discretised_logistic(const PixelLevel<V>& x, V mean, V log_scale,
                                          const Bins<typename Lanes<V>::Real>& bins) {
  using L = Lanes<V>;
  using Real = typename L::Real;
  const V inverse = quick_exp_terms<true>(V(log_scale * Real(-2))).root;
  const V away = x.v - mean;
  const auto inner = x.edge == Real(0);
  const V side = L::select(inner, L::with_sign(V(V{} + Real(1)), away), x.edge);
  const V distance = away * side;
  const V beyond = (distance - bins.half) * inverse;  // the difference of two large products would be their rounding
  const auto inside = beyond < Real(0);
  const V near = L::at_least(quick_exp_minus_abs(beyond), Least<Real>::kEdge);  // so that near / (near + 0) is 1
  const V width = L::select(inner, V(inverse * (bins.half * Real(2))), V(V{} + Real(1000)));
  const V wide = L::at_least(width, Least<Real>::kWidth);
  V e, mass;
  decay(wide, e, mass);
  const V q = L::select(inside, near, V(V{} + Real(1)));
  const V r = L::select(inside, V(near + e), V(near * e + Real(1)));
  const V both = (near + Real(1)) * r;
  const V less = L::select(width < Least<Real>::kWidth, V(bins.log_over_least - log_scale), V{});
  const V over = quick_divide(V(V{} + Real(1)),
                              V(both * mass));  // which the gradient needs, and without one the loss has the same bits
  Logistic<V> out;
  out.log_p = quick_log(V(mass * q * (mass * over) * x.per_width)) + less - positive_part(beyond);
  out.to_mean = out.to_log_scale = V{};
  if constexpr (kGrad) {
    const V by_near = (q * over) * (r * mass);  // sigma(d), and of the far edge
    // Not near * e: were that product used twice, r would no longer be one multiply-add, and the loss other bits.
    const V by_far = L::select(inside, V(V{} + Real(1)), near) * (e * ((near + Real(1)) * mass * over));
    out.to_mean = inverse * side * (by_far - by_near);
    out.to_log_scale = (distance + bins.half) * inverse * by_far - beyond * by_near + wide * e * (both * over);
  }
  return out;
}

}  // namespace pygen
