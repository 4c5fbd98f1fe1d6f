// pixel_lstm for NVIDIA GPUs. Formula: csrc/common/pixel_lstm.h, pygen/reference/pixel_lstm.py. Not yet run on a GPU.
//
// A block takes an image through its lines: h and c of the last line lie in shared memory (where they do not fit, in a
// workspace), the weight comes by from L2 in each line, 16 H^2 k bytes. A thread sums one unit's four gates, or
// backwards one unit, in 8 pixels; neighbouring threads have neighbouring units, so that the weight's loads lie side by
// side and those of h are one number for all. Work of a pixel: 4 H^2 k multiply-adds, in float32 (float64) for every
// dtype.
#pragma once

#include "common/pixel_lstm.h"
#include "cuda/convert.cuh"
#include "cuda/launch.cuh"
#include "cuda/pixel_lstm.h"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

// --- params

struct PixelLstmParams {
  int hidden, padded;               // H, in whole quads
  int rows, columns, kernel, each;  // each: H / colour groups
  bool down, mirrored;
  const void* weight;
  LstmImages input, output, kept;
  void* workspace;  // null: shared memory
  int64_t numbers;  // of Acc, an image's lines
};

// --- traits

template <class Number>
struct PixelLstmTraits {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kThreads = 256;
  static constexpr int kPixels = sizeof(Acc) == 8 ? 4 : 8;  // of a thread; of doubles 8 spill on sm_100
  static constexpr int kQuad = kLstmQuad;
};

template <class Acc>
struct alignas(16) LstmQuad {  // as shared memory is
  Acc v[4];
};

// --- the lines of an image

template <class Tr>
struct LstmLines {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const PixelLstmParams& p;
  int count, length, pad;  // lines, pixels of the longest, pixels in front of a line that taps read

  __device__ __forceinline__ explicit LstmLines(const PixelLstmParams& p)
      : p(p),
        count(p.down ? p.rows : p.rows + p.columns - 1),
        length(p.down ? p.columns : p.rows),
        pad(p.down ? p.kernel / 2 : 1) {}
  __device__ __forceinline__ int begin(int d) const { return p.down || d < p.columns ? 0 : d - p.columns + 1; }
  __device__ __forceinline__ int end(int d) const { return p.down || d + 1 > length ? length : d + 1; }
  __device__ __forceinline__ int places() const { return length + 2 * pad + Tr::kPixels; }
  // Where a tap reads, from a pixel's own place.
  __device__ __forceinline__ int shift(int tap) const { return p.down ? tap - p.kernel / 2 : tap - 1; }

  __device__ __forceinline__ int64_t at(const LstmImages& t, int d, int pixel) const {
    const int row = p.down ? d : pixel, along = p.down ? pixel : d - pixel;
    const int column = p.mirrored ? p.columns - 1 - along : along;
    return static_cast<int64_t>(blockIdx.x) * t.image + row * t.row + column * t.column;
  }
  __device__ __forceinline__ int channel(int gate, int unit) const {
    return unit / p.each * 4 * p.each + gate * p.each + unit % p.each;
  }
  __device__ __forceinline__ Acc get(const LstmImages& t, int64_t place, int channel) const {
    return Acc(widen_to(reinterpret_cast<const T*>(t.data)[place + channel * t.channel]));
  }
  __device__ __forceinline__ void put(const LstmImages& t, int64_t place, int channel, Acc value) const {
    reinterpret_cast<T*>(t.data)[place + channel * t.channel] = narrow_to<T>(value);
  }
};

template <class Tr>
__device__ __forceinline__ typename Tr::Acc* lstm_memory(const PixelLstmParams& p) {
  using Acc = typename Tr::Acc;
  PYGEN_DYNAMIC_SHARED(shared);
  Acc* const lines =
      p.workspace ? static_cast<Acc*>(p.workspace) + blockIdx.x * p.numbers : reinterpret_cast<Acc*>(shared);
  for (int64_t i = threadIdx.x; i < p.numbers; i += Tr::kThreads) lines[i] = 0;
  __syncthreads();
  return lines;
}

// body(unit, first pixel) for this thread's share of a line.
template <class Tr, class Body>
__device__ __forceinline__ void for_each_task(const LstmLines<Tr>& l, int d, Body body) {
  const int begin = l.begin(d), groups = (l.end(d) - begin + Tr::kPixels - 1) / Tr::kPixels;
  const int units = (l.p.hidden + 31) / 32 * 32;  // a warp's threads have the same pixels
  for (int task = threadIdx.x; task < units * groups; task += Tr::kThreads) {
    const int unit = task % units;
    if (unit < l.p.hidden) body(unit, begin + task / units * Tr::kPixels);
  }
}

