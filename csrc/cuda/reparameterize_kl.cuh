// reparameterize_kl and gaussian_kl for NVIDIA GPUs. Not yet run on a GPU.
//
//   z = mu + exp(logvar / 2) eps;   kl: csrc/common/reparameterize_kl.h, summed over rows;   eps: csrc/common/philox.h
//
// Traffic, T = bytes of mu, K samples, standard prior: forward reads 2 T and writes K T; backward reads (2 + K) T and
// writes 2 T. A full-size prior adds 2 T read, and 2 T written where it needs gradients. Noise is neither stored nor
// read. Partial sums add 4 bytes per 2048 to 8192 elements. A quad of normals is not adjacent in a channels_last
// tensor: it is read and written element by element, one of each 32-byte sector at a time.
#pragma once

#include "common/reparameterize_kl.h"
#include "cuda/noise.cuh"
#include "cuda/reduce.cuh"
#include "cuda/rows.cuh"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

// --- params; [N, D] are the rows of tensor.cuh

struct InputParams {
  View mu, logvar;              // [N, D]
  View prior_mu, prior_logvar;  // [N, D], or absent
  View eps;                     // [K, N, D], or absent
  const int64_t* seed;          // []
  Tiling tiling;
  uint32_t num_samples;
  bool clamp;  // free_bits > 0
  double free_bits, kl_scale;
};

struct ForwardParams : InputParams {
  View z;      // [K, N, D], or absent
  void* sums;  // kl, or the blocks' partial sums
  uint32_t samples_per_block;
  bool per_row;
};

struct BackwardParams : InputParams {
  View grad_z;          // [K, N, D], or absent
  const void* grad_kl;  // [N] or [], or absent
  int64_t grad_kl_stride;
  View grad_mu, grad_logvar, grad_prior_mu, grad_prior_logvar;  // [N, D], or absent
};

struct FinishParams {
  const void* partial;  // [rows, count]
  void* kl;             // [rows]
  int64_t count;
  double kl_scale;
};

// --- traits

template <class Number>
struct Traits {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kThreads = 256;
  static constexpr int kUnit = sizeof(T) == 2 ? 8 : 4;   // 16 bytes; 32 of float64, whose normals also come in fours
  static constexpr int kUnits = sizeof(T) == 4 ? 2 : 1;  // in flight in each thread: 8 elements, 4 of float64
  static constexpr int kMaxTurns = 4;                    // a block sums up to 8192 elements, 4096 of float64
  static constexpr int kFewBlocks = 512;                 // with fewer, samples are dealt to blocks of their own
  static constexpr int kFinishThreads = 1024;
  static_assert(kUnit * sizeof(T) % 16 == 0, "128-bit accesses");
  static_assert(kUnit % 4 == 0, "a Philox call gives four normals");
  static_assert((kThreads & (kThreads - 1)) == 0, "rows share a block in powers of two");
  using Place = cuda::Place<kThreads, kUnit, kUnits>;
};

// Blocks that shall fit a multiprocessor, as many as do not spill: 4 leave a thread 64 registers, 3 leave 80, 2 leave
// 128.
template <class Tr, bool kPrior, bool kAligned, int kMost>
constexpr int kMinBlocks = kAligned && !kPrior && sizeof(typename Tr::T) < 8 ? kMost : 2;

// --- kernels

// The inputs of a thread's units, loaded before anything is computed, to be in flight together.
template <class Tr, bool kPrior, bool kAligned>
struct Inputs {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  static constexpr int V = Tr::kUnit, U = Tr::kUnits;
  Pack<T, V> mu[U], logvar[U], prior_mu[U], prior_logvar[U];

  __device__ __forceinline__ void fetch(const InputParams& p, const Span (&span)[U]) {
#pragma unroll
    for (int u = 0; u < U; ++u) {
      mu[u] = load<T, V, kAligned>(p.mu, span[u]);
      logvar[u] = load<T, V, kAligned>(p.logvar, span[u]);
      if constexpr (kPrior) {
        prior_mu[u] = load<T, V, kAligned>(p.prior_mu, span[u]);
        prior_logvar[u] = load<T, V, kAligned>(p.prior_logvar, span[u]);
      }
    }
  }

