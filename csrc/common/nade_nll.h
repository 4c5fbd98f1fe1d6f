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

// Its slope. What the gradient g of a logit adds to that of a is g v slope, v being the output weight.
template <class V>
PYGEN_HD V nade_slope(V h) {
  return h * (1.0f - h);
}

}  // namespace pygen
