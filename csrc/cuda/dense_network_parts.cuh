// What a block works with that runs a dense network (dense_network.cuh), and its products: sums of many units over
// sources that are known, by all of its warps.
#pragma once

#include <cuda_runtime.h>

#include "cuda/dense_network.h"

namespace pygen::cuda {

constexpr unsigned kDenseLanes = 0xffffffffu;

// A rule says what an input gives to the first layer, and what becomes of a hidden unit's sum:
//   Number                  what is computed in
//   Step, kStepBytes        what a step of an image is decided by, and then its result
//   look_up(at)             of input `at` of [n, inputs]: a step, nearly all of it waits for memory
//   decide(outputs, step)   by one warp, each lane with a step of its own, which keeps the result; outputs may change
//   kSpread                 whether the warp writes all that an input gives at once, by
//   give(step, sources, to) or one after the other, by
//   given(step, k)          of a step decided: number k of what the input gives
//   write(at, step)         the result
//   kGated                  whether units have gates: numbers that lie where their values will
//   gates                   [n, act_size] of them
//   activate(sum, gate)
template <class Rule>
struct DenseParams {
  using T = typename Rule::Number;
  const DenseLayer* layers;
  const int64_t *table, *order;
  const T *packed, *added;
  T* memory;  // of images, where they are not in shared memory
  int64_t n, added_pitch;
  int inputs, sources, num_layers, outs, panel, act_size, sum_size, image_size;
  int steps_at, triangle_at, buffer_bytes;
  Rule rule;
};

// One source of a panel, in the order in which they become known: where its value comes from, whom it is added to.
struct alignas(16) DenseEvent {
  int value;           // of an image's sums
  int weight, target;  // of the triangle; of an image's sums
  int count;           // of units from there on
  int act;             // of an image
  int step;            // of the panel, or one of the two below
  int number;          // of the input that the step decides
};
static_assert(sizeof(DenseEvent) == kDenseEventBytes);
constexpr int kDenseHidden = -1, kDenseEnd = -2;  // a hidden unit; no event, but the last one's end

// Steps first .. last-1, and the buffers that take turns.
template <class Rule>
struct DensePanel {
  int first, last, most;  // most: steps of a whole panel
  DenseEvent* events;
  typename Rule::Step* steps;  // [images, most]
  typename Rule::Number* triangle;
  int sums;  // of an image's memory
};

struct DenseRange {
  int first, last;
  __device__ __forceinline__ int size() const { return last - first; }
};

// This thread's place. What is made of it is not to be kept in registers all through the kernel.
__device__ __forceinline__ int dense_thread() {
  int thread = static_cast<int>(threadIdx.x);
  asm volatile("" : "+r"(thread));
  return thread;
}
__device__ __forceinline__ int dense_lane() { return dense_thread() % 32; }

// Those warps that do a piece of work together.
struct DenseCrew {
  int warp, warps;  // this thread's; how many
  __device__ __forceinline__ int thread() const { return warp * 32 + dense_lane(); }
};

template <class Rule>
struct DenseBlock {
  using T = typename Rule::Number;
  using Step = typename Rule::Step;
  static_assert(sizeof(Step) == Rule::kStepBytes);
  const DenseParams<Rule>& p;
  char* shared;
  T* images_at;  // of this block's images
  int64_t first_image;
  int images;

