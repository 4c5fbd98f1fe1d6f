// One draw of bernoulli_sample: 1 where the chance of 0 does not reach u, as two levels of categorical_sample with
// logits 0 and y have it. Both sides are multiplied by 1 + e^-|y|, and u by what is added on the left, so that nothing
// cancels:
//   1 / (1 + e^y) < u   <=>   e^-y (1 - u) < u   <=>   1 - u < u e^y
#pragma once

#include "common/softplus.h"

namespace pygen {

// 1 or 0; NaN gives 0. u: in (0, 1].
template <class V>
PYGEN_HD V bernoulli_draw(V y, V u) {
  using L = Lanes<V>;
  using Real = typename L::Real;
  const V e = exp_minus_abs(y), one = V{} + Real(1), rest = one - u;
  const auto rare = y < Real(0);
  const V zero_side = L::select(rare, rest, V(e * rest)), one_side = L::select(rare, V(u * e), u);
  return L::select(zero_side < one_side, one, V{});
}

}  // namespace pygen
