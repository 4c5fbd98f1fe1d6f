// What a thread holds of categorical_nll: a tile of logits, and what it knows of the units that they belong to.
#pragma once

#include <algorithm>

#include "cpu/categorical_nll_units.h"
#include "cpu/softmax_row.h"
#include "cpu/thread_memory.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kUnits = 128, kFewUnits = 16;  // of a block; few, where each has many levels

template <class Real>
struct Scratch {
  alignas(64) Real tile[kTile];
  alignas(64) Real nll[kUnits + 64];
  alignas(64) Real level[64], drawn[64], upstream[64];  // of a stripe
};
template <class Real>
Scratch<Real>& scratch() {
  return of_thread<Scratch<Real>>();
}

template <class Real, class Level>
PYGEN_INLINE void widen_levels(const Level* in, int64_t step, int64_t count, Real* out) {
  if (step == 1) {
    for (int64_t i = 0; i < count; ++i) out[i] = static_cast<Real>(in[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = static_cast<Real>(in[i * step]);
  }
}

// Levels as numbers, which are exact up to the largest that is one, and upstream gradients.
template <class Real>
PYGEN_INLINE void read_levels(const CategoricalNll& p, const Units& units, int64_t unit, int64_t count,
                              Scratch<Real>& s) {
  const int64_t at = units.offset(units.x, unit), per_image = p.channels * p.positions;
  if (p.wide_levels) {
    widen_levels(static_cast<const int64_t*>(p.x.data) + at, units.x.inner, count, s.level);
  } else {
    widen_levels(static_cast<const uint8_t*>(p.x.data) + at, units.x.inner, count, s.level);
  }
  if (!p.grad_logits.data) return;
  const Real* g = static_cast<const Real*>(p.grad_nll);
  if (!g || p.reduce) {
    std::fill_n(s.upstream, 64, g ? *g : Real(1));
  } else {
    for (int64_t i = 0; i < count; ++i) s.upstream[i] = g[(unit + i) / per_image * p.grad_nll_stride];
  }
}

// The drawn logits among levels [first, first + rows), which lie in rows of `pitch` numbers.
template <class Real>
PYGEN_INLINE void find_drawn(int64_t first, int64_t rows, int64_t pitch, int64_t count, Scratch<Real>& s) {
  for (int64_t i = 0; i < count; ++i) {
    const Real j = s.level[i] - static_cast<Real>(first);
    if (j > Real(-1) && j < static_cast<Real>(rows)) s.drawn[i] = s.tile[static_cast<int64_t>(j) * pitch + i];
  }
}

}  // namespace
}  // namespace PYGEN_ISA
}  // namespace pygen
