// The arithmetic of one element of rational_quadratic_spline, V = float, double or a SIMD vector. Formulas and their
// source: pygen/reference/rational_quadratic_spline.py.
//
// An axis' bins are least + share e_k wide, e_k = e^(a_k - max a); t is the place in the bin, u = 1 - t. The inverse's
// quadratic is solved by terms that are all positive, so t and u keep their digits and the root is always there.
#pragma once

#include "common/rational_quadratic_spline_call.h"
#include "common/softplus.h"

namespace pygen {

template <class Real>
struct SplineConstants {
  Real low, high, over_range;
  Real least[2], share[2];  // of columns and rows: parts of the whole range, and what the softmax divides
  Real min_derivative, beta;
  int bins;
  bool linear;  // tails: slopes 1 at both ends, and the identity outside
  PYGEN_HD int numbers() const { return linear ? 3 * bins - 1 : 3 * bins + 1; }
};

template <class Real>
SplineConstants<Real> spline_constants(const SplineOptions& options) {
  SplineConstants<Real> c;
  const double (&least)[3] = options.least, range = options.ends[1] - options.ends[0];
  c.low = static_cast<Real>(options.ends[0]);
  c.high = static_cast<Real>(options.ends[1]);
  c.over_range = static_cast<Real>(1 / range);
  for (int axis = 0; axis < 2; ++axis) {
    c.least[axis] = static_cast<Real>(range * least[axis]);
    c.share[axis] = static_cast<Real>(range * (1 - least[axis] * static_cast<double>(options.bins)));
  }
  c.min_derivative = static_cast<Real>(least[2]);
  c.beta = static_cast<Real>(options.beta);
  c.bins = static_cast<int>(options.bins);
  c.linear = options.linear;
  return c;
}

// What an element's bin is made of.
template <class V>
struct SplineBin {
  V left, bottom, own[2], before[2], after[2];  // own: e of the bin, the others: sums of the bins before and after it
  V raw0, raw1, index;                          // parameters of the slopes at its knots
  V stretch[2];                                 // by what share of itself each bin is too narrow
};

template <class V>
PYGEN_HD auto spline_inside(V v, const SplineConstants<typename Lanes<V>::Real>& c) {
  const auto above = c.linear ? v > c.low : V{} + c.low <= v;
  const auto below = c.linear ? V{} + c.high > v : v <= c.high;
  return above & below;
}

// e(axis, k) is a bin's e, raw(j) the parameter of the j-th slope. NaN of v or of a knot: the first bin. What all bins
// together are too narrow, mostly by the rounding of the sum of the e, is dealt to them: less than half the error is
// left.
template <bool kInverse, class V, class E, class Raw>
PYGEN_HD SplineBin<V> spline_bin(V v, const V (&share)[2], const SplineConstants<typename Lanes<V>::Real>& c, E e,
                                 Raw raw) {
  using L = Lanes<V>;
  using Real = typename L::Real;
  const int known = c.linear ? 1 : 0;  // the first slope that is a parameter's
  const auto slope = [&](int knot) { return known && (knot == 0 || knot == c.bins) ? V{} : raw(knot - known); };
  const V low = V{} + c.low;
  SplineBin<V> b{low, low, {e(0, 0), e(1, 0)}, {V{}, V{}}, {V{}, V{}}, slope(0), slope(1), V{}, {V{}, V{}}};
  V left = low, bottom = low, x = b.own[0], y = b.own[1], before_x{}, before_y{}, raw0 = b.raw1;
  for (int k = 1; k < c.bins; ++k) {
    left = left + (share[0] * x + c.least[0]);
    bottom = bottom + (share[1] * y + c.least[1]);
    before_x = before_x + x;
    before_y = before_y + y;
    x = e(0, k);
    y = e(1, k);
    const V raw1 = slope(k + 1);
    const auto past = (kInverse ? bottom : left) <= v;
    b.left = L::select(past, left, b.left);
    b.bottom = L::select(past, bottom, b.bottom);
    b.own[0] = L::select(past, x, b.own[0]);
    b.own[1] = L::select(past, y, b.own[1]);
    b.before[0] = L::select(past, before_x, b.before[0]);
    b.before[1] = L::select(past, before_y, b.before[1]);
    b.after[0] = L::select(past, V{}, V(b.after[0] + x));
    b.after[1] = L::select(past, V{}, V(b.after[1] + y));
    b.raw0 = L::select(past, raw0, b.raw0);
    b.raw1 = L::select(past, raw1, b.raw1);
    b.index = L::select(past, V{} + static_cast<Real>(k), b.index);
    raw0 = raw1;
  }
  b.stretch[0] = (c.high - (left + (share[0] * x + c.least[0]))) * c.over_range;
  b.stretch[1] = (c.high - (bottom + (share[1] * y + c.least[1]))) * c.over_range;
  b.left = b.left + b.stretch[0] * (b.left - c.low);
  b.bottom = b.bottom + b.stretch[1] * (b.bottom - c.low);
  return b;
}

// A slope, and its derivative by the parameter; where it is known 1 and 0.
template <class V, class Mask>
PYGEN_HD void spline_slope(V raw, Mask known, const SplineConstants<typename Lanes<V>::Real>& c, V& d, V& by_raw) {
  using L = Lanes<V>;
  using Real = typename L::Real;
  const V y = raw * c.beta, e = exp_minus_abs(y);
  const V softplus = positive_part(y) + log1p_positive(e);
  d = L::select(known, V{} + Real(1), V(softplus / c.beta + c.min_derivative));
  by_raw = L::select(known, V{}, sigmoid_of(y, e));
}

template <class V>
struct SplinePlace {
  V w, h, s, t, u, d0, d1, by_raw0, by_raw1;
  V tu, numerator, denominator, derivative;
};

template <bool kInverse, class V>
PYGEN_HD SplinePlace<V> spline_place(V v, const SplineBin<V>& b, const V (&share)[2],
                                     const SplineConstants<typename Lanes<V>::Real>& c) {
  using L = Lanes<V>;
  using Real = typename L::Real;
  SplinePlace<V> p;
  const V w = share[0] * b.own[0] + c.least[0], h = share[1] * b.own[1] + c.least[1];
  p.w = w + w * b.stretch[0];
  p.h = h + h * b.stretch[1];
  p.s = p.h / p.w;
  const Real never = Real(-1);
  spline_slope(b.raw0, b.index == (c.linear ? Real(0) : never), c, p.d0, p.by_raw0);
  spline_slope(b.raw1, b.index == (c.linear ? Real(c.bins - 1) : never), c, p.d1, p.by_raw1);
  if constexpr (kInverse) {
    const V part = L::at_most(V(L::at_least(V((v - b.bottom) / p.h), Real(0))), Real(1)), rest = Real(1) - part;
    const V r = p.d0 * rest - p.d1 * part;
    const V both = L::sqrt(V(r * r + (Real(4) * p.s * p.s) * (part * rest))) + L::absolute(r);
    const auto falling = r < Real(0);
    const V near = (Real(2) * p.s) * L::select(falling, rest, part), over = Real(1) / (near + both);
    p.t = L::select(falling, both, near) * over;
    p.u = L::select(falling, near, both) * over;
  } else {
    p.t = L::at_most(V(L::at_least(V((v - b.left) / p.w), Real(0))), Real(1));
    p.u = Real(1) - p.t;
  }
  p.tu = p.t * p.u;
  p.numerator = p.s * p.t * p.t + p.d0 * p.tu;
  p.denominator = p.s + (p.d0 + p.d1 - Real(2) * p.s) * p.tu;
  p.derivative = p.d1 * p.t * p.t + (Real(2) * p.s) * p.tu + p.d0 * p.u * p.u;
  return p;
}

// Inside the bound: the output, which stays there, and the log-derivative of the direction.
template <bool kInverse, class V>
PYGEN_HD void spline_value(const SplineBin<V>& b, const SplinePlace<V>& p,
                           const SplineConstants<typename Lanes<V>::Real>& c, V& out, V& log) {
  using L = Lanes<V>;
  using Real = typename L::Real;
  const V over = Real(1) / p.denominator;
  out = kInverse ? V(b.left + p.w * p.t) : V(b.bottom + p.h * (p.numerator * over));
  out = L::at_most(V(L::at_least(out, c.low)), c.high);
  // What is not finite, of which log_positive knows nothing, is made NaN.
  const V total = log_positive(p.derivative) + Real(2) * log_positive(V(p.s * over)) + (p.derivative - p.derivative);
  log = kInverse ? V(-total) : total;
}

template <class V>
struct SplineGradients {
  V input, start[2], size[2], raw0, raw1;
};

// Of the sum g out + g_log log_det, log_det being that of the direction; inside the bound.
template <bool kInverse, class V>
PYGEN_HD SplineGradients<V> spline_gradients(const SplinePlace<V>& p, V g, V g_log) {
  using Real = typename Lanes<V>::Real;
  const Real one = Real(1), two = Real(2);
  const V over = one / p.denominator, over_d = one / p.derivative, over_w = one / p.w;
  const V slope_over = p.s * p.derivative * over * over;  // times s: dy / dx
  const V log_t =
      two * (((p.d1 - p.s) * p.t - (p.d0 - p.s) * p.u) * over_d - (p.d0 + p.d1 - two * p.s) * (p.u - p.t) * over);
  SplineGradients<V> out;
  if constexpr (kInverse) {  // x = left + w t, where neither left nor w is part of t
    g_log = -g_log;
    out.input = (g + g_log * log_t * over_w) / (p.s * slope_over);
    out.start[0] = g;
    g = -out.input;
  } else {
    out.input = g * (p.s * slope_over) + g_log * log_t * over_w;
    out.start[0] = -out.input;
  }
  const V gt = g * p.h * p.tu * over, twice = two * p.tu;
  const V to_s =
      gt * ((p.d1 * p.t * p.t - p.d0 * p.u * p.u) * over) + g_log * (twice * ((p.d0 + p.d1) * over / p.s + over_d));
  const V mirror = p.s * p.u * p.u + p.d1 * p.tu;
  out.raw0 = (gt * (mirror * over) + g_log * (p.u * p.u * over_d - twice * over)) * p.by_raw0;
  out.raw1 = (g_log * (p.t * p.t * over_d - twice * over) - gt * (p.numerator * over)) * p.by_raw1;
  out.size[0] = out.start[0] * p.t - to_s * p.s * over_w;
  out.start[1] = g;
  out.size[1] = g * (p.numerator * over) + to_s * over_w;
  return out;
}

// By a logit before, at and after the bin, but for share e: what softmax subtracts, taken apart so that nothing is left
// of ones that cancel where one bin has nearly all. over_sum: 1 / the sum of the e.
template <class V>
struct SplineLogits {
  V before, own, after;
};
template <class V>
PYGEN_HD SplineLogits<V> spline_logits(const SplineGradients<V>& g, const SplineBin<V>& b, int axis, V over_sum) {
  const V start = g.start[axis] * over_sum, size = g.size[axis] * over_sum, less = size - start;
  return {start * b.after[axis] - less * b.own[axis], size * b.after[axis] + less * b.before[axis],
          -(start * b.before[axis] + size * b.own[axis])};
}

}  // namespace pygen
