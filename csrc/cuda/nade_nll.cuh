// nade_nll for NVIDIA GPUs. Formula: csrc/common/nade_nll.h, pygen/reference/nade_nll.py. Not yet run on a GPU.
//
// The inputs are known, so what is in sequence is cheap: a warp takes 32 hidden units, one a lane, through all inputs
// in segments, whose rows of both weights it holds in registers while it goes from sample to sample. a changes only
// where x is not 0: a whole warp skips the sigmoid of a black pixel. Partial sums leave in fixed order, and no lane
// waits for another warp. Traffic, N = 64, D = 784, H = 500, float32: forward reads both weights once for every
// kSamples samples, out of L2, and leaves 16 partial logits each, 3 MB; backward keeps a at each segment, N D H / 16
// numbers of the chunk at hand, and leaves `parts` copies of the gradients, 50 MB: 12 us at 4.8 TB/s.
#pragma once

#include "common/nade_nll.h"
#include "cuda/convert.cuh"
#include "cuda/launch.cuh"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

// --- params

struct NadeParams {
  int64_t images, inputs, hidden;
  int64_t tiles;                // of 32 units
  int64_t groups;               // blocks of one part, each of kWarps tiles
  int64_t each;                 // samples of a part
  const void *x, *grad_logits;  // [N, D]
  const void *weight, *hidden_bias, *output_weight;
  void* logits;                                               // [tiles, N, D]
  void* starts;                                               // [parts, segments, kChunk, tiles * 32]
  void *grad_weight, *grad_hidden_bias, *grad_output_weight;  // [parts, ...]
};

// --- traits

template <class Number>
struct NadeTraits {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kWarps = 4;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kSamples = 4;                      // of a warp, forward
  static constexpr int kChunk = 16;                       // of a warp, backward, in one go
  static constexpr int kSteps = sizeof(T) == 8 ? 8 : 16;  // inputs of a segment: five numbers each in registers
  static constexpr int kMostParts = 16;
  static constexpr int kBlocks = sizeof(T) == 8 ? 2 : 4;  // of a processor, forward, by registers
  static_assert(kSteps <= 32 && (kSteps & (kSteps - 1)) == 0);
};

// --- one warp's view

template <class Tr>
struct NadeWarp {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  int lane;
  int64_t part, tile, unit;
  bool active;  // the unit is one

  __device__ __forceinline__ explicit NadeWarp(const NadeParams& p) {
    lane = static_cast<int>(threadIdx.x) % 32;
    part = blockIdx.x / p.groups;
    tile = (blockIdx.x - part * p.groups) * Tr::kWarps + static_cast<int>(threadIdx.x) / 32;
    unit = tile * 32 + lane;
    active = unit < p.hidden;
  }

  __device__ __forceinline__ Acc number(const void* tensor, int64_t at) const {
    return active ? Acc(widen_to(static_cast<const T*>(tensor)[at])) : Acc(0);
  }

  // Rows [first, first + kSteps) of a weight, 0 beyond the last one.
  __device__ __forceinline__ void rows(const NadeParams& p, const void* weight, int64_t first,
                                       Acc (&row)[Tr::kSteps]) const {
#pragma unroll
    for (int s = 0; s < Tr::kSteps; ++s)
      row[s] = first + s < p.inputs ? number(weight, (first + s) * p.hidden + unit) : Acc(0);
  }

  // Of a segment's inputs one for each of the first lanes, 0 where there is none before `end`.
  __device__ __forceinline__ Acc column(const NadeParams& p, const void* tensor, int64_t sample, int64_t first,
                                        int64_t end) const {
    const int64_t d = first + lane;
    return lane < Tr::kSteps && d < end ? static_cast<const Acc*>(tensor)[sample * p.inputs + d] : Acc(0);
  }
};

