// gated_activation for NVIDIA GPUs. Formula: csrc/common/gated_activation.h. Not yet run on a GPU.
//
// Traffic of an output element, T = bytes of an element: forward reads 2 T (4 T with a cond of the input's shape) and
// writes T; backward reads those and the gradient, T, and writes 2 T (a gradient that the input has besides: 2 T read).
// The gradient of a cond [N, C] is summed over the pixels of each block in the same pass, 2 accumulators for each
// channel of a tile.
//
// A tile runs along the dimension whose elements lie side by side, pixels or (channels_last) channels: a thread's unit
// is 16 bytes of it. Results do not depend on the launch, sums over pixels on the layout's choice of that dimension
// alone.
#pragma once

#include "cuda/gate.cuh"
#include "cuda/units.cuh"

namespace pygen::cuda {
namespace {

// --- params

struct GateOperand {
  char* data;                                 // null: absent
  int64_t image, group, outer, inner, other;  // strides in elements; other: to the second half
};

struct GateParams {
  GateOperand input, cond, output;  // backward: output is its gradient
  GateOperand grad_input, grad_cond;
  GateOperand more;              // what else the input's gradient has
  void* partial;                 // [parts, images, groups, 2, channels], or null
  int64_t groups, outer, inner;  // sizes; units run along the inner dimension
  int64_t outer_tiles, inner_tiles;
  int64_t rows;                             // images * groups
  int lane_bits, outer_steps, inner_steps;  // of a tile
  bool pixels_inner;
};

// --- traits

template <class Number>
struct GateTraits {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kThreads = 256;
  static constexpr int kUnit = 16 / sizeof(T);
  static constexpr int kSteps = 4;  // of a thread in a tile, along the pixels
  static_assert(kUnit % 2 == 0, "numbers are widened and narrowed in pairs");
};

// --- kernels

// Where a thread stands: an image and group, and its first unit of the tile.
template <class Tr>
struct GatePlace {
  int64_t row, image, group, outer_tile, inner_tile;
  int64_t outer, inner;
  int lane, line;

