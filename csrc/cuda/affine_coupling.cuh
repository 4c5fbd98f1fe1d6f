// affine_coupling for NVIDIA GPUs. Formula: csrc/common/affine_coupling.h. Not yet run on a GPU.
//
// Traffic of a transformed element, T = its bytes: forward reads 3 T and writes T, backward reads 3 T (of the inverse
// 4 T) and writes 3 T; of another element T is read and written.
//
// A unit is 16 bytes along the innermost of three dims, units of a sample lie along `lanes` threads of a block, and a
// long sample along several blocks. Sums depend on the sizes alone.
#pragma once

#include "common/affine_coupling.h"
#include "cuda/coupling.cuh"
#include "cuda/loss_sums.cuh"
#include "cuda/reduce.cuh"
#include "cuda/units.cuh"

namespace pygen::cuda {
namespace {

// --- params

struct CouplingParams {
  CouplingOperand from, to;  // forward: input and output; backward: their gradients
  CouplingOperand input, shift, log_scale;
  CouplingOperand rest_from, rest_to, grad_shift, grad_log_scale;
  CouplingPart live, rest;
  int64_t rows, tiles;
  const void* grad_log_det;  // [rows], or null
  int64_t grad_log_det_stride;
  void* partial;  // forward: [rows, tiles]
  double bound;
  int weights[3];
  int lane_bits;
  bool inverse, parity, even;
};

// --- traits

template <class Number>
struct CouplingTraits {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kThreads = 256;
  static constexpr int kUnit = 16 / sizeof(T);
  static constexpr int kSteps = 4;  // units of a thread
  static_assert(kUnit % 2 == 0, "numbers are widened and narrowed in pairs");
};

// --- kernels

// Whether the unit's k-th element is transformed.
__device__ __forceinline__ bool is_live(const UnitPlace& at, const CouplingParams& p, int k) {
  const int64_t sum = at.outer * p.weights[0] + at.middle * p.weights[1] + (at.inner + k) * p.weights[2];
  return !p.parity || ((sum + (p.even ? 1 : 0)) & 1) != 0;
}

template <class Tr, bool kAligned>
__device__ __forceinline__ void read(const CouplingOperand& t, const UnitPlace& at,
                                     typename Tr::Acc (&out)[Tr::kUnit]) {
  if (t.data != nullptr) load_unit<typename Tr::T, Tr::kUnit, kAligned>(t, at.offset(t), at.count, out);
}
template <class Tr, bool kAligned>
__device__ __forceinline__ void write(const CouplingOperand& t, const UnitPlace& at,
                                      const typename Tr::Acc (&value)[Tr::kUnit]) {
  if (t.data != nullptr) store_unit<typename Tr::T, Tr::kUnit, kAligned>(t, at.offset(t), at.count, value);
}

template <class Tr, bool kAligned>
__device__ __forceinline__ void copy_rest(const CouplingParams& p, int64_t row, int64_t tile) {
  if (p.rest_to.data == nullptr) return;
  for_each_unit<Tr>(p, p.rest, row, tile, [&](const UnitPlace& at) {
    typename Tr::Acc value[Tr::kUnit] = {};
    read<Tr, kAligned>(p.rest_from, at, value);
    write<Tr, kAligned>(p.rest_to, at, value);
  });
}

template <class Tr, CouplingScale kScale, bool kAligned>
__global__ void __launch_bounds__(Tr::kThreads, sizeof(typename Tr::T) == 8 ? 1 : 2)
    affine_coupling_fwd_kernel(const __grid_constant__ CouplingParams p) {
  using Acc = typename Tr::Acc;
  constexpr int V = Tr::kUnit;
  const int lanes = 1 << p.lane_bits;
  const int64_t row_block = blockIdx.x / p.tiles, tile = blockIdx.x - row_block * p.tiles;
  const int64_t row = row_block * (Tr::kThreads >> p.lane_bits) + (static_cast<int>(threadIdx.x) >> p.lane_bits);
  const Acc bound = static_cast<Acc>(p.bound);
  Acc sum = 0;
  for_each_unit<Tr>(p, p.live, row, tile, [&](const UnitPlace& at) {
    Acc x[V], t[V], s[V] = {};
    read<Tr, kAligned>(p.from, at, x);
    read<Tr, kAligned>(p.shift, at, t);
    read<Tr, kAligned>(p.log_scale, at, s);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      Acc out, log;
      if (p.inverse) {
        const auto f = coupling_factor<kScale, true>(s[k], bound);
        out = coupling_value<kScale, true>(x[k], t[k], f);
        log = -f.log;
      } else {
        const auto f = coupling_factor<kScale, false>(s[k], bound);
        out = coupling_value<kScale, false>(x[k], t[k], f);
        log = f.log;
      }
      const bool live = is_live(at, p, k);
      x[k] = live ? out : x[k];
      sum += live && k < at.count ? log : Acc(0);
    }
    write<Tr, kAligned>(p.to, at, x);
  });
  copy_rest<Tr, kAligned>(p, row, tile);
  if constexpr (kScale != CouplingScale::None) {
    sum = group_sum<Tr::kThreads>(sum, lanes);
    if ((threadIdx.x & (lanes - 1)) == 0 && row < p.rows) static_cast<Acc*>(p.partial)[row * p.tiles + tile] = sum;
  }
}

template <class Tr, CouplingScale kScale, bool kAligned>
__global__ void __launch_bounds__(Tr::kThreads, sizeof(typename Tr::T) == 8 ? 1 : 2)
    affine_coupling_bwd_kernel(const __grid_constant__ CouplingParams p) {
  using Acc = typename Tr::Acc;
  constexpr int V = Tr::kUnit;
  const int64_t row_block = blockIdx.x / p.tiles, tile = blockIdx.x - row_block * p.tiles;
  const int64_t row = row_block * (Tr::kThreads >> p.lane_bits) + (static_cast<int>(threadIdx.x) >> p.lane_bits);
  const Acc bound = static_cast<Acc>(p.bound);
  Acc to_log_det = 0;
  if (p.grad_log_det != nullptr && row < p.rows)
    to_log_det = static_cast<const Acc*>(p.grad_log_det)[row * p.grad_log_det_stride];
  for_each_unit<Tr>(p, p.live, row, tile, [&](const UnitPlace& at) {
    Acc g[V] = {}, x[V] = {}, t[V] = {}, s[V] = {}, grad_t[V];
    const bool alone = p.from.data == nullptr;  // zeros then, and nothing that may be infinite or NaN times them
    if (kScale != CouplingScale::Exp || !alone) read<Tr, kAligned>(p.log_scale, at, s);
    if (!alone) {
      read<Tr, kAligned>(p.from, at, g);
      read<Tr, kAligned>(p.input, at, x);
      read<Tr, kAligned>(p.shift, at, t);
    }
#pragma unroll
    for (int k = 0; k < V; ++k) {
      Acc to_x, to_t, to_s = 0;
      if (p.inverse) {
        const auto f = coupling_factor<kScale, true>(s[k], bound);
        coupling_gradients<kScale, true>(x[k], t[k], g[k], to_log_det, f, to_x, to_t, to_s);
      } else {
        const auto f = coupling_factor<kScale, false>(s[k], bound);
        coupling_gradients<kScale, false>(x[k], t[k], g[k], to_log_det, f, to_x, to_t, to_s);
      }
      const bool live = is_live(at, p, k);
      g[k] = live ? to_x : g[k];
      grad_t[k] = live ? to_t : Acc(0);
      s[k] = live ? to_s : Acc(0);
    }
    write<Tr, kAligned>(p.to, at, g);
    write<Tr, kAligned>(p.grad_shift, at, grad_t);
    if constexpr (kScale != CouplingScale::None) write<Tr, kAligned>(p.grad_log_scale, at, s);
  });
  copy_rest<Tr, kAligned>(p, row, tile);
}

}  // namespace
}  // namespace pygen::cuda