// The sums of kCount numbers over the warp's lanes: each lane gets one, that of number sum_number(lane), in value[0].
template <int kLeft, int kMask, int kCount, class Acc>
__device__ __forceinline__ void transposed_sum(Acc (&value)[kCount], int lane) {
  if constexpr (kLeft > 0) {
    const bool upper = (lane & kMask) != 0;
#pragma unroll
    for (int i = 0; i < kLeft; ++i) {
      const Acc sent = upper ? value[i] : value[i + kLeft], kept = upper ? value[i + kLeft] : value[i];
      value[i] = kept + __shfl_xor_sync(0xffffffffu, sent, kMask);
    }
    transposed_sum<kLeft / 2, kMask / 2>(value, lane);
  } else if constexpr (kMask > 0) {
    value[0] += __shfl_xor_sync(0xffffffffu, value[0], kMask);
    transposed_sum<0, kMask / 2>(value, lane);
  }
}
template <int kCount>
__device__ __forceinline__ int sum_number(int lane) {
  return lane / (32 / kCount);
}

// --- kernels

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads, Tr::kBlocks) nade_nll_fwd_kernel(const __grid_constant__ NadeParams p) {
  using Acc = typename Tr::Acc;
  const NadeWarp<Tr> warp(p);
  if (warp.tile >= p.tiles) return;  // the whole warp
  const int64_t sample = warp.part * Tr::kSamples;
  Acc a[Tr::kSamples], h[Tr::kSamples];
#pragma unroll
  for (int m = 0; m < Tr::kSamples; ++m) {
    a[m] = warp.number(p.hidden_bias, warp.unit);
    h[m] = nade_unit(a[m]);
  }
  for (int64_t first = 0; first < p.inputs; first += Tr::kSteps) {
    Acc w[Tr::kSteps], v[Tr::kSteps];
    warp.rows(p, p.weight, first, w);
    warp.rows(p, p.output_weight, first, v);
#pragma unroll
    for (int m = 0; m < Tr::kSamples; ++m) {
      if (sample + m >= p.images) break;
      const Acc xs = warp.column(p, p.x, sample + m, first, p.inputs - 1);
      const unsigned ones = __ballot_sync(0xffffffffu, !(xs == 0));
      Acc products[Tr::kSteps];
#pragma unroll
      for (int s = 0; s < Tr::kSteps; ++s) {
        products[s] = v[s] * h[m];
        if (ones >> s & 1u) {
          a[m] += w[s] * __shfl_sync(0xffffffffu, xs, s);
          h[m] = nade_unit(a[m]);
        }
      }
      transposed_sum<Tr::kSteps / 2, 16>(products, warp.lane);
      const int64_t d = first + sum_number<Tr::kSteps>(warp.lane);
      if (warp.lane % (32 / Tr::kSteps) == 0 && d < p.inputs)
        static_cast<Acc*>(p.logits)[(warp.tile * p.images + sample + m) * p.inputs + d] = products[0];
    }
  }
}

// a at the start of each segment, of a chunk's samples.
template <class Tr>
__device__ __forceinline__ void nade_keep_starts(const NadeParams& p, const NadeWarp<Tr>& warp, int64_t sample,
                                                 int count, typename Tr::Acc* starts) {
  using Acc = typename Tr::Acc;
  const int64_t width = p.tiles * 32;
  const Acc bias = warp.number(p.hidden_bias, warp.unit);
  for (int m = 0; m < count; ++m) starts[m * width] = bias;
  for (int64_t first = 0; first + Tr::kSteps < p.inputs; first += Tr::kSteps) {
    Acc w[Tr::kSteps];
    warp.rows(p, p.weight, first, w);
    for (int m = 0; m < count; ++m) {
      const Acc xs = warp.column(p, p.x, sample + m, first, p.inputs - 1);
      const unsigned ones = __ballot_sync(0xffffffffu, !(xs == 0));
      Acc a = starts[m * width];
#pragma unroll
      for (int s = 0; s < Tr::kSteps; ++s)
        if (ones >> s & 1u) a += w[s] * __shfl_sync(0xffffffffu, xs, s);
      starts[(Tr::kChunk + m) * width] = a;
    }
    starts += Tr::kChunk * width;
  }
}