// --- kernels

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads) pixel_lstm_fwd_kernel(const __grid_constant__ PixelLstmParams p) {
  using Acc = typename Tr::Acc;
  using Quad = LstmQuad<Acc>;
  const LstmLines<Tr> l(p);
  const int tile = l.places() * p.padded;
  Acc* const memory = lstm_memory<Tr>(p);
  Acc *now = memory, *last = memory + tile, *const c = memory + 2 * tile;  // [places, Hp]
  for (int d = 0; d < l.count; ++d) {
    for_each_task(l, d, [&](int unit, int pixel) {
      Acc sum[Tr::kPixels][4] = {};
      const Quad* weight = static_cast<const Quad*>(p.weight) + unit;
      for (int tap = 0; tap < p.kernel; ++tap) {
        const Acc* seen = last + (l.pad + pixel + l.shift(tap)) * p.padded;
        for (int k = 0; k < p.padded; k += Tr::kQuad, seen += Tr::kQuad) {
          Quad w[Tr::kQuad];
#pragma unroll
          for (int i = 0; i < Tr::kQuad; ++i, weight += p.hidden) w[i] = *weight;
#pragma unroll
          for (int m = 0; m < Tr::kPixels; ++m) {
            const Quad h = *reinterpret_cast<const Quad*>(seen + m * p.padded);
#pragma unroll
            for (int i = 0; i < Tr::kQuad; ++i)
#pragma unroll
              for (int gate = 0; gate < 4; ++gate) sum[m][gate] += w[i].v[gate] * h.v[i];
          }
        }
      }
#pragma unroll
      for (int m = 0; m < Tr::kPixels; ++m) {
        if (pixel + m >= l.end(d)) break;
        const int64_t in = l.at(p.input, d, pixel + m);
        const auto gate = [&](int g) { return l.get(p.input, in, l.channel(g, unit)) + sum[m][g]; };
        LstmUnit<Acc> u{gate(0), gate(1), gate(2), gate(3), Acc(0)};
        const int place = (l.pad + pixel + m) * p.padded + unit;
        const Acc h = lstm_step(u, c[place]);
        now[place] = h;
        c[place] = u.c;
        l.put(p.output, l.at(p.output, d, pixel + m), unit, h);
        if (!p.kept.data) continue;
        const int64_t kept = l.at(p.kept, d, pixel + m);
        const Acc all[] = {u.o, u.f, u.i, u.g, u.c};
        for (int i = 0; i < 5; ++i) l.put(p.kept, kept, i * p.hidden + unit, all[i]);
      }
    });
    __syncthreads();
    Acc* const other = now;
    now = last;
    last = other;
  }
}

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads) pixel_lstm_bwd_kernel(const __grid_constant__ PixelLstmParams p) {
  using Acc = typename Tr::Acc;
  using Quad = LstmQuad<Acc>;
  const LstmLines<Tr> l(p);
  const int width = 4 * p.padded, tile = l.places() * width;
  Acc* const memory = lstm_memory<Tr>(p);
  Acc *now = memory, *later = memory + tile, *const grad_c = memory + 2 * tile;  // [places, 4 Hp] and [places, Hp]
  for (int d = l.count - 1; d >= 0; --d) {
    for_each_task(l, d, [&](int unit, int pixel) {
      Acc sum[Tr::kPixels] = {};
      const Quad* weight = static_cast<const Quad*>(p.weight) + unit;
      for (int tap = 0; tap < p.kernel && d + 1 < l.count; ++tap) {
        const Acc* seen = later + (l.pad + pixel - l.shift(tap)) * width;
        for (int row = 0; row < width; row += Tr::kQuad, seen += Tr::kQuad, weight += p.hidden) {
          const Quad w = *weight;
#pragma unroll
          for (int m = 0; m < Tr::kPixels; ++m) {
            const Quad g = *reinterpret_cast<const Quad*>(seen + m * width);
#pragma unroll
            for (int i = 0; i < Tr::kQuad; ++i) sum[m] += w.v[i] * g.v[i];
          }
        }
      }
#pragma unroll
      for (int m = 0; m < Tr::kPixels; ++m) {
        if (pixel + m >= l.end(d)) break;
        const int64_t kept = l.at(p.kept, d, pixel + m);
        const auto part = [&](int i) { return l.get(p.kept, kept, i * p.hidden + unit); };
        const LstmUnit<Acc> u{part(0), part(1), part(2), part(3), part(4)};
        const bool known = d > 0 && pixel + m < l.end(d - 1);  // whether c does not begin here
        const Acc before = known ? l.get(p.kept, l.at(p.kept, d - 1, pixel + m), 4 * p.hidden + unit) : Acc(0);
        const Acc grad_h = l.get(p.output, l.at(p.output, d, pixel + m), unit) + sum[m];
        const int place = l.pad + pixel + m;
        const LstmUnit<Acc> grad = lstm_gradients(u, before, grad_h, grad_c[place * p.padded + unit]);
        grad_c[place * p.padded + unit] = grad.c;
        const int64_t in = l.at(p.input, d, pixel + m);
        const Acc all[] = {grad.o, grad.f, grad.i, grad.g};
        for (int gate = 0; gate < 4; ++gate) {
          now[place * width + gate * p.padded + unit] = all[gate];
          l.put(p.input, in, l.channel(gate, unit), all[gate]);
        }
      }
    });
    __syncthreads();
    Acc* const other = now;
    now = later;
    later = other;
  }
}

}  // namespace
}  // namespace pygen::cuda
