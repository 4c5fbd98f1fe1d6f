// Draws images from a pixel model: the loop over all pixels in one launch. A block owns a few images from the first
// pixel to the last, so blocks never wait for each other; a stage ends at the block's barrier.
//
// Weights of late stages and the present rows live in shared memory as far as they fit, the rest in L2. Each output
// channel is summed by kParts lanes, each over its part of the input channels, and always in the same order: an image
// does not depend on its neighbours in the block.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/pixel_lstm.h"
#include "cuda/launch.cuh"
#include "cuda/sampling.h"
#include "cuda/sampling_decide.cuh"
#include "cuda/sampling_gate.cuh"

namespace pygen::cuda {

constexpr int kParts = kSamplingParts;
constexpr int kImages = 4;  // that share one read of a weight

template <class T>
struct SamplingParams {
  const SamplingStage* stages;
  const SamplingStream* streams;
  const int32_t* taps;
  const T* weights;
  T* rings;
  int64_t ring_size, shared_ring_size, shared_weights;
  SamplingDraws draws;
  int64_t n, channels, height, width, groups;
  int num_stages, images_per_block;
};

// --- where things are

template <class T>
struct Place {
  const SamplingParams<T>& p;
  const T* shared_weights;
  T* shared_rings;
  int64_t first_image;
  int images;  // of this block