// One sample's segment, there and back; a: at its start, down: G behind it, then before it.
template <class Tr>
__device__ __forceinline__ void nade_there_and_back(const typename Tr::Acc (&w)[Tr::kSteps],
                                                    const typename Tr::Acc (&v)[Tr::kSteps], typename Tr::Acc xs,
                                                    typename Tr::Acc gs, typename Tr::Acc a, typename Tr::Acc& down,
                                                    typename Tr::Acc (&grad_w)[Tr::kSteps],
                                                    typename Tr::Acc (&grad_v)[Tr::kSteps]) {
  using Acc = typename Tr::Acc;
  const unsigned ones = __ballot_sync(0xffffffffu, !(xs == 0));
  Acc units[Tr::kSteps];
  Acc h = nade_unit(a);
#pragma unroll
  for (int s = 0; s < Tr::kSteps; ++s) {
    units[s] = h;
    if (ones >> s & 1u) {
      a += w[s] * __shfl_sync(0xffffffffu, xs, s);
      h = nade_unit(a);
    }
  }
#pragma unroll
  for (int s = Tr::kSteps - 1; s >= 0; --s) {
    if (ones >> s & 1u) grad_w[s] += down * __shfl_sync(0xffffffffu, xs, s);
    const Acc g = __shfl_sync(0xffffffffu, gs, s);
    grad_v[s] += g * units[s];
    down += g * v[s] * nade_slope(units[s]);
  }
}

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads) nade_nll_bwd_kernel(const __grid_constant__ NadeParams p) {
  using Acc = typename Tr::Acc;
  __shared__ Acc down[Tr::kChunk][Tr::kThreads];  // G; each thread's own column
  const NadeWarp<Tr> warp(p);
  if (warp.tile >= p.tiles) return;  // the whole warp
  const int64_t segments = (p.inputs + Tr::kSteps - 1) / Tr::kSteps, width = p.tiles * 32;
  Acc* const starts = static_cast<Acc*>(p.starts) + warp.part * segments * Tr::kChunk * width + warp.unit;
  const int64_t own = warp.part * p.inputs * p.hidden + warp.unit;
  Acc* const grad_weight = static_cast<Acc*>(p.grad_weight) + own;
  Acc* const grad_output = static_cast<Acc*>(p.grad_output_weight) + own;
  const int64_t begin = warp.part * p.each, end = begin + p.each < p.images ? begin + p.each : p.images;
  Acc bias = 0;
  for (int64_t sample = begin; sample < end; sample += Tr::kChunk) {
    const int count = static_cast<int>(end - sample < Tr::kChunk ? end - sample : Tr::kChunk);
    nade_keep_starts<Tr>(p, warp, sample, count, starts);
    for (int m = 0; m < count; ++m) down[m][threadIdx.x] = 0;
    for (int64_t segment = segments - 1; segment >= 0; --segment) {
      const int64_t first = segment * Tr::kSteps;
      Acc w[Tr::kSteps], v[Tr::kSteps], grad_w[Tr::kSteps] = {}, grad_v[Tr::kSteps] = {};
      warp.rows(p, p.weight, first, w);
      warp.rows(p, p.output_weight, first, v);
      for (int m = 0; m < count; ++m) {
        const Acc xs = warp.column(p, p.x, sample + m, first, p.inputs - 1);
        const Acc gs = warp.column(p, p.grad_logits, sample + m, first, p.inputs);
        const Acc a = starts[(segment * Tr::kChunk + m) * width];
        nade_there_and_back<Tr>(w, v, xs, gs, a, down[m][threadIdx.x], grad_w, grad_v);
      }
#pragma unroll
      for (int s = 0; s < Tr::kSteps; ++s) {
        if (!warp.active || first + s >= p.inputs) continue;
        const int64_t at = (first + s) * p.hidden;
        grad_weight[at] = sample > begin ? grad_weight[at] + grad_w[s] : grad_w[s];
        grad_output[at] = sample > begin ? grad_output[at] + grad_v[s] : grad_v[s];
      }
    }
    for (int m = 0; m < count; ++m) bias += down[m][threadIdx.x];
  }
  if (warp.active) static_cast<Acc*>(p.grad_hidden_bias)[warp.part * p.hidden + warp.unit] = bias;
}

}  // namespace
}  // namespace pygen::cuda