  __device__ __forceinline__ void terms(int u, Acc (&m)[V], GaussianKl<Acc> (&out)[V]) const {
    constexpr bool kNarrow = sizeof(T) == 2;
    Acc lv[V], pm[V], plv[V];
    unpack(mu[u], m);
    unpack(logvar[u], lv);
    if constexpr (kPrior) {
      unpack(prior_mu[u], pm);
      unpack(prior_logvar[u], plv);
    }
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if constexpr (kPrior) {
        out[i] = gaussian_kl_prior<kNarrow>(m[i], lv[i], pm[i], plv[i]);
      } else {
        out[i] = gaussian_kl_standard<kNarrow>(m[i], lv[i]);
      }
    }
  }
};

template <class Tr, bool kPrior, bool kAligned>
__global__ void __launch_bounds__(Tr::kThreads, (kMinBlocks<Tr, kPrior, kAligned, 4>))
    reparameterize_kl_fwd_kernel(const __grid_constant__ ForwardParams p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  constexpr int V = Tr::kUnit, U = Tr::kUnits;
  const unsigned blocks = static_cast<unsigned>(p.tiling.blocks);
  const unsigned sample_block = blockIdx.x / blocks, block = blockIdx.x % blocks;
  const uint32_t k_begin = sample_block * p.samples_per_block;
  const uint32_t k_end = k_begin + min(p.samples_per_block, p.num_samples - k_begin);
  typename Tr::Place place(p.tiling, block);
  const uint64_t key = noise_key(p.seed);
  Acc sum = 0;  // of twice the KL
  for (int turn = 0; turn < p.tiling.turns; ++turn, place.next_turn(p.tiling)) {
    Span span[U];
    bool live[U];
#pragma unroll
    for (int u = 0; u < U; ++u) live[u] = place.template span<kAligned>(p.tiling, u, span[u]);
    Inputs<Tr, kPrior, kAligned> inputs;
    inputs.fetch(p, span);
    Acc mu[U][V];
    GaussianKl<Acc> terms[U][V];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      inputs.terms(u, mu[u], terms[u]);
      if (p.clamp) {
#pragma unroll
        for (int i = 0; i < V; ++i) apply_free_bits<Acc>(terms[u][i], static_cast<Acc>(p.free_bits));
      }
#pragma unroll
      for (int i = 0; i < V; ++i) {
        if (live[u] && (kAligned || (i >= span[u].lo && i < span[u].hi))) sum += terms[u][i].twice_kl;
      }
    }
    for (uint32_t k = k_begin; k < k_end; ++k) {
      Acc z[U][V];
      noise<T, U, V, kAligned>(p.eps, key, NoiseDomain::ReparameterizeKl, span, k, z);
#pragma unroll
      for (int u = 0; u < U; ++u) {
#pragma unroll
        for (int i = 0; i < V; ++i) z[u][i] = mu[u][i] + terms[u][i].std * z[u][i];
        if (live[u]) store<T, V, kAligned>(p.z, span[u], k, z[u]);
      }
    }
  }
  if (sample_block != 0) return;  // KL does not depend on K
  const int width = p.per_row ? p.tiling.lanes() : Tr::kThreads;
  sum = group_sum<Tr::kThreads>(sum, width);
  if (static_cast<int>(threadIdx.x) % width != 0) return;
  sum *= Acc(0.5);
  Acc* sums = static_cast<Acc*>(p.sums);
  if (p.per_row && p.tiling.blocks_per_row == 1) {
    if (place.live) sums[place.row] = sum;
  } else {
    sums[block] = p.kl_scale == 1 ? sum : static_cast<Acc>(sum * p.kl_scale);
  }
}

