// bernoulli_nll for NVIDIA GPUs. Not yet run on a GPU.
//
// Formula: common/bernoulli_nll.h. Traffic of an element, T = bytes of a logit: forward reads T and x (1 byte of bytes,
// 8 of int64, T of floats) and leaves 4 bytes of partial sums in 2048 to 8192 elements; backward reads the same and
// writes T. Floors at 4.8 TB/s, float32 beside bytes: 5 bytes are 1.0 ps an element, 9 bytes 1.9 ps; about 40
// instructions an element forward, so that it is near the arithmetic's pace too. A thread takes units of 16 bytes of
// logits (32 of float64) and, in one access each, the 4 or 8 bytes of x beside them.
#pragma once

#include "common/bernoulli_nll.h"
#include "cuda/reduce.cuh"
#include "cuda/rows.cuh"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

// --- params; [N, D] are the rows of tensor.cuh

enum class XHolds : int { Floats, Bytes, Words };  // logits' dtype, uint8, int64
enum class Way : int { Floats, Bytes, Any };       // how a kernel reads x; all but Any promise dense views, whole units

struct BernoulliParams {
  View logits, x;  // [N, D]
  Tiling tiling;
  XHolds holds;
  double scale;
};

struct BernoulliForward : BernoulliParams {
  void* sums;  // nll, or the blocks' partial sums
  bool per_row;
};

struct BernoulliBackward : BernoulliParams {
  const void* grad_nll;  // [N] or []
  int64_t grad_nll_stride;
  View grad_logits;  // [N, D]
};

// --- traits

template <class Number>
struct BernoulliTraits {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kThreads = 256;
  static constexpr int kUnit = sizeof(T) == 2 ? 8 : 4;   // 16 bytes; 32 of float64
  static constexpr int kUnits = sizeof(T) == 4 ? 2 : 1;  // in flight in each thread: 8 elements, 4 of float64
  static constexpr int kMaxTurns = 4;                    // a block sums up to 8192 elements, 4096 of float64
  static_assert(kUnit * kUnits * kMaxTurns <= Log1pSum<Acc>::kRun, "one logarithm for all of a thread's elements");
  static_assert((kThreads & (kThreads - 1)) == 0, "rows share a block in powers of two");
  using Place = cuda::Place<kThreads, kUnit, kUnits>;
};

// --- x

// Levels of one unit, in one access or several of 16 bytes.
template <class Level, int V, bool kAligned>
__device__ __forceinline__ void load_levels(const View& view, const Span& s, Level (&out)[V]) {
  const Level* row = row_pointer<const Level>(view, 0, s.row);
  if (!kAligned && (view.access == Access::Strided || s.lo > 0 || s.hi < V)) {
    Level found[V] = {};
    gather<Level>(view, s, row, found);
#pragma unroll
    for (int i = 0; i < V; ++i) out[i] = found[i];
    return;
  }
  constexpr size_t kBytes = V * sizeof(Level);
  using Chunk = std::conditional_t<kBytes == 4, uint32_t, std::conditional_t<kBytes == 8, uint2, uint4>>;
#pragma unroll
  for (int i = 0; i < static_cast<int>(kBytes / sizeof(Chunk)); ++i) {
    const Chunk chunk = __ldg(reinterpret_cast<const Chunk*>(row + s.d) + i);
    memcpy(reinterpret_cast<char*>(out) + i * sizeof(Chunk), &chunk, sizeof(Chunk));
  }
}

// One unit of x: what memory holds until it is needed, so that loads are in flight together.
template <class Tr, Way kWay>
struct Targets {
  using Acc = typename Tr::Acc;
  static constexpr int V = Tr::kUnit;
  uint8_t level[V];
  __device__ __forceinline__ void fetch(const BernoulliParams& p, const Span& s) {
    load_levels<uint8_t, V, true>(p.x, s, level);
  }
  __device__ __forceinline__ void take(Acc (&x)[V]) const {
#pragma unroll
    for (int i = 0; i < V; ++i) x[i] = bernoulli_target<Acc>(level[i]);
  }
};
template <class Tr>
struct Targets<Tr, Way::Floats> {
  using Acc = typename Tr::Acc;
  static constexpr int V = Tr::kUnit;
  Pack<typename Tr::T, V> packed;
  __device__ __forceinline__ void fetch(const BernoulliParams& p, const Span& s) {
    packed = load<typename Tr::T, V, true>(p.x, s);
  }
  __device__ __forceinline__ void take(Acc (&x)[V]) const { unpack(packed, x); }
};
// Whatever it holds and however it lies: also int64, which costs more memory than the ways are worth.
template <class Tr>
struct Targets<Tr, Way::Any> {
  using Acc = typename Tr::Acc;
  static constexpr int V = Tr::kUnit;
  Acc value[V];
  template <class Level>
  __device__ __forceinline__ void fetch_levels(const BernoulliParams& p, const Span& s) {
    Level level[V];
    load_levels<Level, V, false>(p.x, s, level);
#pragma unroll
    for (int i = 0; i < V; ++i) value[i] = bernoulli_target<Acc>(level[i]);
  }
  __device__ __forceinline__ void fetch(const BernoulliParams& p, const Span& s) {
    if (p.holds == XHolds::Bytes) return fetch_levels<uint8_t>(p, s);
    if (p.holds == XHolds::Words) return fetch_levels<int64_t>(p, s);
    unpack(load<typename Tr::T, V, false>(p.x, s), value);
  }
  __device__ __forceinline__ void take(Acc (&x)[V]) const {
#pragma unroll
    for (int i = 0; i < V; ++i) x[i] = value[i];
  }
};

