// -log p of x in {0, 1} under a logit l, its cross entropy for x between, and what l adds to its gradient. V = float,
// double or a SIMD vector; e = exp(-|l|).
//
//   softplus(l) - x l = |l| w + log(1 + e),   w = l < 0 ? x : 1 - x, what of x stands on the wrong side
//   sigmoid(l) - x    = (l < 0 ? (1 - x) e - x : (1 - x) - x e) / (1 + e)
// With x in {0, 1} nothing cancels: both keep their digits however large l is, and are exact at infinity.
#pragma once

#include "common/softplus.h"

namespace pygen {

// x where l < 0, else y; of NaN and of zeros either.
template <class V>
PYGEN_HD V where_negative(V l, V x, V y) {
  using L = Lanes<V>;
  return L::select_top_bit(L::bits(l), x, y);
}
template <>
PYGEN_HD double where_negative(double l, double x, double y) {
  return l < 0 ? x : y;
}

// The loss less log(1 + e): of a share of nothing also at infinity. The product comes last: added to a sum, it is one
// multiply-add in every loop, or in none, however they are optimised.
template <class V>
PYGEN_HD V bernoulli_plain_part(V l, V x) {
  using L = Lanes<V>;
  using Real = typename L::Real;
  const V wrong = where_negative(l, x, V(Real(1) - x));
  return L::absolute(L::select(wrong == Real(0), V{}, l)) * wrong;
}

template <class V>
PYGEN_HD V bernoulli_slope(V l, V x, V e) {
  using Real = typename Lanes<V>::Real;
  const V rest = Real(1) - x;
  return divide_tame(where_negative(l, V(rest * e - x), V(rest - x * e)), V(e + Real(1)));
}

// What an integer says of x: NaN of neither 0 nor 1.
template <class Real, class Level>
PYGEN_HD Real bernoulli_target(Level level) {
  return level == 0 ? Real(0) : level == 1 ? Real(1) : static_cast<Real>(NAN);
}

}  // namespace pygen
