// One value drawn from a discretised logistic, V = float, double or a SIMD vector: the logistic's quantile of u, and
// the level in whose bin it lies. Level x of 0 .. L-1 stands at 2 x / (L - 1) - 1 and owns 1 / (L - 1) to either side,
// the outer two bins all that is left: what comes has the chances of logistic_mixture_nll.h, with no bisection.
#pragma once

#include "common/logistic_mixture_nll.h"

namespace pygen {

// To the nearest whole number, |x| < 2^22.
template <class V>
PYGEN_HD V nearest_whole(V x) {
  return (x + kRoundMagic) - kRoundMagic;
}
template <>
PYGEN_HD double nearest_whole(double x) {
  return ::rint(x);
}

// log(u / (1 - u)), u in (0, 1]; float32 numbers next to 1 lie 2^-24 apart, and 1 itself counts as the half of that.
template <class V>
PYGEN_HD V logit_of_uniform(V u) {
  using L = Lanes<V>;
  using Real = typename L::Real;
  return log_positive(V(u / L::at_least(V(V{} + Real(1) - u), Real(0x1p-25f))));
}

// The level as a number; NaN gives 0.
template <class V>
PYGEN_HD V logistic_level(V mean, V log_scale, V u, typename Lanes<V>::Real last) {
  using L = Lanes<V>;
  using Real = typename L::Real;
  const V value = mean + exp_terms(V(log_scale * Real(2))).root * logit_of_uniform(u);
  const V place = L::at_most(L::at_least(V((value + Real(1)) * (Real(0.5) * last)), Real(0)), last);
  return L::select(place == place, nearest_whole(place), V{});
}

// In [-1, 1], as the later channels see it.
template <class V>
PYGEN_HD V scaled_level_of(V level, typename Lanes<V>::Real last) {
  return (level * typename Lanes<V>::Real(2) - last) / (V{} + last);
}

}  // namespace pygen
