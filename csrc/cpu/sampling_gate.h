// What is taken of sums pixel by pixel: gates, and elu of what convolutions and gates made.
#pragma once

#include "common/elu.h"
#include "cpu/sampling_tile.h"

namespace pygen {
inline namespace PYGEN_ISA {

template <class Real>
using SamplingVector = std::conditional_t<std::is_same_v<Real, float>, VecF, double>;

// Where the forms of some of a pixel's channels go; nullptr: nowhere. `negative` is the second half of concat_elu.
template <class Real>
struct SamplingForms {
  Real *raw = nullptr, *rectified = nullptr, *elu = nullptr, *positive = nullptr, *negative = nullptr;

  // places: of a stream's forms, `width` numbers a pixel.
  SamplingForms(const SamplingPlace<Real>* places, int64_t width, int64_t m, int64_t r) {
    const auto at = [&](int form) { return places[form].base ? places[form].at(m, r) : nullptr; };
    raw = at(kRaw);
    rectified = at(kRectified);
    elu = at(kElu);
    positive = at(kConcatElu);
    negative = positive ? positive + width : nullptr;
  }

  template <class V>
  PYGEN_INLINE void put_elu(int64_t at, V value) const {
    V of_value, of_negative;
    elu_of_both_signs(value, of_value, of_negative);
    if (elu) store(elu + at, of_value);
    if (positive) {
      store(positive + at, of_value);
      store(negative + at, of_negative);
    }
  }
  template <class V>
  PYGEN_INLINE void put(int64_t at, V value) const {
    if (raw) store(raw + at, value);
    if (rectified) store(rectified + at, V(Lanes<V>::at_least(value, 0)));
    if (elu || positive) put_elu(at, value);
  }
};

// Elu of a pixel's numbers, which lie in the raw form, or else where elu goes.
template <class Real>
void elu_run(const SamplingForms<Real>& forms, int64_t width) {
  using V = SamplingVector<Real>;
  const Real* in = forms.raw ? forms.raw : forms.elu ? forms.elu : forms.positive;
  for (int64_t i = 0; i < width; i += static_cast<int64_t>(sizeof(V) / sizeof(Real))) forms.put_elu(i, load<V>(in + i));
}

// `pitch` numbers a, as many b behind them. cond: like them, added: like the result, where not nullptr.
template <bool kLinear, class Real>
void gate_run(const Real* in, const Real* cond, const Real* added, int64_t pitch, const SamplingForms<Real>& forms,
              int64_t at) {
  using V = SamplingVector<Real>;
  for (int64_t i = 0; i < pitch; i += static_cast<int64_t>(sizeof(V) / sizeof(Real))) {
    V a = load<V>(in + i), b = load<V>(in + pitch + i);
    if (cond) {
      a += load<V>(cond + i);
      b += load<V>(cond + pitch + i);
    }
    V value = kLinear ? linear_gate_value(a, b) : gate_value(a, b);
    if (added) value += load<V>(added + at + i);
    forms.put(at + i, value);
  }
}

}  // namespace PYGEN_ISA
}  // namespace pygen
