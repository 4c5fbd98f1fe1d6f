// The gate of Gated PixelCNN for one pair of numbers, V = float, double or a SIMD vector: tanh(a) sigmoid(b).
// With m = exp(-2|a|) - 1 and e = exp(-|b|):
//   tanh |a| = -m / (2 + m)        sigmoid(b) = (b < 0 ? e : 1) / (1 + e)        one division for both
// Nothing cancels: tanh keeps its digits near 0, both slopes in the tails.
#pragma once

#include "common/softplus.h"

namespace pygen {

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
  g.exp_minus_b = exp_minus_abs(b);
  g.sigmoid = sigmoid_numerator(b, g.exp_minus_b);
  g.sigmoid_over = g.exp_minus_b + 1.0f;
  return g;
}

template <class V>
PYGEN_HD V gate_value(V a, V b) {
  const Gate<V> g = gate_parts(a, b);
  return g.tanh * g.sigmoid / (g.tanh_over * g.sigmoid_over);
}

// Derivatives of the gate by a and b, times `grad`.
template <class V>
PYGEN_HD void gate_gradients(V a, V b, V grad, V& grad_a, V& grad_b) {
  const Gate<V> g = gate_parts(a, b);
  const V over = 1.0f / (g.tanh_over * g.sigmoid_over);
  const V both = grad * over * over;
  grad_a = both * (g.sigmoid * g.sigmoid_over) * (g.exp_minus_2a * 4.0f);  // 1 - tanh^2 = 4 exp(-2|a|) / (2 + m)^2
  grad_b = both * (g.tanh * g.tanh_over) * g.exp_minus_b;                  // e / (1 + e)^2
}

}  // namespace pygen