  // The channels of image i at (y, x).
  __device__ __forceinline__ T* at(const SamplingStream& s, int i, int64_t y, int64_t x) const {
    T* const ring = s.in_shared ? shared_rings + i * p.shared_ring_size : p.rings + (first_image + i) * p.ring_size;
    return ring + s.offset + ((y % s.rows) * s.cols + (s.cols == 1 ? 0 : x)) * s.channels;
  }
  __device__ __forceinline__ const T* weight(int64_t offset) const {
    return (offset < p.shared_weights ? shared_weights : p.weights) + offset;
  }
};

template <class T>
__device__ __forceinline__ T cond_at(const SamplingStage& stage, int64_t image, int64_t channel, int64_t y, int64_t x) {
  if (stage.cond == 0) return T(0);
  return reinterpret_cast<const T*>(
      stage.cond)[image * stage.cond_image + channel * stage.cond_channel + y * stage.cond_row + x * stage.cond_column];
}

// --- stages, over columns x0 .. x1-1 of row y and, where late, over colour block g

template <class T, bool kGate>
__device__ __forceinline__ void convolve(const Place<T>& place, const SamplingStage& stage, int64_t y, int64_t x0,
                                         int64_t x1, int g) {
  const SamplingStream source = place.p.streams[stage.source], out = place.p.streams[stage.out];
  const int outputs = static_cast<int>(out.channels / stage.groups);
  const int image_blocks = (place.images + kImages - 1) / kImages;
  const int slots = static_cast<int>(blockDim.x) / kParts, part = static_cast<int>(threadIdx.x) % kParts;
  const int items = static_cast<int>(x1 - x0) * image_blocks * outputs;
  // The convolution's channel of the gate's first half, and how far its second half is.
  const int first = g * outputs * (kGate ? 2 : 1), second = kGate ? outputs : 0;
  const int stride = static_cast<int>(stage.computed);
  for (int base = 0; base < items; base += slots) {
    const int item = base + static_cast<int>(threadIdx.x) / kParts;
    const bool active = item < items;
    const int j = item % outputs, i0 = item / outputs % image_blocks * kImages;
    const int64_t x = x0 + item / outputs / image_blocks;
    T sum[kImages] = {}, other[kImages] = {};
    for (int t = 0; active && t < stage.num_taps; ++t) {
      const int dy = place.p.taps[2 * (stage.taps + t)], dx = place.p.taps[2 * (stage.taps + t) + 1];
      if (y + dy < 0 || x + dx < 0 || x + dx >= place.p.width) continue;
      int64_t read = source.channels;  // of a late stream, those that are made already
      if (!stage.early && dx == 0) read = source.channels / stage.groups * (g + (stage.strict ? 0 : 1));
      const int c0 = static_cast<int>(part * stage.channels_per_part);
      const int c1 = static_cast<int>(min(read, c0 + stage.channels_per_part));
      const T* w = place.weight(stage.weight + (t * kParts + part) * stage.part_size) + first + j;
      const T* in[kImages];
#pragma unroll
      for (int i = 0; i < kImages; ++i) in[i] = place.at(source, min(i0 + i, place.images - 1), y + dy, x + dx);
      for (int c = c0; c < c1; ++c, w += stride) {
        const T a = w[0], b = kGate ? w[second] : T(0);
#pragma unroll
        for (int i = 0; i < kImages; ++i) {
          const T v = stage.relu && in[i][c] < T(0) ? T(0) : in[i][c];
          sum[i] += a * v;
          if (kGate) other[i] += b * v;
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kImages; ++i) {
#pragma unroll
      for (int delta = kParts / 2; delta > 0; delta /= 2) {
        sum[i] += __shfl_down_sync(kAllLanes, sum[i], delta, kParts);
        if (kGate) other[i] += __shfl_down_sync(kAllLanes, other[i], delta, kParts);
      }
    }
    if (!active || part != 0) continue;
    const T* const bias = place.weight(stage.bias) + first + j;
#pragma unroll
    for (int i = 0; i < kImages; ++i) {
      if (i0 + i >= place.images) break;
      T a = sum[i] + bias[0], b = kGate ? other[i] + bias[second] : T(0);
      if (stage.add >= 0) {
        const T* const add = place.at(place.p.streams[stage.add], i0 + i, y, x) + first + j;
        a += add[0];
        if (kGate) b += add[second];
      }
      if (kGate) {
        const int64_t image = place.first_image + i0 + i;
        a = gate_of(a + cond_at<T>(stage, image, first + j, y, x),
                    b + cond_at<T>(stage, image, first + second + j, y, x));
      }
      place.at(out, i0 + i, y, x)[g * outputs + j] = a;
    }
  }
}

template <class T>
__device__ __forceinline__ void gate(const Place<T>& place, const SamplingStage& stage, int64_t y, int64_t x0,
                                     int64_t x1, int g) {
  const SamplingStream source = place.p.streams[stage.source], out = place.p.streams[stage.out];
  const int outputs = static_cast<int>(out.channels / stage.groups), first = 2 * g * outputs;
  const int items = static_cast<int>(x1 - x0) * place.images * outputs;
  for (int item = static_cast<int>(threadIdx.x); item < items; item += static_cast<int>(blockDim.x)) {
    const int j = item % outputs, i = item / outputs % place.images;
    const int64_t x = x0 + item / outputs / place.images, image = place.first_image + i;
    const T* const in = place.at(source, i, y, x) + first + j;
    place.at(out, i, y, x)[g * outputs + j] =
        gate_of(in[0] + cond_at<T>(stage, image, first + j, y, x),
                in[outputs] + cond_at<T>(stage, image, first + outputs + j, y, x));
  }
}

// An early one takes all its blocks at once.
template <class T>
__device__ __forceinline__ void lstm(const Place<T>& place, const SamplingStage& stage, int64_t y, int64_t x0,
                                     int64_t x1, int g) {
  const SamplingStream source = place.p.streams[stage.source], out = place.p.streams[stage.out],
                       cells = place.p.streams[stage.cells];
  const int outputs = static_cast<int>(out.channels / stage.groups);
  const int blocks = stage.early ? static_cast<int>(stage.groups) : 1, first_block = stage.early ? 0 : g;
  const int items = static_cast<int>(x1 - x0) * place.images * blocks * outputs;
  for (int item = static_cast<int>(threadIdx.x); item < items; item += static_cast<int>(blockDim.x)) {
    const int j = item % outputs, block = first_block + item / outputs % blocks;
    const int i = item / outputs / blocks % place.images, at = block * outputs + j;
    const int64_t x = x0 + item / outputs / blocks / place.images;
    const bool first = stage.along ? x == (stage.along > 0 ? 0 : place.p.width - 1) : y == stage.first_row;
    const T* const in = place.at(source, i, y, x) + 4 * block * outputs + j;
    T* const c = place.at(cells, i, y, x) + at;
    LstmUnit<T> unit{in[0], in[outputs], in[2 * outputs], in[3 * outputs], T(0)};
    const T h = lstm_step(unit, first ? T(0) : *c);
    *c = unit.c;
    place.at(out, i, y, x)[at] = y < stage.first_row ? T(0) : h;
  }
}

template <class T>
__device__ __forceinline__ void sum(const Place<T>& place, const SamplingStage& stage, int64_t y, int64_t x0,
                                    int64_t x1, int g) {
  const SamplingStream source = place.p.streams[stage.source], add = place.p.streams[stage.add],
                       out = place.p.streams[stage.out];
  const int outputs = static_cast<int>(out.channels / stage.groups);
  const int items = static_cast<int>(x1 - x0) * place.images * outputs;
  for (int item = static_cast<int>(threadIdx.x); item < items; item += static_cast<int>(blockDim.x)) {
    const int at = g * outputs + item % outputs, i = item / outputs % place.images;
    const int64_t x = x0 + item / outputs / place.images;
    place.at(out, i, y, x)[at] = place.at(source, i, y, x)[at] + place.at(add, i, y, x)[at];
  }
}

template <class T>
__device__ __forceinline__ void run(const Place<T>& place, int s, int64_t y, int64_t x0, int64_t x1, int g) {
  const SamplingStage stage = place.p.stages[s];  // in registers: what is written meanwhile cannot change it
  if (stage.kind == 0) {
    convolve<T, false>(place, stage, y, x0, x1, g);
  } else if (stage.kind == 1) {
    gate<T>(place, stage, y, x0, x1, g);
  } else if (stage.kind == 2) {
    convolve<T, true>(place, stage, y, x0, x1, g);
  } else if (stage.kind == 3) {
    lstm<T>(place, stage, y, x0, x1, g);
  } else {
    sum<T>(place, stage, y, x0, x1, g);
  }
  __syncthreads();
}

// A row of an early stage; of an LSTM along the row and the convolution before it, pixel after pixel. How many stages.
template <class T>
__device__ __forceinline__ int run_row(const Place<T>& place, int s, int64_t y) {
  const int64_t along = place.p.stages[s].along, width = place.p.width;
  if (along == 0) {
    run(place, s, y, 0, width, 0);
    return 1;
  }
  for (int64_t i = 0; i < width; ++i) {
    const int64_t x = along > 0 ? i : width - 1 - i;
    run(place, s, y, x, x + 1, 0);
    run(place, s + 1, y, x, x + 1, 0);
  }
  return 2;
}

// --- decisions

template <class T>
__device__ __forceinline__ void draw(const Place<T>& place, int64_t y, int64_t x, int g) {
  const SamplingParams<T>& p = place.p;
  const int each = static_cast<int>(p.channels / p.groups), warps = static_cast<int>(blockDim.x) / 32;
  const SamplingStream pixels = p.streams[0], logits = p.streams[p.stages[p.num_stages - 1].out];
  for (int item = static_cast<int>(threadIdx.x) / 32; item < place.images * each; item += warps) {
    const int i = item / each, channel = g * each + item % each;
    const int64_t image = place.first_image + i;
    const int64_t position = ((image * p.channels + channel) * p.height + y) * p.width + x;
    const int64_t at_u = ((image * p.height + y) * p.width + x) * p.channels + channel;
    int64_t level = decide(place.at(logits, i, y, x) + channel * p.draws.num_levels, p.draws.num_levels,
                           p.draws.temperature, noise_of(p.draws, at_u));
    if (threadIdx.x % 32 != 0) continue;
    if (is_known(p.draws, position)) level = known_level(p.draws, position);
    set_level(p.draws, position, level);
    place.at(pixels, i, y, x)[channel] = scaled_level<T>(level, T(p.draws.scale), T(p.draws.shift));
  }
  __syncthreads();
}

// --- the kernel

template <class T, int kThreads>
__global__ void __launch_bounds__(kThreads, 1) sampling_kernel(const SamplingParams<T> p) {
  PYGEN_DYNAMIC_SHARED(shared);
  T* const weights = reinterpret_cast<T*>(shared);
  for (int64_t i = threadIdx.x; i < p.shared_weights; i += blockDim.x) weights[i] = p.weights[i];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * p.images_per_block;
  const Place<T> place{p, weights, weights + p.shared_weights, first,
                       static_cast<int>(min(p.n - first, static_cast<int64_t>(p.images_per_block)))};
  __syncthreads();
  for (int64_t y = 0; y < p.height; ++y) {
    for (int s = 0; s < p.num_stages;) s += p.stages[s].early ? run_row(place, s, y) : 1;
    for (int64_t x = 0; x < p.width; ++x) {
      for (int g = 0; g < p.groups; ++g) {
        for (int s = 0; s < p.num_stages; ++s) {
          if (!p.stages[s].early) run(place, s, y, x, x + 1, g);
        }
        draw(place, y, x, g);
      }
    }
  }
}

}  // namespace pygen::cuda
