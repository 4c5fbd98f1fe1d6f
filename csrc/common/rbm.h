// The arithmetic of one unit of a restricted Boltzmann machine, V = float, double or a SIMD vector of units.
//
//   a unit is 1 where u <= sigmoid(y) = n / (1 + e), e = exp(-|y|), n = 1 or e: where u (1 + e) <= n, without a
//   division
// Of NaN it is 0. u: word unit % 4 of the Philox counter (unit / 4, half step, image, domain).
#pragma once

#include "common/softplus.h"

namespace pygen {

// Not zero where the unit is 1.
template <class V>
PYGEN_HD auto rbm_unit(V y, V u) {
  const V e = exp_minus_abs(y);
  return u * (1.0f + e) <= sigmoid_numerator(y, e);
}

// The low and the high half of the counter's first two words.
PYGEN_HD uint64_t rbm_counter(int64_t unit, uint32_t half) {
  return (static_cast<uint64_t>(half) << 32) + static_cast<uint64_t>(unit) / 4;
}

}  // namespace pygen
