// logistic_mixture_nll for NVIDIA GPUs. Formula: csrc/common/logistic_mixture_nll.h. Not yet run on a GPU.
//
// Traffic of a pixel, P parameters of T bytes and C levels: forward reads P T + C bytes (8 C of int64), backward reads
// them and writes P T. 15 K exponentials and 3 K logarithms a pixel of three channels, forward as backward.
//
// A block takes 32 positions of one image, a warp one component of all of them (or several, one after the other), so
// that a row of parameters [N, P, positions] is read and written side by side, what a component's gradient is made of
// stays in registers while the others' logarithms come together in shared memory, and no two threads work for the same
// result. Where positions lie apart (channels_last) the tile goes through shared memory, its pixels one after the
// other.
#pragma once

#include "common/logistic_mixture_nll.h"
#include "cuda/convert.cuh"
#include "cuda/loss_sums.cuh"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

// --- params

template <class Acc>
struct MixtureParams {
  Positions params, x, grad_params;
  const void* grad_nll;      // [N] or one number
  void* partial;             // forward: a sum for each tile, or with `each` a loss for each position
  int64_t positions, tiles;  // of an image
  int64_t grad_nll_stride;
  double min_log_scale, scale;
  Bins<Acc> bins;
  int components, num_levels;
  bool wide_levels;
  bool each;          // a position is a sample: no sums
  bool per_position;  // grad_nll has a number for each position
};

// --- traits

template <class Number, int kImageChannels>
struct MixtureTraits {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kChannels = kImageChannels;
  static constexpr int kParts = kChannels == 1 ? 2 : 3;      // of a channel's parameters
  static constexpr int kRows = 1 + kParts * kChannels;       // numbers that describe a component
  static constexpr int kTile = 32;                           // positions
  static constexpr int kMaxWarps = sizeof(T) == 8 ? 8 : 16;  // of float64 more would spill
  // Rows of the staged tile start in other banks.
  static __host__ __device__ int64_t pitch(int64_t components) { return (kRows * components) | 1; }
};

// --- kernels

// A component at one position: its parameters' values, and what its gradient is made of.
template <class Tr>
struct Component {
  using Acc = typename Tr::Acc;
  Acc logit, joint;
  Acc to_mean[Tr::kChannels], to_log_scale[Tr::kChannels], to_tanh[Tr::kChannels];
  bool floored[Tr::kChannels];

  // row(j): the j-th of the component's parameters, the K of a kind one after the other.
  template <bool kGrad, class Row>
  __device__ __forceinline__ void evaluate(const PixelLevel<Acc> (&level)[Tr::kChannels], const Bins<Acc>& bins,
                                           Acc least, const Row& row) {
    logit = row(0);
    joint = logit;
    Acc tanhs[Tr::kChannels];
    if constexpr (Tr::kChannels == 3) {
#pragma unroll
      for (int c = 0; c < 3; ++c) {
        Acc slope;
        tanhs[c] = tanh_of<Acc>(row(3 + 3 * c), slope);
        to_tanh[c] = slope * level[c == 2 ? 1 : 0].v;
      }
    }
#pragma unroll
    for (int c = 0; c < Tr::kChannels; ++c) {
      Acc mean = row(1 + Tr::kParts * c);
      if (c == 1) mean += tanhs[0] * level[0].v;
      if (c == 2) mean += tanhs[1] * level[0].v + tanhs[2] * level[1].v;
      const Acc raw = row(2 + Tr::kParts * c);
      const Logistic<Acc> of = discretised_logistic<kGrad, Acc>(level[c], mean, Lanes<Acc>::at_least(raw, least), bins);
      joint += of.log_p;
      to_mean[c] = of.to_mean;
      to_log_scale[c] = of.to_log_scale;
      floored[c] = raw < least;
    }
  }

  // row(j, value): stores the gradient of the j-th parameter.
  template <class Row>
  __device__ __forceinline__ void gradients(Acc to_logit, Acc weight, const Row& row) const {
    row(0, to_logit);
#pragma unroll
    for (int c = 0; c < Tr::kChannels; ++c) {
      row(1 + Tr::kParts * c, weight * to_mean[c]);
      row(2 + Tr::kParts * c, floored[c] ? Acc(0) : weight * to_log_scale[c]);
      if constexpr (Tr::kChannels == 3) row(3 + 3 * c, weight * to_mean[c == 0 ? 1 : 2] * to_tanh[c]);
    }
  }
};

template <class Acc>
__device__ __forceinline__ Acc scaled_level(const MixtureParams<Acc>& p, int64_t at) {
  const int64_t level = p.wide_levels ? __ldg(reinterpret_cast<const long long*>(p.x.data) + at)
                                      : static_cast<int64_t>(__ldg(reinterpret_cast<const uint8_t*>(p.x.data) + at));
  if (level < 0 || level >= p.num_levels) return Acc(NAN);
  return static_cast<Acc>(2 * static_cast<int>(level) - (p.num_levels - 1)) / static_cast<Acc>(p.num_levels - 1);
}

// Between the tile's pixels in memory and its rows in shared memory; a warp takes a pixel at a time.
template <class Tr, class Move>
__device__ __forceinline__ void for_each_staged(int64_t live, int64_t num_params, const Move& move) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warps = static_cast<int>(blockDim.x) / 32;
  for (int64_t pixel = threadIdx.x / 32; pixel < live; pixel += warps) {
    for (int64_t j = lane; j < num_params; j += 32) move(pixel, j);
  }
}

