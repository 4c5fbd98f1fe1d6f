// The gradients of the linear-chain CRF on NVIDIA GPUs, from the states that forward kept. Not yet run on a GPU.
//
// N=64, T=512, K=64 in float32: three times 8 MB are read and two written, 9 us at 4.8 TB/s; 512 steps as forward's,
// then a product [K, N T] x [N T, K] of 268 MFLOP for the transitions.
#pragma once

#include "cuda/crf_chain.cuh"

namespace pygen::cuda {
namespace {

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads, 1) crf_backward_kernel(const __grid_constant__ CrfParams p) {
  using Acc = typename Tr::Acc;
  __shared__ Acc memory[Tr::kThreads / 32 * Tr::kRows], partial[4 * Tr::kParts * Tr::kTags];
  const int64_t n = blockIdx.x;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bool writes = threadIdx.x < 32;
  const Span span(p, n);
  const CrfWeights<Acc> w(p.weights, p.k);
  const bool scaled = *w.scaled != Acc(0);
  const long long* labels = p.labels ? p.labels + n * p.steps : nullptr;
  int wrong = span.wrong;
  for (int t = lane; labels && t < span.length; t += 32) wrong |= labels[t] < 0 || labels[t] >= p.k;
  wrong = __any_sync(0xffffffffu, wrong);
  const Acc g =
      wrong ? static_cast<Acc>(NAN) : static_cast<const Acc*>(p.grad)[n * p.grad_stride] * static_cast<Acc>(p.scale);
  Chain<Tr> chain(w.from, p.k, scaled ? Sum::Scaled : Sum::Logarithms, memory, partial);
  Acc v[Tr::kChunks], e[Tr::kChunks], chance[Tr::kChunks];
#pragma unroll
  for (int c = 0; c < Tr::kChunks; ++c)
    v[c] = 32 * c + lane < p.k ? w.last[32 * c + lane] : scaled ? Acc(0) : none<Acc>();
  Acc* ends = static_cast<Acc*>(p.ends);
  if (writes && ends && span.length == 0) {
    for (int j = lane; j < p.k; j += 32) ends[n * p.k + j] = ends[(p.sequences + n) * p.k + j] = Acc(0);
  }
  const auto grads_at = [&](int64_t t, int j) {
    return n * p.grads.image + t * p.grads.channel + j * p.grads.position;
  };
  for (int t = span.length - 1; t >= 0; --t) {
    const Acc* row = static_cast<const Acc*>(p.states) + (n * p.steps + t) * (p.k + 1);
    const Acc m = __ldg(row + p.k);
    read_step<Tr>(p, n, t, e);
    // What the chances sum to is 1 but for the end's weights at first, and then for the rounding of all steps so far.
    Acc sum = 0;
#pragma unroll
    for (int c = 0; c < Tr::kChunks; ++c) {
      const int j = 32 * c + lane;
      const Acc state = j < p.k ? __ldg(row + j) : scaled ? Acc(0) : none<Acc>();
      chance[c] = scaled ? state * v[c] : state + v[c];
      sum += scaled ? chance[c] : Acc(0);
    }
    sum = scaled ? warp_sum(sum) : log_total(chance);
    const Acc inverse = sum == Acc(0) ? Acc(0) : Acc(1) / sum;  // of what cannot come
    const Acc offset = scaled || sum == none<Acc>() ? Acc(0) : sum;
    const long long y = labels ? __ldg(labels + t) : -1;
#pragma unroll
    for (int c = 0; c < Tr::kChunks; ++c) {
      const int j = 32 * c + lane;
      const Acc each = scaled ? chance[c] * inverse : exp_minus(Acc(offset - chance[c]));
      const Acc slope = g * (each - (y == j ? Acc(1) : Acc(0)));
      v[c] = scaled ? v[c] * inverse * crf_factor(Acc(m - e[c])) : v[c] + (e[c] - m) - offset;  // u
      if (!writes || j >= p.k) continue;
      if (p.grads.data) store_stored<Acc>(p.stored, p.grads.data, grads_at(t, j), slope);
      if (!ends) continue;
      static_cast<Acc*>(p.u)[(n * p.steps + t) * p.k + j] = scaled || wrong ? v[c] * g : v[c];
      if (t == 0) ends[n * p.k + j] = slope;
      if (t + 1 == span.length) ends[(p.sequences + n) * p.k + j] = slope;
    }
    if (t) chain(v, t);
  }
  if (!p.grads.data) return;
  const int64_t rest = (p.steps - span.length) * p.k;
  for (int64_t i = threadIdx.x; i < rest; i += Tr::kThreads)
    store_stored<Acc>(p.stored, p.grads.data, grads_at(span.length + i / p.k, static_cast<int>(i % p.k)), Acc(0));
}

struct CrfPairsParams {
  const void *weights, *states, *u, *grad;
  const long long *labels, *lengths;
  void* partial;  // [groups, K, K]
  int64_t grad_stride;
  double scale;
  int64_t sequences, steps, groups;
  int k;
};

struct CrfPairsTraits {
  static constexpr int kTile = 32;  // by kTile of the transitions
  static constexpr int kSteps = 32;
  static constexpr int kEach = 2;  // by kEach of a thread
  static constexpr int kThreads = kTile / kEach * (kTile / kEach);
};

// A tile of the transitions' gradient over a group of sequences: sums over steps of states times what backward left.
template <class Acc>
__global__ void __launch_bounds__(CrfPairsTraits::kThreads, 1)
    crf_transitions_kernel(const __grid_constant__ CrfPairsParams p) {
  using Tr = CrfPairsTraits;
  constexpr int kE = Tr::kEach, kT = Tr::kTile;
  __shared__ Acc before[Tr::kSteps][kT + 1], after[Tr::kSteps][kT + 1];
  __shared__ long long labels[Tr::kSteps + 1];
  const int thread = static_cast<int>(threadIdx.x), tiles = (p.k + kT - 1) / kT;
  const int64_t group = blockIdx.x / (tiles * tiles);
  const int tile = static_cast<int>(blockIdx.x - group * tiles * tiles);
  const int i0 = tile / tiles * kT, j0 = tile % tiles * kT;
  const int i = thread / (kT / kE) * kE, j = thread % (kT / kE) * kE;
  const CrfWeights<Acc> w(const_cast<void*>(p.weights), p.k);
  const bool scaled = *w.scaled != Acc(0);
  Acc a[kE][kE], pairs[kE][kE] = {}, counts[kE][kE] = {};
#pragma unroll
  for (int x = 0; x < kE * kE; ++x) {
    const int from = i0 + i + x / kE, to = j0 + j + x % kE;
    a[x / kE][x % kE] = from < p.k && to < p.k ? w.to[from * p.k + to] : Acc(0);
  }
  for (int64_t n = group * p.sequences / p.groups; n < (group + 1) * p.sequences / p.groups; ++n) {
    const int64_t given = p.lengths ? p.lengths[n] : p.steps;
    const int64_t length = given < 0 ? 0 : given > p.steps ? p.steps : given;
    const Acc g = static_cast<const Acc*>(p.grad)[n * p.grad_stride] * static_cast<Acc>(p.scale);
    for (int64_t first = 1; first < length; first += Tr::kSteps) {
      const int steps = static_cast<int>(length - first < Tr::kSteps ? length - first : Tr::kSteps);
      __syncthreads();
      for (int x = thread; x < Tr::kSteps * kT; x += Tr::kThreads) {
        const int row = x / kT, column = x % kT;
        const int64_t t = n * p.steps + first + row;
        const bool live = row < steps;
        before[row][column] =
            live && i0 + column < p.k ? static_cast<const Acc*>(p.states)[(t - 1) * (p.k + 1) + i0 + column] : Acc(0);
        after[row][column] = live && j0 + column < p.k ? static_cast<const Acc*>(p.u)[t * p.k + j0 + column] : Acc(0);
      }
      for (int row = thread; p.labels && row <= steps; row += Tr::kThreads)
        labels[row] = p.labels[n * p.steps + first - 1 + row];
      __syncthreads();
      for (int row = 0; row < steps; ++row) {
#pragma unroll
        for (int x = 0; x < kE * kE; ++x) {
          const int r = x / kE, c = x % kE;
          const Acc state = before[row][i + r], u = after[row][j + c];
          pairs[r][c] += scaled ? state * u : g * exp_minus(Acc(-(state + (a[r][c] + u))));
          if (p.labels && labels[row] == i0 + i + r && labels[row + 1] == j0 + j + c) counts[r][c] += g;
        }
      }
    }
  }
#pragma unroll
  for (int x = 0; x < kE * kE; ++x) {
    const int r = x / kE, c = x % kE, from = i0 + i + r, to = j0 + j + c;
    if (from < p.k && to < p.k)
      static_cast<Acc*>(p.partial)[(group * p.k + from) * p.k + to] =
          (scaled ? pairs[r][c] * a[r][c] : pairs[r][c]) - counts[r][c];
  }
}

struct CrfSumsParams {
  const void* partial;  // [rows, columns]
  void* sums;           // [columns]
  int64_t rows, columns;
};

constexpr int kCrfSumsThreads = 128;

template <class Acc>
__global__ void __launch_bounds__(kCrfSumsThreads) crf_sums_kernel(const __grid_constant__ CrfSumsParams p) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kCrfSumsThreads + threadIdx.x;
  if (column >= p.columns) return;
  double sum = 0;
  for (int64_t row = 0; row < p.rows; ++row)
    sum += static_cast<double>(static_cast<const Acc*>(p.partial)[row * p.columns + column]);
  static_cast<Acc*>(p.sums)[column] = static_cast<Acc>(sum);
}

}  // namespace
}  // namespace pygen::cuda
