// What becomes of a tile of rational_quadratic_spline: places side by side, by vectors. Formulas:
// common/rational_quadratic_spline.h.
#pragma once

#include <type_traits>

#include "common/rational_quadratic_spline.h"
#include "cpu/rational_quadratic_spline_tile.h"
#include "cpu/registers.h"

namespace pygen {
inline namespace PYGEN_ISA {

// Each [kTile], or [numbers, kTile] with rows `stride` apart; e [2 bins] vectors.
template <class Real>
struct SplineTile {
  const Real *v, *params;
  int64_t stride;
  const Real *g, *g_log;
  Real *out, *log, *grad_params, *e;
};

// The exponentials of both axes; share[axis] becomes what a bin's e is multiplied by.
template <class V, class Real>
PYGEN_INLINE void spline_exponentials(const SplineTile<Real>& tile, int64_t i, int bins, V (&share)[2]) {
  using L = Lanes<V>;
  for (int axis = 0; axis < 2; ++axis) {
    const Real* a = tile.params + axis * bins * tile.stride + i;
    V most = load<V>(a), sum{};
    for (int k = 1; k < bins; ++k) {
      const V other = load<V>(a + k * tile.stride);
      most = L::select(other > most, other, most);
    }
    Real* e = tile.e + axis * bins * (sizeof(V) / sizeof(Real));
    for (int k = 0; k < bins; ++k) {
      const V term = exp_minus(V(most - load<V>(a + k * tile.stride)));
      store(e + k * (sizeof(V) / sizeof(Real)), term);
      sum += term;
    }
    share[axis] = share[axis] / sum;
  }
}

template <bool kInverse, bool kBackward, class Real>
__attribute__((noinline)) void spline_tile(const SplineTile<Real>& tile, const SplineConstants<Real>& c, int64_t n) {
  using V = std::conditional_t<std::is_same_v<Real, float>, VecF, Real>;
  using L = Lanes<V>;
  constexpr int64_t kWidth = sizeof(V) / sizeof(Real);
  const int bins = c.bins, slopes = c.linear ? bins - 1 : bins + 1;
  for (int64_t i = 0; i < n; i += kWidth) {
    const V v = load<V>(tile.v + i);
    V share[2] = {V{} + c.share[0], V{} + c.share[1]};
    spline_exponentials<V>(tile, i, bins, share);
    const auto e = [&](int axis, int k) PYGEN_INLINE_LAMBDA { return load<V>(tile.e + (axis * bins + k) * kWidth); };
    const Real* raw = tile.params + 2 * bins * tile.stride + i;
    const auto bin =
        spline_bin<kInverse>(v, share, c, e, [&](int j) PYGEN_INLINE_LAMBDA { return load<V>(raw + j * tile.stride); });
    const auto place = spline_place<kInverse>(v, bin, share, c);
    const auto inside = spline_inside(v, c);
    if constexpr (kBackward) {
      const V g = load<V>(tile.g + i);
      const auto grads = spline_gradients<kInverse>(place, g, load<V>(tile.g_log + i));
      store(tile.out + i, L::select(inside, grads.input, c.linear ? g : V{}));
      Real* to = tile.grad_params + i;
      for (int axis = 0; axis < 2; ++axis) {
        const auto by = spline_logits(grads, bin, axis, V(share[axis] * (Real(1) / c.share[axis])));
        for (int k = 0; k < bins; ++k, to += kTile) {
          const V at = V{} + static_cast<Real>(k);
          const V mine = L::select(at < bin.index, by.before, L::select(at > bin.index, by.after, by.own));
          store(to, L::select(inside, V(share[axis] * e(axis, k) * mine), V{}));
        }
      }
      const V first = bin.index - (c.linear ? Real(1) : Real(0));
      for (int j = 0; j < slopes; ++j, to += kTile) {
        const V mine = L::select(first == static_cast<Real>(j), grads.raw0,
                                 L::select(first + Real(1) == static_cast<Real>(j), grads.raw1, V{}));
        store(to, L::select(inside, mine, V{}));
      }
    } else {
      V out, log;
      spline_value<kInverse>(bin, place, c, out, log);
      const V nan = V{} + static_cast<Real>(__builtin_nan("")), other = c.linear ? v : nan;
      store(tile.out + i, L::select(inside, out, other));
      store(tile.log + i, L::select(inside, log, L::select(other == other, V{}, nan)));
    }
  }
}

}  // namespace PYGEN_ISA
}  // namespace pygen
