// rational_quadratic_spline for NVIDIA GPUs. Formulas: csrc/common/rational_quadratic_spline.h. Not yet run on a GPU.
//
// Traffic of a transformed element of P = 3 K -+ 1 numbers, T = its bytes: forward reads (P + 1) T and writes T,
// backward reads (P + 2) T and writes (P + 1) T; of another element T is read and written.
//
// A thread has one element at a time and goes through its bins three times: the largest logits, the sums of
// exponentials, the bin; backward writes gradients in a fourth turn. Nothing of K numbers is held: what it reads again
// comes from the L1 cache, and an exponential is cheaper than a register that spills. Sums depend on the sizes alone.
#pragma once

#include "common/rational_quadratic_spline.h"
#include "cuda/coupling.cuh"
#include "cuda/loss_sums.cuh"
#include "cuda/reduce.cuh"

namespace pygen::cuda {
namespace {

// --- params

template <class Acc>
struct SplineParams {
  CouplingOperand from, to;  // forward: input and output; backward: their gradients
  CouplingOperand input, numbers, rest_from, rest_to, grad_numbers;
  int64_t step, grad_step;
  CouplingPart live, rest;
  int64_t rows, tiles;
  const Acc* grad_log_det;  // [rows], or null
  int64_t grad_log_det_stride;
  Acc* partial;  // forward: [rows, tiles]
  SplineConstants<Acc> constants;
  int lane_bits;
};

// --- traits

struct SplineDeal {
  static constexpr int kThreads = 128;
  static constexpr int kUnit = 1;   // elements
  static constexpr int kSteps = 4;  // units of a thread
};

template <class Number>
struct SplineTraits : SplineDeal {
  using T = Number;
  using Acc = typename Element<T>::Acc;
};

// --- kernels

template <class T>
__device__ __forceinline__ typename Element<T>::Acc number_at(const char* data, int64_t at) {
  return static_cast<typename Element<T>::Acc>(reinterpret_cast<const T*>(data)[at]);
}
template <class T>
__device__ __forceinline__ void put_number(char* data, int64_t at, typename Element<T>::Acc value) {
  reinterpret_cast<T*>(data)[at] = static_cast<T>(value);
}

template <class Tr, class Params>
__device__ __forceinline__ void copy_rest(const Params& p, int64_t row, int64_t tile) {
  using T = typename Tr::T;
  if (p.rest_to.data == nullptr) return;
  for_each_unit<Tr>(p, p.rest, row, tile, [&](const UnitPlace& at) {
    const T zero = static_cast<T>(0.0f);
    T* to = reinterpret_cast<T*>(p.rest_to.data) + at.offset(p.rest_to);
    *to = p.rest_from.data == nullptr ? zero : reinterpret_cast<const T*>(p.rest_from.data)[at.offset(p.rest_from)];
  });
}

// The exponentials of an element's logits, made anew wherever one is asked for.
template <class T>
struct Exponentials {
  using Acc = typename Element<T>::Acc;
  const char* data;
  int64_t at, step;  // of the columns; those of the rows follow
  int bins;
  Acc most[2], share[2];

