// The arithmetic of one hidden unit of NADE, V = float, double or a SIMD vector of units.
//
//   h = sigmoid(a),    d logit / d output_weight = h,    d logit / d a = output_weight h (1 - h)
#pragma once

#include "common/softplus.h"

namespace pygen {

template <class V>
PYGEN_HD V nade_unit(V a) {
  return sigmoid_of(a, exp_minus_abs(a));
}

// What the gradient g of a logit adds to that of a, v being the output weight.
template <class V, class G>
PYGEN_HD V nade_slope(G g, V v, V h) {
  return g * v * (h * (1.0f - h));
}

}  // namespace pygen
