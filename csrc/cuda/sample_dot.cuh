// sample_dot for NVIDIA GPUs. Not yet run on a GPU.
//
//   forward: sums[n] = sum of x[n] y[n]        backward: out[n] = factor[n] x[n]
//
// Traffic, T = bytes of x: forward reads T (2 T with a y of its own) and 4 bytes per 8192 elements; backward reads and
// writes T. Sums are taken in two levels, in a fixed order: equal from run to run, and whatever the batch.
#pragma once

#include "cuda/reduce.cuh"
#include "cuda/rows.cuh"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

// --- params; [N, D] are the rows of tensor.cuh

struct DotParams {
  View x, y;   // [N, D]; y may be absent
  void* sums;  // [N], or [N, blocks of a row] where a row has several
  Tiling tiling;
};

struct DotFinishParams {
  const void* partial;  // [N, count]
  void* sums;           // [N]
  int64_t count;
};

struct ScaleParams {
  View x, out;         // [N, D]
  const void* factor;  // [N]
  int64_t factor_stride;
  Tiling tiling;
};

// --- traits

template <class Number>
struct DotTraits {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kThreads = 256;
  static constexpr int kFinishThreads = 128;
  static constexpr int kUnit = 16 / sizeof(T);  // elements of one 128-bit access
  static constexpr int kUnits = 2;              // in flight in each thread
  static constexpr int kMaxTurns = 8;
  static constexpr int kMinBlocks = 3;  // that fit a multiprocessor: left to itself ptxas spills to fit six
  using Place = cuda::Place<kThreads, kUnit, kUnits>;
};

// --- kernels

// All of a thread's fetches before the first use, so that they are in flight together; strided ones, which are calls,
// one by one: what lives across a call is spilled.
template <int kUnits, bool kTogether, class Fetch, class Use>
__device__ __forceinline__ void fetch_and_use(const Fetch& fetch, const Use& use) {
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    fetch(u);
    if constexpr (!kTogether) use(u);
  }
  if constexpr (kTogether) {
#pragma unroll
    for (int u = 0; u < kUnits; ++u) use(u);
  }
}

template <class Tr, bool kPair, bool kAligned>
__global__ void __launch_bounds__(Tr::kThreads, Tr::kMinBlocks)
    sample_dot_fwd_kernel(const __grid_constant__ DotParams p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  constexpr int V = Tr::kUnit, U = Tr::kUnits;
  typename Tr::Place place(p.tiling, blockIdx.x);
  Acc sum = 0;
  for (int turn = 0; turn < p.tiling.turns; ++turn, place.next_turn(p.tiling)) {
    Span span[U];
    bool live[U];
    Pack<T, V> packed[U], packed_y[U];
    const auto fetch = [&](int u) {
      live[u] = place.template span<kAligned>(p.tiling, u, span[u]);
      packed[u] = load<T, V, kAligned>(p.x, span[u]);
      if constexpr (kPair) packed_y[u] = load<T, V, kAligned>(p.y, span[u]);
    };
    const auto use = [&](int u) {
      Acc x[V], y[V];
      unpack(packed[u], x);
      if constexpr (kPair) unpack(packed_y[u], y);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        if (live[u] && (kAligned || (i >= span[u].lo && i < span[u].hi))) sum += x[i] * (kPair ? y[i] : x[i]);
      }
    };
    fetch_and_use<U, kAligned>(fetch, use);
  }
  sum = group_sum<Tr::kThreads>(sum, p.tiling.lanes());
  if (static_cast<int>(threadIdx.x) % p.tiling.lanes() != 0 || !place.live) return;
  static_cast<Acc*>(p.sums)[p.tiling.blocks_per_row == 1 ? place.row : static_cast<int64_t>(blockIdx.x)] = sum;
}

// sums[row] = sum of partial[row, :], in double.
template <class Tr>
__global__ void __launch_bounds__(Tr::kFinishThreads)
    sample_dot_finish_kernel(const __grid_constant__ DotFinishParams p) {
  using Acc = typename Tr::Acc;
  const Acc* partial = static_cast<const Acc*>(p.partial) + static_cast<int64_t>(blockIdx.x) * p.count;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < p.count; i += Tr::kFinishThreads) sum += partial[i];
  sum = group_sum<Tr::kFinishThreads>(sum, Tr::kFinishThreads);
  if (threadIdx.x == 0) static_cast<Acc*>(p.sums)[blockIdx.x] = static_cast<Acc>(sum);
}

template <class Tr, bool kAligned>
__global__ void __launch_bounds__(Tr::kThreads, Tr::kMinBlocks)
    sample_dot_bwd_kernel(const __grid_constant__ ScaleParams p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  constexpr int V = Tr::kUnit, U = Tr::kUnits;
  const typename Tr::Place place(p.tiling, blockIdx.x);
  const Acc factor = static_cast<const Acc*>(p.factor)[place.row * p.factor_stride];
  Span span[U];
  bool live[U];
  Pack<T, V> packed[U];
  const auto fetch = [&](int u) {
    live[u] = place.template span<kAligned>(p.tiling, u, span[u]);
    packed[u] = load<T, V, kAligned>(p.x, span[u]);
  };
  const auto use = [&](int u) {
    Acc x[V];
    unpack(packed[u], x);
#pragma unroll
    for (int i = 0; i < V; ++i) x[i] *= factor;
    if (live[u]) store<T, V, kAligned>(p.out, span[u], 0, x);
  };
  fetch_and_use<U, kAligned>(fetch, use);
}

}  // namespace
}  // namespace pygen::cuda
