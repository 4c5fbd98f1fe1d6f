// The numbers of an element of rational_quadratic_spline on NVIDIA GPUs: where they are read, and where their gradients
// are written.
#pragma once

#include "common/rational_quadratic_spline.h"
#include "cuda/coupling.cuh"
#include "cuda/launch.cuh"

namespace pygen::cuda {
namespace {

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

template <class T>
__device__ __forceinline__ typename Element<T>::Acc number_at(const char* data, int64_t at) {
  return static_cast<typename Element<T>::Acc>(reinterpret_cast<const T*>(data)[at]);
}
template <class T>
__device__ __forceinline__ void put_number(char* data, int64_t at, typename Element<T>::Acc value) {
  reinterpret_cast<T*>(data)[at] = static_cast<T>(value);
}

template <class Numbers>
__device__ __forceinline__ typename Numbers::Acc largest_logit(const Numbers& numbers, int axis) {
  const int first = axis * numbers.bins;
  typename Numbers::Acc largest = numbers.number(first);
  for (int k = 1; k < numbers.bins; ++k) {
    const auto other = numbers.number(first + k);
    largest = other > largest ? other : largest;
  }
  return largest;
}

// An element's numbers where they lie, exponentials made anew wherever one is asked for.
template <class Number>
struct DistantNumbers {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  const char* data;
  char* grads;
  int64_t step, grad_step, at, to;
  int bins;
  Acc most[2], share[2];

  __device__ __forceinline__ explicit DistantNumbers(const SplineParams<Acc>& p)
      : data(p.numbers.data),
        grads(p.grad_numbers.data),
        step(p.step),
        grad_step(p.grad_step),
        bins(p.constants.bins) {}
  // Where they are, and where their gradients go; below 0: nowhere.
  __device__ __forceinline__ void read(int64_t from, int64_t target) { at = from, to = target; }
  __device__ __forceinline__ Acc number(int k) const { return number_at<T>(data, at + k * step); }
  __device__ __forceinline__ void normalise(const SplineConstants<Acc>& c) {
    for (int axis = 0; axis < 2; ++axis) {
      Acc sum = 0;
      most[axis] = largest_logit(*this, axis);
      for (int k = 0; k < bins; ++k) sum += e(axis, k);
      share[axis] = c.share[axis] / sum;
    }
  }
  __device__ __forceinline__ Acc e(int axis, int k) const { return exp_minus(most[axis] - number(axis * bins + k)); }
  __device__ __forceinline__ void put(int k, Acc gradient) const { put_number<T>(grads, to + k * grad_step, gradient); }
  __device__ __forceinline__ void write() const {}
};

// The same in shared memory. All lanes of a warp call read and write.
template <class Number>
struct SharedNumbers {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kAtOnce = 16;  // loads in flight
  const char* data;
  char* grads;
  int64_t step, grad_step, to;
  int bins, numbers, stride, lane;
  Acc *rows, *own;  // [32, stride] of the warp, the lane's
  Acc share[2];

  static __host__ __device__ int stride_of(int numbers) { return numbers | 1; }  // lanes have banks of their own
  __device__ __forceinline__ explicit SharedNumbers(const SplineParams<Acc>& p)
      : data(p.numbers.data), grads(p.grad_numbers.data), step(p.step), grad_step(p.grad_step), bins(p.constants.bins) {
    PYGEN_DYNAMIC_SHARED(memory);
    const int thread = static_cast<int>(threadIdx.x);
    numbers = p.constants.numbers();
    stride = stride_of(numbers);
    lane = thread & 31;
    rows = reinterpret_cast<Acc*>(memory) + (thread - lane) * stride;
    own = rows + lane * stride;
  }
  // body(i, where number k is) for kAtOnce lanes from the first on, of those that have a place.
  template <class Body>
  __device__ __forceinline__ void for_each_lane(int64_t at, int first, int k, Body body) const {
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int64_t there = __shfl_sync(0xffffffffu, at, first + i);
      if (there >= 0 && k < numbers) body(i, there + k);
    }
  }
  __device__ __forceinline__ void read(int64_t from, int64_t target) {
    to = target;
    if (step != 1) {
      for (int k = 0; from >= 0 && k < numbers; k += kAtOnce / 2) {
        Acc got[kAtOnce / 2];
#pragma unroll
        for (int i = 0; i < kAtOnce / 2; ++i)
          if (k + i < numbers) got[i] = number_at<T>(data, from + (k + i) * step);
#pragma unroll
        for (int i = 0; i < kAtOnce / 2; ++i)
          if (k + i < numbers) own[k + i] = got[i];
      }
      return;
    }
    for (int k = lane; k - lane < numbers; k += 32) {
      for (int first = 0; first < 32; first += kAtOnce) {
        Acc got[kAtOnce];
        for_each_lane(from, first, k, [&](int i, int64_t at) { got[i] = number_at<T>(data, at); });
        for_each_lane(from, first, k, [&](int i, int64_t) { rows[(first + i) * stride + k] = got[i]; });
      }
    }
    __syncwarp();
  }
  __device__ __forceinline__ Acc number(int k) const { return own[k]; }
  __device__ __forceinline__ void normalise(const SplineConstants<Acc>& c) {
    for (int axis = 0; axis < 2; ++axis) {
      const Acc most = largest_logit(*this, axis);
      Acc* const logits = own + axis * bins;
      Acc sum = 0;
      for (int k = 0; k < bins; ++k) {
        logits[k] = exp_minus(most - logits[k]);
        sum += logits[k];
      }
      share[axis] = c.share[axis] / sum;
    }
  }
  __device__ __forceinline__ Acc e(int axis, int k) const { return own[axis * bins + k]; }
  __device__ __forceinline__ void put(int k, Acc gradient) const { own[k] = gradient; }
  __device__ __forceinline__ void write() const {
    if (grads == nullptr) {
      __syncwarp();  // before the next element's numbers
      return;
    }
    if (grad_step != 1) {
      for (int k = 0; to >= 0 && k < numbers; ++k) put_number<T>(grads, to + k * grad_step, own[k]);
      __syncwarp();
      return;
    }
    __syncwarp();
    for (int k = lane; k - lane < numbers; k += 32) {
      for (int first = 0; first < 32; first += kAtOnce)
        for_each_lane(to, first, k,
                      [&](int i, int64_t at) { put_number<T>(grads, at, rows[(first + i) * stride + k]); });
    }
    __syncwarp();
  }
};

}  // namespace
}  // namespace pygen::cuda
