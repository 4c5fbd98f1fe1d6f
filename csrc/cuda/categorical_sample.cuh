// categorical_sample for NVIDIA GPUs. Formula: pygen/reference/categorical_sample.py. Not yet run on a GPU.
//
// Traffic of a channel's position, L logits of T bytes: L T read, its level (1 byte, or 8) written. Logits are read a
// second time, out of the caches, where the sum is reached: there a thread has one part of a draw's levels.
//
// Where positions lie side by side, a thread takes a draw and `split` warps share its levels, a range each, so that a
// row is read side by side; where levels do, a warp takes a draw at a time.
#pragma once

#include "cuda/convert.cuh"
#include "cuda/draws.cuh"
#include "cuda/loss_sums.cuh"
#include "cuda/softmax_terms.cuh"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

// --- params; draws are numbered image by image, channel by channel, position by position

struct CategoricalSampleParams {
  Positions logits, x;
  const int64_t* seed;
  int64_t count;  // of draws
  int64_t channels, positions;
  double inverse_temperature;
  int levels, split_bits;
  bool wide_levels;
};

// --- traits

template <class Number>
struct CategoricalSampleTraits {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kBatch = sizeof(T) == 8 ? 2 : 8;  // logits in flight in each thread
};

// --- kernels

template <class Tr>
struct Draw {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const T* logits;
  int64_t stride, x;
  Acc u, inverse;
  bool live;

  __device__ __forceinline__ Draw(const CategoricalSampleParams& p, int64_t number) {
    live = number < p.count;
    if (!live) number = p.count - 1;
    const int64_t row = quotient(number, p.positions), position = number - row * p.positions;
    const int64_t image = quotient(row, p.channels), channel = row - image * p.channels;
    logits = reinterpret_cast<const T*>(p.logits.data) + image * p.logits.image +
             channel * p.levels * p.logits.channel + position * p.logits.position;
    stride = p.logits.channel;
    x = image * p.x.image + channel * p.x.channel + position * p.x.position;
    const uint64_t seed = static_cast<uint64_t>(*p.seed);
    u = draw_uniform(seed, image, position * p.channels + channel, NoiseDomain::CategoricalSample);
    inverse = static_cast<Acc>(p.inverse_temperature);
  }
  __device__ __forceinline__ Acc logit(int j) const { return Acc(widen_to(logits[j * stride])); }
  __device__ __forceinline__ Terms<Acc> sweep(int first, int step, int end) const {
    return sweep_terms<Tr::kBatch, Acc>(end, -1, first, step, [this](int j) { return logit(j); }, inverse);
  }
};

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads)
    categorical_sample_kernel(const __grid_constant__ CategoricalSampleParams p) {
  using Acc = typename Tr::Acc;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int split = 1 << p.split_bits, part = warp & (split - 1), units = Tr::kThreads >> p.split_bits;
  const int mine = (warp >> p.split_bits) * 32 + lane;
  const Draw<Tr> draw(p, static_cast<int64_t>(blockIdx.x) * units + mine);
  const int each = (p.levels + split - 1) >> p.split_bits;
  const int begin = min(part * each, p.levels), end = min(begin + each, p.levels);
  const Terms<Acc> own = draw.sweep(begin, 1, end);

  __shared__ Acc tops[Tr::kThreads], sums[Tr::kThreads];  // [split, units]
  Acc top = own.top, total = own.others, before = 0, wanted = draw.u * total;
  int chosen = 0;
  if (split > 1) {
    tops[part * units + mine] = own.top;
    sums[part * units + mine] = own.others;
    __syncthreads();
    for (int other = 0; other < split; ++other) top = max(top, tops[other * units + mine]);
    const auto sum_of = [&](int other) {
      return sums[other * units + mine] * exp_term((tops[other * units + mine] - top) * draw.inverse);
    };
    total = 0;
    for (int other = 0; other < split; ++other) total += sum_of(other);
    wanted = draw.u * total;
    Acc run = 0;
    for (int other = 0; other < split; ++other) {
      const Acc sum = sum_of(other);
      if (sum > 0) {
        chosen = other;
        before = run;
        if (run + sum >= wanted) break;
      }
      run += sum;
    }
  }
  if (!draw.live || part != chosen) return;
  const int level = total > 0 ? first_to_reach<Tr::kBatch, Acc>(
                                    begin, end, [&](int j) { return draw.logit(j); }, top, draw.inverse, before, wanted)
                              : 0;
  store_level(p.x.data, draw.x, level, p.wide_levels);
}

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads)
    categorical_sample_along_kernel(const __grid_constant__ CategoricalSampleParams p) {
  using Acc = typename Tr::Acc;
  constexpr unsigned kAll = 0xffffffffu;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const Draw<Tr> draw(p, static_cast<int64_t>(blockIdx.x) * Tr::kWarps + warp);
  if (!draw.live) return;  // of all lanes
  Terms<Acc> terms = draw.sweep(lane, 32, p.levels);
  join_lanes(terms, draw.inverse);
  WarpSearch<Acc> search{draw.u * terms.others};
  Acc before = 0;
  for (int start = 0; terms.others > 0 && start < p.levels && !search.reached; start += 32) {
    const Acc term = start + lane < p.levels ? exp_term((draw.logit(start + lane) - terms.top) * draw.inverse) : Acc(0);
    const Acc up_to = sum_up_to_lane(term);
    search.take(start, term, before + up_to);
    before += __shfl_sync(kAll, up_to, 31);
  }
  const int found = search.result();
  if (lane == 0) store_level(p.x.data, draw.x, found, p.wide_levels);
}

}  // namespace
}  // namespace pygen::cuda
