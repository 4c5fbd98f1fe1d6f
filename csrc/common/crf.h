// What the linear-chain CRF's kernels share. The formulas stand in pygen/reference/crf.py; kernels sum over tags in one
// of two ways, the same one for all sequences of a call.
//
// Scaled: a state is p = e^a, and a step a product with P[i, j] = e^(A[i, j] - top), K^2 multiplications, and K
// exponentials:
//   q[j] = sum_i p[i] P[i, j],    p'[j] = q[j] e^(e[j] - M),    M near max_j (log q[j] + e[j]), so that max p' is
//   near 1.
// A tag that underflows there has less than e^-87 of the largest one's weight. What is still to come depends on the tag
// by e^(range of A, or of end) at most, so where that range is finite and at most kScaledRange, it could not have come
// to e^-47 of Z: nothing is lost. P and q are at least e^-40, and e^(e - M) at most e^41.
// Backwards v is not a logarithm either: p(y_t = j) = p_t[j] v_t[j], u_t = v_t e^(e_t - M_t), v_(t-1)[i] = sum_j P[i,
// j] u_t[j], and the transitions' gradient is P[i, j] sum_t p_(t-1)[i] u_t[j]: no exponential that forward has not
// made.
//
// By logarithms: otherwise, as of transitions that are -inf or -1e4: K^2 exponentials a step.
#pragma once

#include "common/softplus.h"

namespace pygen {

template <class Real>
constexpr Real kScaledRange = 40;
template <>
constexpr double kScaledRange<double> = 400;

// Within 0.06 above of log q, q normal or 0, of which it is -88: enough to choose a scale by.
template <class V>
PYGEN_HD V rough_log(V q) {
  using L = Lanes<V>;
  return L::to_real(L::bits(q) - 0x3f800000) * 8.26295829e-8f;  // ln 2 / 2^23
}
template <>
PYGEN_HD double rough_log(double q) {
  return ::log(q);
}

// log of a sum of exponentials: -inf of none, NaN of NaN, which log_positive would make a number of.
template <class V>
PYGEN_HD V crf_log(V sum) {
  using L = Lanes<V>;
  using Real = typename L::Real;
  return L::select(sum == Real(0), V{} - static_cast<Real>(INFINITY), V(log_positive(sum) + (sum - sum)));
}

// e^(-x) where x is M - e.
template <class V>
PYGEN_HD V crf_factor(V x) {
  return exp_minus(V(Lanes<V>::at_least(x, -60.0f)));  // lower where all q are 0
}
template <>
PYGEN_HD double crf_factor(double x) {
  return ::exp(-(x < -600 ? -600 : x));
}

}  // namespace pygen
