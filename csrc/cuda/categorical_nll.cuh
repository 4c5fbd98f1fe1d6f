// categorical_nll for NVIDIA GPUs. Formula: csrc/common/categorical_nll.h. Not yet run on a GPU.
//
// Traffic of a channel's position, L logits of T bytes: forward reads L T and its level (1 byte, or 8), backward reads
// them and writes L T. Nothing is saved between them: a log-sum-exp would add 4 bytes each way, and what backward reads
// a second time, the tile's logits (16 KB of 16 bits for 256 levels), still lies in L1, or in L2 where levels are many.
// Bfloat16 [64, 256, 32, 32]: 34 MB forward, 67 MB backward, at 4.8 TB/s 7 and 14 us.
//
// A unit is a channel of an image at a position. Where units lie side by side, a thread takes one and `split` warps
// share its levels, so that a row is read side by side; where levels do, a warp takes a unit at a time.
#pragma once

#include "common/categorical_nll.h"
#include "cuda/convert.cuh"
#include "cuda/loss_sums.cuh"
#include "cuda/softmax_terms.cuh"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

// --- params; units are numbered image by image, channel by channel, position by position

struct CategoricalParams {
  Positions logits, x, grads;
  const void* grad_nll;  // [N] or one number
  void* partial;         // forward: a sum for each block, or with `each` a loss for each unit
  int64_t row_units;     // of what is summed for itself
  int64_t tiles;         // blocks of a row
  int64_t per_image, positions;
  int64_t grad_nll_stride;
  double scale;
  int levels, split_bits;
  bool wide_levels;
  bool each;  // a unit is a sample: no sums
};

// --- traits

template <class Number>
struct CategoricalTraits {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kBatch = sizeof(T) == 8 ? 4 : 8;   // logits in flight in each thread
  static constexpr int kBlocks = sizeof(T) == 8 ? 2 : 4;  // of a processor, where levels lie together, by registers
  static constexpr int kTurns = 4;                        // units of a warp, one after the other
};

// --- kernels

struct Unit {
  int64_t number, image, logits, grads;  // the last two: offsets of its first level
  int level;                             // -1: none
  bool live;

  __device__ __forceinline__ Unit(const CategoricalParams& p, int64_t row, int64_t within) {
    live = within < p.row_units;
    number = row * p.row_units + (live ? within : p.row_units - 1);
    const auto quotient = [](int64_t a, int64_t b) {
      return static_cast<int64_t>(divide(static_cast<uint64_t>(a), static_cast<uint64_t>(b)));
    };
    image = quotient(number, p.per_image);
    const int64_t rest = number - image * p.per_image, channel = quotient(rest, p.positions);
    const int64_t position = rest - channel * p.positions, first = channel * p.levels;
    logits = image * p.logits.image + first * p.logits.channel + position * p.logits.position;
    grads = image * p.grads.image + first * p.grads.channel + position * p.grads.position;
    const int64_t at = image * p.x.image + channel * p.x.channel + position * p.x.position;
    const int64_t x = p.wide_levels ? __ldg(reinterpret_cast<const long long*>(p.x.data) + at)
                                    : static_cast<int64_t>(__ldg(reinterpret_cast<const uint8_t*>(p.x.data) + at));
    level = x < 0 || x >= p.levels ? -1 : static_cast<int>(x);
  }
};

// Of levels first, first + step, ...
template <class Tr>
__device__ __forceinline__ Terms<typename Tr::Acc> sweep(const typename Tr::T* logits, int64_t stride, int levels,
                                                         int level, int first, int step) {
  using Acc = typename Tr::Acc;
  return sweep_terms<Tr::kBatch, Acc>(levels, level, first, step,
                                      [=](int j) { return Acc(widen_to(logits[j * stride])); });
}

template <class Tr>
__device__ __forceinline__ Categorical<typename Tr::Acc> finish(const Terms<typename Tr::Acc>& terms,
                                                                const typename Tr::T* logits, int64_t stride,
                                                                int level) {
  using Acc = typename Tr::Acc;
  const Acc drawn = level < 0 ? Acc(NAN) : Acc(widen_to(logits[level * stride]));  // read a moment ago
  return categorical<Acc>(terms.top, drawn, terms.others);
}

