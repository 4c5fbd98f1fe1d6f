// The gate of Gated PixelCNN for one pair of numbers, V = float, double or a SIMD vector: tanh(a) sigmoid(b).
// With m = exp(-2|a|) - 1 and e = exp(-|b|):
//   tanh |a| = -m / (2 + m)        sigmoid(b) = (b < 0 ? e : 1) / (1 + e)        one division for both
// Nothing cancels: tanh keeps its digits near 0, both slopes in the tails.
#pragma once

#include "common/softplus.h"

namespace pygen {

// exp(-y) - 1, y >= 0, within 2 ulp; -1 beyond 40.
template <class V>
PYGEN_HD V expm1_minus(V y) {
  using L = Lanes<V>;
  const V x = L::at_most(y, 40.0f);
  const V shifted = x * -1.44269504088896341f + kRoundMagic;
  const V n = shifted - kRoundMagic;
  const V r = n * -0.69314718055994531f - x;
  const V z = r * r;
  const V high = 1.9875691500e-4f * r + 1.3981999507e-3f;
  const V middle = 8.3334519073e-3f * r + 4.1665795894e-2f;
  const V low = 1.6666665459e-1f * r + 5.0000001201e-1f;
  const V p = ((high * z + middle) * z + low) * z + r;  // exp(r) - 1
  const V scale = L::power_of_two(shifted, 127);
  return scale * p + (scale - 1.0f);
}
template <>
PYGEN_HD double expm1_minus(double y) {
  return ::expm1(-y);
}

template <class V>
struct Gate {
  V tanh, tanh_over, exp_minus_2a;       // numerator (signed), denominator, exp(-2|a|)
  V sigmoid, sigmoid_over, exp_minus_b;  // numerator, denominator, exp(-|b|)
};

template <class V>
PYGEN_HD Gate<V> gate_parts(V a, V b) {
  using L = Lanes<V>;
  const V x = L::absolute(a) * -2.0f;
  const ExpTerms<V> terms = exp_terms(x);
  Gate<V> g;
  g.tanh = L::with_sign(V(-terms.em1), a);
  g.tanh_over = terms.em1 + 2.0f;
  g.exp_minus_2a = terms.root * terms.root;
  g.exp_minus_b = quick_exp_minus_abs(b);
  g.sigmoid = sigmoid_numerator(b, g.exp_minus_b);
  g.sigmoid_over = g.exp_minus_b + 1.0f;
  return g;
}

template <class V>
PYGEN_HD V gate_value(V a, V b) {
  using L = Lanes<V>;
  const V m = expm1_minus(V(L::absolute(a) * 2.0f));
  const V e = quick_exp_minus_abs(b);
  return quick_divide(V(L::with_sign(V(-m), a) * sigmoid_numerator(b, e)), V((m + 2.0f) * (e + 1.0f)));
}

// Derivatives of the gate by a and b, times `grad`.
template <class V>
PYGEN_HD void gate_gradients(V a, V b, V grad, V& grad_a, V& grad_b) {
  const Gate<V> g = gate_parts(a, b);
  const V over = quick_divide(V(V{} + 1.0f), V(g.tanh_over * g.sigmoid_over));
  const V both = grad * over * over;
  grad_a = both * (g.sigmoid * g.sigmoid_over) * (g.exp_minus_2a * 4.0f);  // 1 - tanh^2 = 4 exp(-2|a|) / (2 + m)^2
  grad_b = both * (g.tanh * g.tanh_over) * g.exp_minus_b;                  // e / (1 + e)^2
}

}  // namespace pygen