  __device__ __forceinline__ explicit GatePlace(const GateParams& p) {
    const int lanes = 1 << p.lane_bits, lines = Tr::kThreads >> p.lane_bits;
    lane = static_cast<int>(threadIdx.x) & (lanes - 1);
    line = static_cast<int>(threadIdx.x) >> p.lane_bits;
    uint64_t rest = blockIdx.x;
    const auto digit = [&](int64_t size) {
      const uint64_t above = divide(rest, static_cast<uint64_t>(size)), here = rest - above * size;
      rest = above;
      return static_cast<int64_t>(here);
    };
    inner_tile = digit(p.inner_tiles);
    outer_tile = digit(p.outer_tiles);
    row = static_cast<int64_t>(rest);
    group = digit(p.groups);
    image = static_cast<int64_t>(rest);
    outer = outer_tile * (lines * p.outer_steps) + line;
    inner = (inner_tile * (lanes * p.inner_steps) + lane) * Tr::kUnit;
  }
  __device__ __forceinline__ int64_t base(const GateOperand& t) const { return image * t.image + group * t.group; }
};

// Both halves of a unit of the input, cond added.
template <class Tr, bool kAligned>
__device__ __forceinline__ void load_halves(const GateParams& p, const GatePlace<Tr>& place, int64_t o, int64_t i,
                                            int count, typename Tr::Acc (&a)[Tr::kUnit],
                                            typename Tr::Acc (&b)[Tr::kUnit]) {
  using T = typename Tr::T;
  constexpr int V = Tr::kUnit;
  const int64_t at = place.base(p.input) + o * p.input.outer + i * p.input.inner;
  load_unit<T, V, kAligned>(p.input, at, count, a);
  load_unit<T, V, kAligned>(p.input, at + p.input.other, count, b);
  if (p.cond.data == nullptr) return;
  const int64_t cond_at = place.base(p.cond) + o * p.cond.outer + i * p.cond.inner;
  typename Tr::Acc cond_a[V], cond_b[V];
  load_unit<T, V, kAligned>(p.cond, cond_at, count, cond_a);
  load_unit<T, V, kAligned>(p.cond, cond_at + p.cond.other, count, cond_b);
#pragma unroll
  for (int k = 0; k < V; ++k) {
    a[k] += cond_a[k];
    b[k] += cond_b[k];
  }
}

// body(outer, inner, count) for each of the thread's units.
template <class Tr, bool kAligned, class Body>
__device__ __forceinline__ void for_each_unit(const GateParams& p, const GatePlace<Tr>& place, Body body) {
  constexpr int V = Tr::kUnit;
  const int64_t lanes = int64_t(1) << p.lane_bits, lines = Tr::kThreads >> p.lane_bits;
  for (int so = 0; so < p.outer_steps; ++so) {
    const int64_t o = place.outer + so * lines;
    if (o >= p.outer) break;
    for (int si = 0; si < p.inner_steps; ++si) {
      const int64_t i = place.inner + si * lanes * V, left = p.inner - i;
      if (left <= 0) break;
      body(o, i, kAligned || left >= V ? V : static_cast<int>(left));
    }
  }
}

template <class Tr, bool kAligned>
__global__ void __launch_bounds__(Tr::kThreads) gated_activation_fwd_kernel(const __grid_constant__ GateParams p) {
  using Acc = typename Tr::Acc;
  constexpr int V = Tr::kUnit;
  const GatePlace<Tr> place(p);
  for_each_unit<Tr, kAligned>(p, place, [&](int64_t o, int64_t i, int count) {
    Acc a[V], b[V], out[V];
    load_halves<Tr, kAligned>(p, place, o, i, count, a, b);
#pragma unroll
    for (int k = 0; k < V; ++k) out[k] = gate_value_of<typename Tr::T>(a[k], b[k]);
    const int64_t at = place.base(p.output) + o * p.output.outer + i * p.output.inner;
    store_unit<typename Tr::T, V, kAligned>(p.output, at, count, out);
  });
}

template <class Tr, bool kAligned>  // two blocks a multiprocessor where that does not spill
__global__ void __launch_bounds__(Tr::kThreads, sizeof(typename Tr::T) == 4 || (kAligned && Tr::kUnit == 8) ? 2 : 1)
    gated_activation_bwd_kernel(const __grid_constant__ GateParams p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  constexpr int V = Tr::kUnit;
  const GatePlace<Tr> place(p);
  Acc sum_a[V] = {}, sum_b[V] = {};
  for_each_unit<Tr, kAligned>(p, place, [&](int64_t o, int64_t i, int count) {
    Acc a[V], b[V], grad[V], grad_a[V], grad_b[V];
    load_halves<Tr, kAligned>(p, place, o, i, count, a, b);
    load_unit<T, V, kAligned>(p.output, place.base(p.output) + o * p.output.outer + i * p.output.inner, count, grad);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      gate_gradients_of<T>(a[k], b[k], grad[k], grad_a[k], grad_b[k]);
      if (k < count) {
        sum_a[k] += grad_a[k];
        sum_b[k] += grad_b[k];
      }
    }
    const auto store_both = [&](const GateOperand& t) {
      if (t.data == nullptr) return;
      const int64_t at = place.base(t) + o * t.outer + i * t.inner;
      store_unit<T, V, kAligned>(t, at, count, grad_a);
      store_unit<T, V, kAligned>(t, at + t.other, count, grad_b);
    };
    store_both(p.grad_cond);
    if (p.more.data != nullptr) {
      const int64_t at = place.base(p.more) + o * p.more.outer + i * p.more.inner;
      load_unit<T, V, kAligned>(p.more, at, count, a);
      load_unit<T, V, kAligned>(p.more, at + p.more.other, count, b);
#pragma unroll
      for (int k = 0; k < V; ++k) {
        grad_a[k] += a[k];
        grad_b[k] += b[k];
      }
    }
    store_both(p.grad_input);
  });
  if (p.partial == nullptr) return;

  // Every thread has one or, of channels side by side, V channels; those of the same channels are added in order.
  __shared__ Acc shared[2 * V * Tr::kThreads];
  const int thread = static_cast<int>(threadIdx.x), lanes = 1 << p.lane_bits, lines = Tr::kThreads >> p.lane_bits;
  const int64_t channels = p.pixels_inner ? p.outer : p.inner;
  const int64_t part = p.pixels_inner ? place.inner_tile : place.outer_tile;
  Acc* out = static_cast<Acc*>(p.partial) + (part * p.rows + place.row) * 2 * channels;
  if (p.pixels_inner) {
    Acc a = 0, b = 0;
#pragma unroll
    for (int k = 0; k < V; ++k) {
      a += sum_a[k];
      b += sum_b[k];
    }
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
      a += __shfl_down_sync(0xffffffffu, a, offset, lanes);
      b += __shfl_down_sync(0xffffffffu, b, offset, lanes);
    }
    if (place.lane == 0 && place.outer < p.outer) {
      out[place.outer] = a;
      out[channels + place.outer] = b;
    }
    return;
  }
#pragma unroll
  for (int k = 0; k < V; ++k) {
    shared[k * Tr::kThreads + thread] = sum_a[k];
    shared[(V + k) * Tr::kThreads + thread] = sum_b[k];
  }
  __syncthreads();
  for (int at = thread; at < 2 * V * lanes; at += Tr::kThreads) {
    const int lane = at & (lanes - 1), k = at >> p.lane_bits;  // k: which of V, of the first half, then of the second
    const int64_t c = (place.inner_tile * lanes + lane) * V + k % V;
    if (c >= channels) continue;
    Acc sum = 0;
    for (int line = 0; line < lines; ++line) sum += shared[k * Tr::kThreads + line * lanes + lane];
    out[k / V * channels + c] = sum;
  }
}

}  // namespace
}  // namespace pygen::cuda
