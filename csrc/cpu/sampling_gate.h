// What is taken of sums pixel by pixel: gates, LSTMs, and elu of what convolutions and gates made.
#pragma once

#include "common/elu.h"
#include "common/pixel_lstm.h"
#include "cpu/sampling_tile.h"

namespace pygen {
inline namespace PYGEN_ISA {

template <class Real>
using SamplingVector = std::conditional_t<std::is_same_v<Real, float>, VecF, double>;

// Where the forms of some of a pixel's channels go; nullptr: nowhere. concat_elu's second half begins `width` behind.
template <class Real>
struct SamplingForms {
  Real *raw, *rectified, *elu, *concat_elu;
  int64_t width;

  // places: of a stream's forms, `width` numbers a pixel.
  PYGEN_INLINE SamplingForms(const SamplingPlace<Real>* places, int64_t width, int64_t m, int64_t r) : width(width) {
    const auto at = [&](int form) PYGEN_INLINE_LAMBDA { return places[form].base ? places[form].at(m, r) : nullptr; };
    raw = at(kRaw);
    rectified = at(kRectified);
    elu = at(kElu);
    concat_elu = at(kConcatElu);
  }

  template <class V>
  PYGEN_INLINE void put_elu(int64_t at, V value) const {
    V of_value, of_negative;
    elu_of_both_signs(value, of_value, of_negative);
    if (elu) store(elu + at, of_value);
    if (concat_elu) {
      store(concat_elu + at, of_value);
      store(concat_elu + width + at, of_negative);
    }
  }
  template <class V>
  PYGEN_INLINE void put(int64_t at, V value) const {
    if (raw) store(raw + at, value);
    if (rectified) store(rectified + at, V(Lanes<V>::at_least(value, 0)));
    if (elu || concat_elu) put_elu(at, value);
  }
};

// Sums stay finite as long as all numbers seen are: NaN and what lies beyond the square root of the largest number make
// them NaN.
template <class Real>
struct SamplingTameness {
  using V = SamplingVector<Real>;
  static constexpr int64_t kN = sizeof(V) / sizeof(Real);
  static constexpr Real kScale = sizeof(Real) == 4 ? Real(0x1p80) : Real(0x1p976);  // beyond 2^48 it makes infinities
  Real sums[kN] = {};

  static PYGEN_INLINE V seen(V value) { return value * kScale * Real(0); }
  PYGEN_INLINE void add(V sum) { store(sums, V(load<V>(sums) + sum)); }
  bool tame() const {
    for (Real sum : sums)
      if (!(sum == 0)) return false;
    return true;
  }
};

// Elu of a pixel's numbers, which lie in the raw form, or else where elu goes.
template <class Real>
void elu_run(const SamplingForms<Real>& forms, int64_t width, SamplingTameness<Real>* tameness) {
  using V = SamplingVector<Real>;
  const Real* in = forms.raw ? forms.raw : forms.elu ? forms.elu : forms.concat_elu;
  V seen{};
  for (int64_t i = 0; i < width; i += SamplingTameness<Real>::kN) {
    const V value = load<V>(in + i);
    seen += SamplingTameness<Real>::seen(value);
    forms.put_elu(i, value);
  }
  if (tameness) tameness->add(seen);
}

// `pitch` numbers a, as many b behind them. cond: like them, added: like the result, where not nullptr.
template <bool kLinear, class Real>
void gate_run(const Real* in, const Real* cond, const Real* added, int64_t pitch, const SamplingForms<Real>& forms,
              int64_t at, SamplingTameness<Real>* tameness) {
  using V = SamplingVector<Real>;
  V seen{};
  for (int64_t i = 0; i < pitch; i += SamplingTameness<Real>::kN) {
    V a = load<V>(in + i), b = load<V>(in + pitch + i);
    if (cond) {
      a += load<V>(cond + i);
      b += load<V>(cond + pitch + i);
    }
    V value = kLinear ? linear_gate_value(a, b) : gate_value(a, b);
    if (added) value += load<V>(added + at + i);
    if (tameness) seen += SamplingTameness<Real>::seen(value);
    forms.put(at + i, value);
  }
  if (tameness) tameness->add(seen);
}

// `pitch` numbers of each gate o, f, i, g; c: of the pixel before, and then of this one. added: like the result, which
// goes to `sums` with it; may be nullptr.
template <class Real>
void lstm_run(const Real* in, Real* c, bool first, const Real* added, int64_t pitch, const SamplingForms<Real>& forms,
              const SamplingForms<Real>& sums, int64_t at) {
  using V = SamplingVector<Real>;
  for (int64_t i = 0; i < pitch; i += SamplingTameness<Real>::kN) {
    const auto sum = [&](int64_t gate) PYGEN_INLINE_LAMBDA { return load<V>(in + gate * pitch + i); };
    LstmUnit<V> u{sum(0), sum(1), sum(2), sum(3), V{}};
    const V h = lstm_step(u, first ? V{} : load<V>(c + i));
    store(c + i, u.c);
    forms.put(at + i, h);
    if (added) sums.put(at + i, V(h + load<V>(added + at + i)));
  }
}

}  // namespace PYGEN_ISA
}  // namespace pygen
