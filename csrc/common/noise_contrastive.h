// The terms of a noise-contrastive loss at a score s, V = float, double or a SIMD vector:
//
//   a negative's   softplus(s),    slope sigmoid(s)        the target's   softplus(-s),    slope -sigmoid(-s)
// A negative that is left out has the score -inf: loss and slope 0, exactly.
#pragma once

#include "common/softplus.h"

namespace pygen {

enum class Contrast : int { Logistic, Softmax };

template <class V>
struct ContrastTerm {
  V loss, slope;
};

template <class V>
PYGEN_HD ContrastTerm<V> negative_term(V s) {
  const V e = exp_minus_abs(s);
  return {V(positive_part(s) + log1p_positive(e)), sigmoid_of(s, e)};
}

}  // namespace pygen