  __device__ __forceinline__ Exponentials(const char* data, int64_t at, int64_t step, const SplineConstants<Acc>& c)
      : data(data), at(at), step(step), bins(c.bins) {
    for (int axis = 0; axis < 2; ++axis) {
      Acc largest = logit(axis, 0), sum = 0;
      for (int k = 1; k < bins; ++k) {
        const Acc other = logit(axis, k);
        largest = other > largest ? other : largest;
      }
      most[axis] = largest;
      for (int k = 0; k < bins; ++k) sum += (*this)(axis, k);
      share[axis] = c.share[axis] / sum;
    }
  }
  __device__ __forceinline__ Acc logit(int axis, int k) const {
    return number_at<T>(data, at + (axis * bins + k) * step);
  }
  __device__ __forceinline__ Acc operator()(int axis, int k) const { return exp_minus(most[axis] - logit(axis, k)); }
};

template <class Tr, bool kInverse>
__global__ void __launch_bounds__(Tr::kThreads, sizeof(typename Tr::T) == 8 ? 1 : 4)
    rational_quadratic_spline_fwd_kernel(const __grid_constant__ SplineParams<typename Tr::Acc> p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const int lanes = 1 << p.lane_bits;
  const int64_t row_block = blockIdx.x / p.tiles, tile = blockIdx.x - row_block * p.tiles;
  const int64_t row = row_block * (Tr::kThreads >> p.lane_bits) + (static_cast<int>(threadIdx.x) >> p.lane_bits);
  const SplineConstants<Acc>& c = p.constants;
  Acc sum = 0;
  for_each_unit<Tr>(p, p.live, row, tile, [&](const UnitPlace& at) {
    const Acc v = number_at<T>(p.from.data, at.offset(p.from));
    Acc out = c.linear ? v : static_cast<Acc>(NAN), log = out == out ? Acc(0) : out;
    if (spline_inside(v, c)) {
      const int64_t first = at.offset(p.numbers), slopes = first + 2 * c.bins * p.step;
      const Exponentials<T> e(p.numbers.data, first, p.step, c);
      const auto bin = spline_bin<kInverse>(v, e.share, c, e,
                                            [&](int j) { return number_at<T>(p.numbers.data, slopes + j * p.step); });
      spline_value<kInverse>(bin, spline_place<kInverse>(v, bin, e.share, c), c, out, log);
    }
    put_number<T>(p.to.data, at.offset(p.to), out);
    sum += log;
  });
  copy_rest<Tr>(p, row, tile);
  sum = group_sum<Tr::kThreads>(sum, lanes);
  if ((threadIdx.x & (lanes - 1)) == 0 && row < p.rows) p.partial[row * p.tiles + tile] = sum;
}

// The gradients of an element's numbers, those of the bins' sizes by their softmaxes.
template <class Tr, class Acc, class E>
__device__ __forceinline__ void put_gradients(const SplineParams<Acc>& p, int64_t to, const SplineBin<Acc>& bin,
                                              const SplineGradients<Acc>& grads, const E& e) {
  using T = typename Tr::T;
  const SplineConstants<Acc>& c = p.constants;
  for (int axis = 0; axis < 2; ++axis) {
    const auto by = spline_logits(grads, bin, axis, e.share[axis] * (Acc(1) / c.share[axis]));
    for (int k = 0; k < c.bins; ++k, to += p.grad_step) {
      const Acc at = static_cast<Acc>(k);
      const Acc mine = at < bin.index ? by.before : at > bin.index ? by.after : by.own;
      put_number<T>(p.grad_numbers.data, to, e.share[axis] * e(axis, k) * mine);
    }
  }
  const int first = static_cast<int>(bin.index) - (c.linear ? 1 : 0);
  for (int j = 0; j < c.numbers() - 2 * c.bins; ++j, to += p.grad_step)
    put_number<T>(p.grad_numbers.data, to, j == first ? grads.raw0 : j == first + 1 ? grads.raw1 : Acc(0));
}

template <class Tr, bool kInverse>
__global__ void __launch_bounds__(Tr::kThreads, sizeof(typename Tr::T) == 8 ? 1 : 4)
    rational_quadratic_spline_bwd_kernel(const __grid_constant__ SplineParams<typename Tr::Acc> p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const int64_t row_block = blockIdx.x / p.tiles, tile = blockIdx.x - row_block * p.tiles;
  const int64_t row = row_block * (Tr::kThreads >> p.lane_bits) + (static_cast<int>(threadIdx.x) >> p.lane_bits);
  const SplineConstants<Acc>& c = p.constants;
  Acc g_log = 0;
  if (p.grad_log_det != nullptr && row < p.rows) g_log = p.grad_log_det[row * p.grad_log_det_stride];
  for_each_unit<Tr>(p, p.live, row, tile, [&](const UnitPlace& at) {
    const Acc v = number_at<T>(p.input.data, at.offset(p.input));
    const Acc g = p.from.data == nullptr ? Acc(0) : number_at<T>(p.from.data, at.offset(p.from));
    Acc to_input = c.linear ? g : Acc(0);
    const int64_t to = p.grad_numbers.data == nullptr ? 0 : at.offset(p.grad_numbers);
    if (spline_inside(v, c)) {
      const int64_t first = at.offset(p.numbers), slopes = first + 2 * c.bins * p.step;
      const Exponentials<T> e(p.numbers.data, first, p.step, c);
      const auto bin = spline_bin<kInverse>(v, e.share, c, e,
                                            [&](int j) { return number_at<T>(p.numbers.data, slopes + j * p.step); });
      const auto grads = spline_gradients<kInverse>(spline_place<kInverse>(v, bin, e.share, c), g, g_log);
      to_input = grads.input;
      if (p.grad_numbers.data != nullptr) put_gradients<Tr>(p, to, bin, grads, e);
    } else if (p.grad_numbers.data != nullptr) {
      for (int j = 0; j < c.numbers(); ++j) put_number<T>(p.grad_numbers.data, to + j * p.grad_step, Acc(0));
    }
    if (p.to.data != nullptr) put_number<T>(p.to.data, at.offset(p.to), to_input);
  });
  copy_rest<Tr>(p, row, tile);
}

}  // namespace
}  // namespace pygen::cuda
