// Where the early steps of a network of several resolutions have their pixels, and where their sums go; and the forms
// in which it keeps streams.
#pragma once

#include "common/elu.h"
#include "cuda/sampling_early_staged.cuh"
#include "cuda/sampling_scales.h"

namespace pygen::cuda {

// Row y of a stream in the memory of the cluster's first image.
template <class T>
__device__ __forceinline__ char* stream_row(const ClusterPlace<T>& place, int at, int rows, int width, int pitch,
                                            int y) {
  return place.p.memory + place.first * place.p.image_bytes + int64_t(at) * 16 + int64_t(y % rows) * width * pitch;
}

// The 16 bases of a tile at pixel x of the present row.
template <class T>
__device__ __forceinline__ float* base_of(const ClusterPlace<T>& place, int at, int pitch, int image, int x, int tile) {
  char* const row = place.p.memory + (place.first + image) * place.p.image_bytes + int64_t(at) * 16;
  return reinterpret_cast<float*>(row + int64_t(x) * pitch) + tile * 16;
}

// x of a channel, from where its elu(x) is, or itself. load: of what lies there.
template <class T, class Load>
__device__ __forceinline__ float given_by(const T* at, int minus_bytes, const Load& load) {
  const float x = widen_to(load(at));
  if (minus_bytes == 0 || x > 0) return x;
  return -widen_to(load(reinterpret_cast<const T*>(reinterpret_cast<const char*>(at) + minus_bytes)));
}

// The forms of x, in their order, those that are kept.
template <class T, class Put>
__device__ __forceinline__ void each_form(int forms, T x, const Put& put) {
  float plus = 0, minus = 0;
  if (forms & (kPlus | kMinus)) elu_of_both_signs(static_cast<float>(widen_to(x)), plus, minus);
  int form = 0;
  if (forms & kPlus) put(form++, narrow_to<T>(plus));
  if (forms & kMinus) put(form++, narrow_to<T>(minus));
  if (forms & kRaw) put(form, x);
}

// x of a row's channel, in the forms of `step`'s stream. at: of the pixel.
template <class T>
__device__ __forceinline__ void write_forms(char* pixel, const ScalesStep& step, int channel, T x) {
  each_form(step.forms, x,
            [&](int form, T value) { reinterpret_cast<T*>(pixel + form * step.form_bytes)[channel] = value; });
}

template <class T>
struct SeveralScales {
  using Place = ClusterPlace<T>;
  using Step = ScalesStep;

  static __device__ __forceinline__ int width(const Place&, const Step& step) { return step.count; }
  static __device__ __forceinline__ int source_width(const Place&, const Step& step) { return step.source_width; }
  // y: of the image.
  static __device__ __forceinline__ int source_row(const Step& step, int y, int dy) {
    return (y >> step.source_log2) + dy;
  }
  static __device__ __forceinline__ int source_column(const Step& step, int x, int dx) { return step.in_step * x + dx; }
  static __device__ __forceinline__ Line<T> source(const Place& place, const Step& step, int row) {
    return {stream_row(place, step.source_at, step.source_rows, step.source_width, step.source_pitch, row),
            step.source_pitch};
  }
  static __device__ __forceinline__ bool rectifies(const Step&) { return false; }
  static __device__ __forceinline__ int beside(const Step& step) { return step.beside; }
  static __device__ __forceinline__ WarpTiles warps(const Place&, const Step& step, int) {
    return {step.down, step.across};
  }

  struct Target {
    Line<T> add, out;
    int y;  // of the stream
    struct Rows {
      int tile, lane, row, second;
      static constexpr bool here = true;
      Pair known;
    };
    __device__ __forceinline__ Target(const Place& place, const Step& step, int y) : add{}, out{}, y(y >> step.log2) {
      if (step.add_at >= 0) {
        const int at = step.add_at, pitch = step.add_pitch;
        add = {stream_row(place, at, step.add_rows, step.width, pitch, this->y), pitch};
      }
      if (step.out_at >= 0) {
        const int at = step.out_at, pitch = step.out_pitch;
        out = {stream_row(place, at, step.out_rows, step.width, pitch, this->y), pitch};
      }
    }
    __device__ __forceinline__ Rows rows(const Step& step, int tile, int lane) const {
      const int row = step.gate ? tile * 8 + lane : tile * 16 + lane, second = row + (step.gate ? step.outs : 8);
      const bool one = row < step.outs, two = step.gate ? one : second < step.outs;
      const T* const bias = reinterpret_cast<const T*>(step.bias);
      return {tile,
              lane,
              row,
              second,
              {bias && one ? widen_to(bias[row]) : 0.0f, bias && two ? widen_to(bias[second]) : 0.0f}};
    }
    // where: the image and k. Channels beyond the stream's are zeros: nobody else writes them.
    __device__ __forceinline__ void put(const Place& place, const Step& step, const Rows& of, short2 where,
                                        Pair sum) const {
      where.y = static_cast<short>(step.out_step * where.y + step.out_first);
      if (step.base_at >= 0) {
        const float* const base = base_of(place, step.base_at, step.base_pitch, where.x, where.y, of.tile) + of.lane;
        sum.a += __ldcg(base);
        sum.b += __ldcg(base + 8);
      }
      if (step.sum_at >= 0) {
        float* const to = base_of(place, step.sum_at, step.sum_pitch, where.x, where.y, of.tile) + of.lane;
        to[0] = sum.a;
        to[8] = sum.b;
        return;
      }
      char* const to = reinterpret_cast<char*>(out.pixel(place, where));
      const bool there = of.row < step.outs;
      if (step.linear) {
        if (there) place.condition(sum, step, of.row, where.x, y, where.y);
        sum.a = linear_gate_value(sum.a, sum.b);
        if (add.row != nullptr && there) {  // other blocks have written it: from L2
          const auto load = [](const T* at) { return __ldcg(at); };
          sum.a += given_by(add.pixel(place, where) + of.row, step.add_minus, load);
        }
      }
      write_forms(to, step, of.row, narrow_to<T>(there ? sum.a : 0.0f));
      if (step.gate || of.second * static_cast<int>(sizeof(T)) >= step.form_bytes) return;
      write_forms(to, step, of.second, narrow_to<T>(of.second < step.outs ? sum.b : 0.0f));
    }
  };
};

}  // namespace pygen::cuda
