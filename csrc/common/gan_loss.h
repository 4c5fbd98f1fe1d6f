// The arithmetic of one logit of gan_loss, V = float, double or a SIMD vector.
//
// A side's terms are weight * form(y) of y = sign (x - other), x its logit, other 0, the other side's logit or its
// mean:
//   Softplus          sp(y)                 slope sigmoid(y)
//   SmoothedSoftplus  sp(y) - offset y      slope sigmoid(y) - offset       (label smoothing: 0 < offset < 1/2)
//   Hinge             relu(1 + y)           slope 1 where 1 + y > 0         (0 on the tie; NaN stays NaN)
//   Square            (y - offset)^2        slope 2 (y - offset)
//   Linear            y                     slope 1
// pygen/_gan_terms.py has the table of kinds.
#pragma once

#include "common/softplus.h"

namespace pygen {

enum class GanForm : int { Softplus, SmoothedSoftplus, Hinge, Square, Linear };

constexpr bool uses_exp(GanForm form) { return form == GanForm::Softplus || form == GanForm::SmoothedSoftplus; }

template <class V>
PYGEN_HD V relu(V x) {
  return Lanes<V>::at_least(x, 0);
}

// The part of form(y) beside log(1 + exp(-|y|)), which the softplus forms add.
template <GanForm kForm, class V>
PYGEN_HD V gan_plain_part(V y, typename Lanes<V>::Real offset) {
  using Real = typename Lanes<V>::Real;
  if constexpr (kForm == GanForm::Softplus) return relu(y);
  // Two products rather than relu(y) - offset y: that is NaN at infinity.
  if constexpr (kForm == GanForm::SmoothedSoftplus) return relu(y) * (Real(1) - offset) + relu(V(-y)) * offset;
  if constexpr (kForm == GanForm::Hinge) return relu(V(y + Real(1)));
  if constexpr (kForm == GanForm::Square) {
    const V d = y - offset;
    return d * d;
  }
  return y;
}

template <GanForm kForm, class V>
PYGEN_HD V gan_value(V y, typename Lanes<V>::Real offset) {
  const V plain = gan_plain_part<kForm>(y, offset);
  if constexpr (uses_exp(kForm)) return plain + log1p_positive(quick_exp_minus_abs(y));
  return plain;
}

// e = exp(-|y|), for the forms that use it.
template <GanForm kForm, class V>
PYGEN_HD V gan_slope(V y, V e, typename Lanes<V>::Real offset) {
  using Real = typename Lanes<V>::Real;
  if constexpr (kForm == GanForm::Softplus) return quick_sigmoid_of(y, e);
  if constexpr (kForm == GanForm::SmoothedSoftplus) return quick_sigmoid_of(y, e) - offset;
  if constexpr (kForm == GanForm::Hinge) return Lanes<V>::select(y + Real(1) <= Real(0), V{}, V{} + Real(1));
  if constexpr (kForm == GanForm::Square) return (y - offset) * Real(2);
  return V{} + Real(1);
}
template <GanForm kForm, class V>
PYGEN_HD V gan_slope(V y, typename Lanes<V>::Real offset) {
  if constexpr (uses_exp(kForm)) return gan_slope<kForm>(y, quick_exp_minus_abs(y), offset);
  return gan_slope<kForm>(y, V{}, offset);
}

}  // namespace pygen