// --- kernels

template <Way kWay>
constexpr bool kAlignedFor = kWay != Way::Any;

// Blocks that shall fit a multiprocessor.
template <Way kWay>
constexpr int kMinBlocks = kWay == Way::Any ? 2 : 4;

// The inputs of a thread's units, loaded before anything is computed.
template <class Tr, Way kWay>
struct BernoulliInputs {
  using T = typename Tr::T;
  static constexpr int V = Tr::kUnit, U = Tr::kUnits;
  Span span[U];
  bool live[U];
  Pack<T, V> logits[U];
  Targets<Tr, kWay> targets[U];

  __device__ __forceinline__ void fetch(const BernoulliParams& p, const typename Tr::Place& place) {
    constexpr bool kAligned = kAlignedFor<kWay>;
#pragma unroll
    for (int u = 0; u < U; ++u) {
      live[u] = place.template span<kAligned>(p.tiling, u, span[u]);
      logits[u] = load<T, V, kAligned>(p.logits, span[u]);
      targets[u].fetch(p, span[u]);
    }
  }
  __device__ __forceinline__ bool holds(int u, int i) const {
    return live[u] && (kAlignedFor<kWay> || (i >= span[u].lo && i < span[u].hi));
  }
};

template <class Tr, Way kWay>
__global__ void __launch_bounds__(Tr::kThreads, kMinBlocks<kWay>)
    bernoulli_nll_fwd_kernel(const __grid_constant__ BernoulliForward p) {
  using Acc = typename Tr::Acc;
  constexpr int V = Tr::kUnit, U = Tr::kUnits;
  typename Tr::Place place(p.tiling, blockIdx.x);
  Acc sum = 0;
  Log1pSum<Acc> logs;
  for (int turn = 0; turn < p.tiling.turns; ++turn, place.next_turn(p.tiling)) {
    BernoulliInputs<Tr, kWay> in;
    in.fetch(p, place);
#pragma unroll
    for (int u = 0; u < U; ++u) {
      Acc l[V], x[V];
      unpack(in.logits[u], l);
      in.targets[u].take(x);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        if (!in.holds(u, i)) continue;
        sum += bernoulli_plain_part<Acc>(l[i], x[i]);
        logs.add(quick_exp_minus_abs<Acc>(l[i]));
      }
    }
  }
  sum += logs.take();
  const int width = p.per_row ? p.tiling.lanes() : Tr::kThreads;
  sum = group_sum<Tr::kThreads>(sum, width);
  if (static_cast<int>(threadIdx.x) % width != 0) return;
  Acc* sums = static_cast<Acc*>(p.sums);
  if (p.per_row && p.tiling.blocks_per_row == 1) {
    if (place.live) sums[place.row] = sum;
  } else {
    sums[blockIdx.x] = p.scale == 1 ? sum : static_cast<Acc>(sum * p.scale);
  }
}

template <class Tr, Way kWay>
__global__ void __launch_bounds__(Tr::kThreads, kMinBlocks<kWay>)
    bernoulli_nll_bwd_kernel(const __grid_constant__ BernoulliBackward p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  constexpr int V = Tr::kUnit, U = Tr::kUnits;
  const typename Tr::Place place(p.tiling, blockIdx.x);
  BernoulliInputs<Tr, kWay> in;
  in.fetch(p, place);
  const Acc scale = static_cast<Acc>(p.scale);
  const Acc upstream = static_cast<const Acc*>(p.grad_nll)[place.row * p.grad_nll_stride];
#pragma unroll
  for (int u = 0; u < U; ++u) {
    if (!in.live[u]) continue;
    Acc l[V], x[V], grad[V];
    unpack(in.logits[u], l);
    in.targets[u].take(x);
#pragma unroll
    for (int i = 0; i < V; ++i) grad[i] = bernoulli_slope<Acc>(l[i], x[i], exp_minus_abs<Acc>(l[i])) * scale * upstream;
    store<T, V, kAlignedFor<kWay>>(p.grad_logits, in.span[u], 0, grad);
  }
}

}  // namespace
}  // namespace pygen::cuda