template <class Tr>
__device__ __forceinline__ void write_gradients(const CategoricalParams& p, const Unit& unit,
                                                const Terms<typename Tr::Acc>& terms, typename Tr::Acc inverse,
                                                int first, int step) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const T* logits = reinterpret_cast<const T*>(p.logits.data) + unit.logits;
  T* grads = reinterpret_cast<T*>(p.grads.data) + unit.grads;
  const Acc factor = inverse * static_cast<Acc>(p.scale);
  const Acc g = static_cast<const Acc*>(p.grad_nll)[unit.image * p.grad_nll_stride];
  for (int start = first; start < p.levels; start += step * Tr::kBatch) {
    Acc x[Tr::kBatch];
#pragma unroll
    for (int i = 0; i < Tr::kBatch; ++i) {
      const int j = start + i * step;
      x[i] = j < p.levels ? Acc(widen_to(logits[j * p.logits.channel])) : Acc(0);
    }
#pragma unroll
    for (int i = 0; i < Tr::kBatch; ++i) {
      const int j = start + i * step;
      const Acc slope = j == unit.level ? -terms.others : exp_term(x[i] - terms.top);
      if (j < p.levels) grads[j * p.grads.channel] = narrow_to<T>(slope * factor * g);
    }
  }
}

// The block's losses: into partial, or each for itself.
template <class Tr>
__device__ __forceinline__ void leave(const CategoricalParams& p, typename Tr::Acc sum) {
  using Acc = typename Tr::Acc;
  sum = group_sum<Tr::kThreads>(sum, Tr::kThreads);
  if (threadIdx.x == 0) static_cast<Acc*>(p.partial)[blockIdx.x] = sum;
}

template <class Tr, bool kGrad>
__global__ void __launch_bounds__(Tr::kThreads) categorical_nll_kernel(const __grid_constant__ CategoricalParams p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int split = 1 << p.split_bits, part = warp & (split - 1), units = Tr::kThreads >> p.split_bits;
  const int mine = (warp >> p.split_bits) * 32 + lane;
  const int64_t row = blockIdx.x / p.tiles;
  const Unit unit(p, row, (blockIdx.x - row * p.tiles) * units + mine);
  const T* logits = reinterpret_cast<const T*>(p.logits.data) + unit.logits;
  Terms<Acc> terms = sweep<Tr>(logits, p.logits.channel, p.levels, unit.level, part, split);

  __shared__ Acc tops[Tr::kThreads], sums[Tr::kThreads];  // [split, units]
  if (split > 1) {
    tops[part * units + mine] = terms.top;
    sums[part * units + mine] = terms.others;
    __syncthreads();
    for (int other = 0; other < split; ++other) {
      const Acc top = tops[other * units + mine];
      terms.top = top > terms.top ? top : terms.top;
    }
    terms.others = 0;
    for (int other = 0; other < split; ++other)
      terms.others += sums[other * units + mine] * exp_term(tops[other * units + mine] - terms.top);
  }
  const Categorical<Acc> of = finish<Tr>(terms, logits, p.logits.channel, unit.level);
  const bool counts = unit.live && part == 0;
  if constexpr (kGrad) {
    if (unit.live) write_gradients<Tr>(p, unit, terms, of.inverse, part, split);
  } else if (p.each) {
    if (counts) static_cast<Acc*>(p.partial)[unit.number] = of.nll;
  } else {
    leave<Tr>(p, counts ? of.nll : Acc(0));
  }
}

template <class Tr, bool kGrad>
__global__ void __launch_bounds__(Tr::kThreads, Tr::kBlocks)
    categorical_nll_along_kernel(const __grid_constant__ CategoricalParams p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t row = blockIdx.x / p.tiles;
  const int64_t start = (blockIdx.x - row * p.tiles) * (Tr::kWarps * Tr::kTurns) + warp;
  Acc sum = 0;
  for (int turn = 0; turn < Tr::kTurns; ++turn) {
    const Unit unit(p, row, start + turn * Tr::kWarps);
    if (!unit.live) break;  // of all lanes
    const T* logits = reinterpret_cast<const T*>(p.logits.data) + unit.logits;
    Terms<Acc> terms = sweep<Tr>(logits, p.logits.channel, p.levels, unit.level, lane, 32);
    join_lanes(terms);
    const Categorical<Acc> of = finish<Tr>(terms, logits, p.logits.channel, unit.level);
    if constexpr (kGrad) {
      write_gradients<Tr>(p, unit, terms, of.inverse, lane, 32);
    } else if (p.each) {
      if (lane == 0) static_cast<Acc*>(p.partial)[unit.number] = of.nll;
    } else if (lane == 0) {
      sum += of.nll;
    }
  }
  if constexpr (!kGrad) {
    if (!p.each) leave<Tr>(p, sum);
  }
}

}  // namespace
}  // namespace pygen::cuda
