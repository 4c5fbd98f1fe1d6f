// The arithmetic of one block of logits l of categorical_nll, V = float, double or a SIMD vector of blocks.
//
//   -log p(x) = log sum_j e^(l_j) - l_x = (top - l_x) + log(sum_j e^(l_j - top)),    d / d l_j = p_j - [j = x]
// The drawn level's term is kept out of the sum over the others: where it is the largest, the loss is log(1 + others),
// and its slope is minus the others' probability, so that a level all but certain keeps the digits of both.
#pragma once

#include "common/softplus.h"

namespace pygen {

template <class V>
struct Categorical {
  V nll;
  V inverse;  // of the sum over all levels, that is 1 / sum_j e^(l_j - top)
};

// top: the largest logit, at least the lowest finite number; drawn: l_x, NaN where x is no level; others: the sum of
// e^(l_j - top) over j other than x.
template <class V>
PYGEN_HD Categorical<V> categorical(V top, V drawn, V others) {
  using L = Lanes<V>;
  using Real = typename L::Real;
  const V own = exp_minus_abs(V(drawn - top)), total = others + own;
  const V beyond = L::select(drawn == top, others, V((others - Real(1)) + own));  // total - 1
  // Of total 0 there is no level at all, and log1p_positive(-1) is 0 / 0.
  return {(top - drawn) + log1p_positive(beyond), Real(1) / total};
}

}  // namespace pygen
