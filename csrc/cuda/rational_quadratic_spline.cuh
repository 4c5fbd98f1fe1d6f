// rational_quadratic_spline for NVIDIA GPUs. Formulas: csrc/common/rational_quadratic_spline.h. Not yet run on a GPU.
//
// Traffic of a transformed element of P = 3 K -+ 1 numbers, T = its bytes: forward reads (P + 1) T and writes T,
// backward reads (P + 2) T and writes (P + 1) T; of another element T is read and written.
//
// A thread has one element at a time. Its numbers lie in shared memory, in the dtype computed in: there exponentials
// take the place of logits, and gradients theirs. Numbers that a linear layer puts side by side are copied by the warp
// together: read one by one they would cost as many turns of the L1 cache as lines lie under a warp, P / 32 of each
// load's 32. Of so many bins that they find no room there each is read, and its exponential made, wherever it is asked
// for. Sums depend on the sizes alone.
#pragma once

#include "cuda/loss_sums.cuh"
#include "cuda/rational_quadratic_spline_numbers.cuh"
#include "cuda/reduce.cuh"

namespace pygen::cuda {
namespace {

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

template <bool kInverse, class Numbers, class Acc>
__device__ __forceinline__ SplineBin<Acc> bin_of(Acc v, Numbers& numbers, const SplineConstants<Acc>& c) {
  numbers.normalise(c);
  return spline_bin<kInverse>(
      v, numbers.share, c, [&](int axis, int k) { return numbers.e(axis, k); },
      [&](int j) { return numbers.number(2 * c.bins + j); });
}

// body(place, whether the thread has an element there) in each of the block's turns, for all its threads.
template <class Tr, class Body>
__device__ __forceinline__ void for_each_turn(const SplineParams<typename Tr::Acc>& p, int64_t row, int64_t tile,
                                              Body body) {
  const int lanes = 1 << p.lane_bits, lane = static_cast<int>(threadIdx.x) & (lanes - 1);
  for (int step = 0; step < Tr::kSteps; ++step) {
    const int64_t first = (tile * Tr::kSteps + step) * lanes, unit = first + lane;
    if (first >= p.live.units) return;
    const bool has = row < p.rows && unit < p.live.units;
    body(UnitPlace(p.live, row, has ? unit : 0, Tr::kUnit), has);
  }
}

template <class Tr, class Numbers, bool kInverse>
__global__ void __launch_bounds__(Tr::kThreads, sizeof(typename Tr::T) == 8 ? 1 : 4)
    rational_quadratic_spline_fwd_kernel(const __grid_constant__ SplineParams<typename Tr::Acc> p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const int lanes = 1 << p.lane_bits;
  const int64_t row_block = blockIdx.x / p.tiles, tile = blockIdx.x - row_block * p.tiles;
  const int64_t row = row_block * (Tr::kThreads >> p.lane_bits) + (static_cast<int>(threadIdx.x) >> p.lane_bits);
  const SplineConstants<Acc>& c = p.constants;
  Numbers numbers(p);
  Acc sum = 0;
  for_each_turn<Tr>(p, row, tile, [&](const UnitPlace& at, bool has) {
    numbers.read(has ? at.offset(p.numbers) : -1, -1);
    if (has) {
      const Acc v = number_at<T>(p.from.data, at.offset(p.from));
      Acc out = c.linear ? v : static_cast<Acc>(NAN), log = out == out ? Acc(0) : out;
      if (spline_inside(v, c)) {
        const auto bin = bin_of<kInverse>(v, numbers, c);
        spline_value<kInverse>(bin, spline_place<kInverse>(v, bin, numbers.share, c), c, out, log);
      }
      put_number<T>(p.to.data, at.offset(p.to), out);
      sum += log;
    }
    numbers.write();
  });
  copy_rest<Tr>(p, row, tile);
  sum = group_sum<Tr::kThreads>(sum, lanes);
  if ((threadIdx.x & (lanes - 1)) == 0 && row < p.rows) p.partial[row * p.tiles + tile] = sum;
}

// The gradients of an element's numbers, those of the bins' sizes by their softmaxes.
template <class Numbers, class Acc>
__device__ __forceinline__ void put_gradients(const Numbers& numbers, const SplineConstants<Acc>& c,
                                              const SplineBin<Acc>& bin, const SplineGradients<Acc>& grads) {
  for (int axis = 0; axis < 2; ++axis) {
    const auto by = spline_logits(grads, bin, axis, numbers.share[axis] * (Acc(1) / c.share[axis]));
    for (int k = 0; k < c.bins; ++k) {
      const Acc at = static_cast<Acc>(k);
      const Acc mine = at < bin.index ? by.before : at > bin.index ? by.after : by.own;
      numbers.put(axis * c.bins + k, numbers.share[axis] * numbers.e(axis, k) * mine);
    }
  }
  const int first = static_cast<int>(bin.index) - (c.linear ? 1 : 0);
  for (int j = 0; j < c.numbers() - 2 * c.bins; ++j)
    numbers.put(2 * c.bins + j, j == first ? grads.raw0 : j == first + 1 ? grads.raw1 : Acc(0));
}

template <class Tr, class Numbers, bool kInverse>
__global__ void __launch_bounds__(Tr::kThreads, sizeof(typename Tr::T) == 8 ? 1 : 4)
    rational_quadratic_spline_bwd_kernel(const __grid_constant__ SplineParams<typename Tr::Acc> p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const int64_t row_block = blockIdx.x / p.tiles, tile = blockIdx.x - row_block * p.tiles;
  const int64_t row = row_block * (Tr::kThreads >> p.lane_bits) + (static_cast<int>(threadIdx.x) >> p.lane_bits);
  const SplineConstants<Acc>& c = p.constants;
  const bool wanted = p.grad_numbers.data != nullptr;
  Numbers numbers(p);
  Acc g_log = 0;
  if (p.grad_log_det != nullptr && row < p.rows) g_log = p.grad_log_det[row * p.grad_log_det_stride];
  for_each_turn<Tr>(p, row, tile, [&](const UnitPlace& at, bool has) {
    numbers.read(has ? at.offset(p.numbers) : -1, has && wanted ? at.offset(p.grad_numbers) : -1);
    if (has) {
      const Acc v = number_at<T>(p.input.data, at.offset(p.input));
      const Acc g = p.from.data == nullptr ? Acc(0) : number_at<T>(p.from.data, at.offset(p.from));
      Acc to_input = c.linear ? g : Acc(0);
      if (spline_inside(v, c)) {
        const auto bin = bin_of<kInverse>(v, numbers, c);
        const auto grads = spline_gradients<kInverse>(spline_place<kInverse>(v, bin, numbers.share, c), g, g_log);
        to_input = grads.input;
        if (wanted) put_gradients(numbers, c, bin, grads);
      } else if (wanted) {
        for (int k = 0; k < c.numbers(); ++k) numbers.put(k, Acc(0));
      }
      if (p.to.data != nullptr) put_number<T>(p.to.data, at.offset(p.to), to_input);
    }
    numbers.write();
  });
  copy_rest<Tr>(p, row, tile);
}

}  // namespace
}  // namespace pygen::cuda