template <class Tr, bool kPrior, bool kAligned>
__global__ void __launch_bounds__(Tr::kThreads, (kMinBlocks<Tr, kPrior, kAligned, 3>))
    reparameterize_kl_bwd_kernel(const __grid_constant__ BackwardParams p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  constexpr int V = Tr::kUnit, U = Tr::kUnits;
  const typename Tr::Place place(p.tiling, blockIdx.x);
  Span span[U];
  bool live[U];
#pragma unroll
  for (int u = 0; u < U; ++u) live[u] = place.template span<kAligned>(p.tiling, u, span[u]);
  Inputs<Tr, kPrior, kAligned> inputs;
  inputs.fetch(p, span);
  const uint64_t key = noise_key(p.seed);
  Acc from_z[U][V] = {}, from_z_eps[U][V] = {};  // sums over samples of grad_z and grad_z eps
  for (uint32_t k = 0; k < p.num_samples; ++k) {
    Pack<T, V> packed[U];
#pragma unroll
    for (int u = 0; u < U; ++u) packed[u] = load<T, V, kAligned>(p.grad_z, span[u], k);
    Acc eps[U][V];
    noise<T, U, V, kAligned>(p.eps, key, NoiseDomain::ReparameterizeKl, span, k, eps);
#pragma unroll
    for (int u = 0; u < U; ++u) {
      Acc grad_z[V];
      unpack(packed[u], grad_z);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        from_z[u][i] += grad_z[i];
        from_z_eps[u][i] += grad_z[i] * eps[u][i];
      }
    }
  }
  Acc g = 0;
  if (p.grad_kl != nullptr) {
    g = static_cast<const Acc*>(p.grad_kl)[place.row * p.grad_kl_stride];
    if (p.kl_scale != 1) g = static_cast<Acc>(g * p.kl_scale);
  }
#pragma unroll
  for (int u = 0; u < U; ++u) {
    Acc mu[V], grad_mu[V], grad_logvar[V], grad_prior_mu[V] = {}, grad_prior_logvar[V] = {};
    GaussianKl<Acc> terms[V];
    inputs.terms(u, mu, terms);
    if (p.clamp) {
#pragma unroll
      for (int i = 0; i < V; ++i) apply_free_bits<Acc>(terms[i], static_cast<Acc>(p.free_bits));
    }
#pragma unroll
    for (int i = 0; i < V; ++i) {
      grad_mu[i] = from_z[u][i];
      grad_logvar[i] = from_z_eps[u][i] * (Acc(0.5) * terms[i].std);
    }
    if (p.grad_kl != nullptr) {
#pragma unroll
      for (int i = 0; i < V; ++i) {
        grad_mu[i] += g * terms[i].grad_mu;
        grad_logvar[i] += g * terms[i].grad_logvar;
        grad_prior_mu[i] = -(g * terms[i].grad_mu);
        grad_prior_logvar[i] = g * terms[i].grad_prior_logvar;
      }
    }
    if (!live[u]) continue;
    if (p.grad_mu.data != nullptr) store_gradient<T, V, kAligned>(p.grad_mu, span[u], grad_mu);
    if (p.grad_logvar.data != nullptr) store_gradient<T, V, kAligned>(p.grad_logvar, span[u], grad_logvar);
    if constexpr (kPrior) {
      if (p.grad_prior_mu.data != nullptr) store_gradient<T, V, kAligned>(p.grad_prior_mu, span[u], grad_prior_mu);
      if (p.grad_prior_logvar.data != nullptr) {
        store_gradient<T, V, kAligned>(p.grad_prior_logvar, span[u], grad_prior_logvar);
      }
    }
  }
}

// kl[row] = kl_scale * sum of partial[row, :], in double and in fixed order.
template <class Tr>
__global__ void __launch_bounds__(Tr::kFinishThreads)
    reparameterize_kl_finish_kernel(const __grid_constant__ FinishParams p) {
  using Acc = typename Tr::Acc;
  const Acc* partial = static_cast<const Acc*>(p.partial) + static_cast<int64_t>(blockIdx.x) * p.count;
  double sum = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < p.count; i += Tr::kFinishThreads) sum += partial[i];
  sum = group_sum<Tr::kFinishThreads>(sum, Tr::kFinishThreads);
  if (threadIdx.x == 0) static_cast<Acc*>(p.kl)[blockIdx.x] = static_cast<Acc>(sum * p.kl_scale);
}

}  // namespace
}  // namespace pygen::cuda