template <class Tr, bool kGrad, bool kStaged>
__global__ void __launch_bounds__(Tr::kTile* Tr::kMaxWarps, 1)
    logistic_mixture_nll_kernel(const __grid_constant__ MixtureParams<typename Tr::Acc> p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  constexpr int kTile = Tr::kTile;
  const int lane = static_cast<int>(threadIdx.x) % kTile, warp = static_cast<int>(threadIdx.x) / kTile;
  const int warps = static_cast<int>(blockDim.x) / kTile, components = p.components;
  const int64_t image = blockIdx.x / p.tiles, first = (blockIdx.x - image * p.tiles) * kTile;
  const int64_t position = first + lane, num_params = static_cast<int64_t>(Tr::kRows) * components;
  const int64_t live = p.positions - first < kTile ? p.positions - first : kTile;
  const int64_t readable = lane < live ? position : p.positions - 1;

  PYGEN_DYNAMIC_SHARED(memory);
  Acc* const joints = reinterpret_cast<Acc*>(memory);  // [K, kTile], as the next
  Acc* const logits = joints + components * kTile;
  Acc* const stage = logits + components * kTile;  // [kTile, pitch]
  const int64_t pitch = Tr::pitch(components);
  const T* const params = reinterpret_cast<const T*>(p.params.data) + image * p.params.image;
  if constexpr (kStaged) {
    for_each_staged<Tr>(live, num_params, [&](int64_t pixel, int64_t j) {
      stage[pixel * pitch + j] = widen_to(params[(first + pixel) * p.params.position + j * p.params.channel]);
    });
    __syncthreads();
  }

  PixelLevel<Acc> level[Tr::kChannels];
#pragma unroll
  for (int c = 0; c < Tr::kChannels; ++c) {
    level[c] = PixelLevel<Acc>(scaled_level(p, image * p.x.image + c * p.x.channel + readable * p.x.position), p.bins);
  }
  const Acc least = static_cast<Acc>(p.min_log_scale);
  Component<Tr> component;
  const auto evaluate = [&](int k) {
    component.template evaluate<kGrad>(level, p.bins, least, [&](int j) -> Acc {
      const int64_t at = static_cast<int64_t>(j) * components + k;
      if constexpr (kStaged) {
        return stage[lane * pitch + at];  // past the last pixel what nobody wrote, nor reads what becomes of it
      } else {
        return widen_to(params[readable * p.params.position + at * p.params.channel]);
      }
    });
  };
  for (int k = warp; k < components; k += warps) {
    evaluate(k);
    joints[k * kTile + lane] = component.joint;
    logits[k * kTile + lane] = component.logit;
  }
  __syncthreads();

  Acc top = -Lanes<Acc>::kMax, top_logit = top;
  for (int k = 0; k < components; ++k) {
    const Acc joint = joints[k * kTile + lane], logit = logits[k * kTile + lane];
    top = joint > top ? joint : top;
    top_logit = logit > top_logit ? logit : top_logit;
  }
  __syncthreads();
  for (int k = warp; k < components; k += warps) {
    joints[k * kTile + lane] = exp_minus_abs<Acc>(joints[k * kTile + lane] - top);
    logits[k * kTile + lane] = exp_minus_abs<Acc>(logits[k * kTile + lane] - top_logit);
  }
  __syncthreads();
  Acc sum = 0, sum_logits = 0;
  for (int k = 0; k < components; ++k) {
    sum += joints[k * kTile + lane];
    sum_logits += logits[k * kTile + lane];
  }

  if constexpr (!kGrad) {
    if (warp != 0) return;
    Acc nll = (top_logit - top) + (log_or_nan(sum_logits) - log_or_nan(sum));
#pragma unroll
    for (int c = 0; c < Tr::kChannels; ++c) nll -= level[c].log_width;
    if (sum == 0) nll = Acc(INFINITY);    // no component gives the level any chance
    if (sum_logits == 0) nll = Acc(NAN);  // no component
    if (p.each) {
      if (lane < live) static_cast<Acc*>(p.partial)[position] = nll;
      return;
    }
    nll = group_sum<kTile>(lane < live ? nll : Acc(0), kTile);
    if (lane == 0) static_cast<Acc*>(p.partial)[blockIdx.x] = nll;
  } else {
    const int64_t from = p.per_position ? readable : image;
    const Acc g = static_cast<const Acc*>(p.grad_nll)[from * p.grad_nll_stride] * static_cast<Acc>(p.scale);
    const Acc by_sum = g / sum, by_logits = g / sum_logits;
    T* const grads = reinterpret_cast<T*>(p.grad_params.data) + image * p.grad_params.image;
    for (int k = warp; k < components; k += warps) {
      if (components > warps) evaluate(k);
      const Acc weight = joints[k * kTile + lane] * by_sum, prior = logits[k * kTile + lane] * by_logits;
      component.gradients(prior - weight, weight, [&](int j, Acc value) {
        const int64_t at = static_cast<int64_t>(j) * components + k;
        if (lane >= live) return;
        if constexpr (kStaged) {
          stage[lane * pitch + at] = value;
        } else {
          grads[position * p.grad_params.position + at * p.grad_params.channel] = narrow_to<T>(value);
        }
      });
    }
    if constexpr (kStaged) {
      __syncthreads();
      for_each_staged<Tr>(live, num_params, [&](int64_t pixel, int64_t j) {
        grads[(first + pixel) * p.grad_params.position + j * p.grad_params.channel] =
            narrow_to<T>(stage[pixel * pitch + j]);
      });
    }
  }
}

}  // namespace
}  // namespace pygen::cuda
