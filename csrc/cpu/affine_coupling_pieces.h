// affine_coupling over runs of memory: one function for each scale, direction and kind of mask.
#pragma once

#include "common/affine_coupling.h"
#include "cpu/affine_coupling.h"
#include "cpu/block_io.h"

namespace pygen {
inline namespace PYGEN_ISA {

// n places, each pointer to a run of S: what memory holds, or Real, what is computed with.
template <class S, class Real>
struct Piece {
  const S *x, *t, *s, *grad;
  const Real* grad_log_det;
  const Real* live;  // 1 where a place is transformed, else 0; null: all are
  S *out, *grad_t, *grad_s;
  Real* log;
  Real bound;
};

template <class S, class Real, CouplingScale kScale, bool kInverse, bool kParity>
void forward_piece(const Piece<S, Real>& b, int64_t n) {
  constexpr bool kAffine = kScale != CouplingScale::None;
  for_each_vector<Real>(n, [&](int64_t i, auto zero) PYGEN_INLINE_LAMBDA {
    using V = decltype(zero);
    const V x = load_as<V>(b.x + i), s = kAffine ? load_as<V>(b.s + i) : V{};
    const auto f = coupling_factor<kScale, kInverse>(s, b.bound);
    V out = coupling_value<kScale, kInverse>(x, load_as<V>(b.t + i), f), log = kInverse ? V(-f.log) : f.log;
    if constexpr (kParity) {
      const auto live = load<V>(b.live + i) != Real(0);
      out = Lanes<V>::select(live, out, x);
      log = Lanes<V>::select(live, log, V{});
    }
    store_as(b.out + i, out);
    if constexpr (kAffine) store(b.log + i, log);
  });
}

template <class S, class Real, CouplingScale kScale, bool kInverse, bool kParity>
void backward_piece(const Piece<S, Real>& b, int64_t n) {
  constexpr bool kAffine = kScale != CouplingScale::None;
  for_each_vector<Real>(n, [&](int64_t i, auto zero) PYGEN_INLINE_LAMBDA {
    using V = decltype(zero);
    const auto read = [&](const auto* p, bool wanted) PYGEN_INLINE_LAMBDA { return wanted ? load_as<V>(p + i) : V{}; };
    const V g = load_as<V>(b.grad + i);
    const auto f = coupling_factor<kScale, kInverse>(read(b.s, kAffine), b.bound);
    V grad_x, grad_t, grad_s{};
    coupling_gradients<kScale, kInverse>(read(b.x, kAffine), read(b.t, kAffine && kInverse), g,
                                         read(b.grad_log_det, kAffine), f, grad_x, grad_t, grad_s);
    if constexpr (kParity) {
      const auto live = load<V>(b.live + i) != Real(0);
      grad_x = Lanes<V>::select(live, grad_x, g);
      grad_t = Lanes<V>::select(live, grad_t, V{});
      grad_s = Lanes<V>::select(live, grad_s, V{});
    }
    store_as(b.out + i, grad_x);
    store_as(b.grad_t + i, grad_t);
    if constexpr (kAffine) store_as(b.grad_s + i, grad_s);
  });
}

template <class S, class Real>
using PieceFunction = void (*)(const Piece<S, Real>&, int64_t);

template <class S, class Real, CouplingScale kScale>
PieceFunction<S, Real> piece_of_scale(const AffineCoupling& p, bool backward) {
#define PYGEN_COUPLING_PIECES(inverse, parity)                                                          \
  {                                                                                                     \
    &forward_piece<S, Real, kScale, inverse, parity>, &backward_piece<S, Real, kScale, inverse, parity> \
  }
  static constexpr PieceFunction<S, Real> table[2][2][2] = {
      {PYGEN_COUPLING_PIECES(false, false), PYGEN_COUPLING_PIECES(false, true)},
      {PYGEN_COUPLING_PIECES(true, false), PYGEN_COUPLING_PIECES(true, true)}};
#undef PYGEN_COUPLING_PIECES
  return table[p.inverse][p.parity][backward];
}
template <class S, class Real>
PieceFunction<S, Real> piece_function(const AffineCoupling& p, bool backward) {
  using Scale = CouplingScale;
  switch (p.scale) {
    case Scale::None:
      return piece_of_scale<S, Real, Scale::None>(p, backward);
    case Scale::Exp:
      return piece_of_scale<S, Real, Scale::Exp>(p, backward);
    case Scale::Tanh:
      return p.bound <= kCouplingNear ? piece_of_scale<S, Real, Scale::TanhNear>(p, backward)
                                      : piece_of_scale<S, Real, Scale::Tanh>(p, backward);
    default:
      return piece_of_scale<S, Real, Scale::Sigmoid>(p, backward);
  }
}

}  // namespace PYGEN_ISA
}  // namespace pygen
