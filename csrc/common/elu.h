// elu(x) = x for x > 0, else exp(x) - 1, of a number and of its negative, out of one exponential: concat_elu of
// PixelCNN++. V = float, double or a SIMD vector. NaN goes through.
#pragma once

#include "common/gated_activation.h"

namespace pygen {

template <class V>
PYGEN_HD void elu_of_both_signs(V x, V& of_x, V& of_minus_x) {
  using L = Lanes<V>;
  const V below = expm1_minus(V(L::absolute(x)));  // exp(-|x|) - 1
  const auto above = x > V{};
  of_x = L::select(above, x, below);
  of_minus_x = L::select(above, below, V(-x));
}

// a sigmoid(b), the gate of PixelCNN++.
template <class V>
PYGEN_HD V linear_gate_value(V a, V b) {
  const V e = exp_minus_abs(b);
  return divide_tame(V(a * sigmoid_numerator(b, e)), V(e + 1.0f));
}

}  // namespace pygen