  __device__ __forceinline__ T* image(int i) const { return images_at + i * p.image_size; }
  __device__ __forceinline__ T bias(const DenseLayer& layer, int i, int unit) const {
    return p.added == nullptr ? p.packed[layer.bias + unit]
                              : p.added[(first_image + i) * p.added_pitch + layer.added + unit];
  }
  __device__ __forceinline__ int below(int64_t counts, int degree) const {
    return static_cast<int>(__ldg(p.table + counts + degree));
  }
  __device__ __forceinline__ DenseRange range(int64_t counts, const DensePanel<Rule>& panel) const {
    return {below(counts, panel.first), below(counts, panel.last)};
  }
  __device__ __forceinline__ DensePanel<Rule> panel(int number) const {
    const int first = number * p.panel, turn = number % 2;
    char* const buffer = shared + turn * p.buffer_bytes;
    return {first,
            min(first + p.panel, p.inputs),
            p.panel,
            reinterpret_cast<DenseEvent*>(buffer),
            reinterpret_cast<Step*>(buffer + p.steps_at),
            reinterpret_cast<T*>(buffer + p.triangle_at),
            p.act_size + turn * p.sum_size};
  }
};

// Sums of N numbers over a warp: lane l gets number l / (32 / N). Every number is summed by the same tree for any N.
template <class T, int N>
__device__ __forceinline__ T warp_sums(T (&numbers)[N], int lane) {
  static_assert(N <= 32 && (N & (N - 1)) == 0, "halved at every step, until one is left");
  int left = N;
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    if (left == 1) {
      numbers[0] += __shfl_xor_sync(kDenseLanes, numbers[0], distance);
      continue;
    }
    left /= 2;
    const bool upper = lane & distance;
#pragma unroll
    for (int j = 0; j < N / 2; ++j) {
      if (j >= left) break;
      const T kept = upper ? numbers[j + left] : numbers[j], given = upper ? numbers[j] : numbers[j + left];
      numbers[j] = kept + __shfl_xor_sync(kDenseLanes, given, distance);
    }
  }
  return numbers[0];
}

template <class T>
struct alignas(16) DenseVector {
  static constexpr int kSize = 16 / sizeof(T);
  T at[kSize];
};

constexpr int kDenseRows = 4;                                                  // units of one warp at a time
constexpr int dense_threads(bool in_shared) { return in_shared ? 512 : 384; }  // with more, registers would be spilled

// A layer's units and its sources from .. to-1, `from` a multiple of 16 bytes: to a panel's sums, which
// start from the bias where `from` is 0. A warp sums kDenseRows units of all images, a lane 16 bytes of sources at a
// time.
template <class Rule, int kImages>
__device__ __forceinline__ void gather(const DenseBlock<Rule>& block, const DenseLayer& layer, DenseRange units,
                                       int from, int to, int sums, DenseCrew crew) {
  using T = typename Rule::Number;
  constexpr int V = DenseVector<T>::kSize, N = kDenseRows * kImages;
  const int lane = dense_lane();
  const T* const acts = block.images_at + layer.act;
  for (int unit = units.first + crew.warp * kDenseRows; unit < units.last; unit += crew.warps * kDenseRows) {
    const T* const row = block.p.packed + layer.weight + unit * layer.pitch;
    int rows[kDenseRows];
#pragma unroll
    for (int r = 0; r < kDenseRows; ++r) rows[r] = min(r, units.last - 1 - unit) * static_cast<int>(layer.pitch);
    T partial[N] = {};
#pragma unroll(kImages > 2 ? 1 : 2)
    for (int k = from + lane * V; k < to; k += 32 * V) {
      DenseVector<T> w[kDenseRows];
#pragma unroll
      for (int r = 0; r < kDenseRows; ++r) w[r] = *reinterpret_cast<const DenseVector<T>*>(row + rows[r] + k);
      if (k + V > to) {  // live weights of sources that are not known yet
#pragma unroll
        for (int v = 0; v < V; ++v) {
#pragma unroll
          for (int r = 0; r < kDenseRows; ++r) w[r].at[v] = k + v < to ? w[r].at[v] : T(0);
        }
      }
#pragma unroll
      for (int i = 0; i < kImages; ++i) {
        const auto x = *reinterpret_cast<const DenseVector<T>*>(acts + i * block.p.image_size + k);
#pragma unroll
        for (int r = 0; r < kDenseRows; ++r) {
#pragma unroll
          for (int v = 0; v < V; ++v) partial[r * kImages + i] += w[r].at[v] * x.at[v];
        }
      }
    }
    const T total = warp_sums(partial, lane);
    const int number = lane / (32 / N), i = number % kImages, own = unit + number / kImages;
    if (lane % (32 / N) != 0 || i >= block.images || own >= units.last) continue;
    T* const sum = block.image(i) + sums + layer.sum + (own - units.first);
    *sum = (from == 0 ? block.bias(layer, i, own) : *sum) + total;
  }
}

}  // namespace pygen::cuda
