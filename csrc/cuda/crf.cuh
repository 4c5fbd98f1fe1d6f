// The linear-chain CRF on NVIDIA GPUs: log Z, the loss, and the likeliest tags. Not yet run on a GPU.
//
// N=64, T=512, K=64 in float32: 8 MB of emissions, and of states where backward will want them, 3.5 us at 4.8 TB/s;
// what takes the time is 512 steps, one after the other, of a barrier, 16 multiply-adds and some 60 instructions more.
#pragma once

#include "cuda/crf_chain.cuh"

namespace pygen::cuda {
namespace {

constexpr int kPrepareThreads = 512;

// One block: whether sums are scaled, and the matrices.
template <class Acc>
__global__ void __launch_bounds__(kPrepareThreads) crf_prepare_kernel(const __grid_constant__ CrfParams p) {
  const Acc* a = static_cast<const Acc*>(p.transitions);
  const Acc* end = static_cast<const Acc*>(p.end);
  const CrfWeights<Acc> w(p.weights, p.k);
  const int thread = static_cast<int>(threadIdx.x), count = p.k * p.k;
  __shared__ Acc tops[2][kPrepareThreads / 32];
  __shared__ int far[kPrepareThreads / 32];
  Acc top = none<Acc>(), last_top = none<Acc>();
  for (int i = thread; i < count; i += kPrepareThreads) top = larger(a[i], top);
  for (int i = thread; i < p.k; i += kPrepareThreads) last_top = larger(end ? end[i] : Acc(0), last_top);
  top = warp_max(top);
  last_top = warp_max(last_top);
  if (thread % 32 == 0) {
    tops[0][thread / 32] = top;
    tops[1][thread / 32] = last_top;
  }
  __syncthreads();
  for (int other = 0; other < kPrepareThreads / 32; ++other) {
    top = larger(tops[0][other], top);
    last_top = larger(tops[1][other], last_top);
  }
  int any = 0;
  for (int i = thread; i < count; i += kPrepareThreads) any |= !(top - a[i] <= kScaledRange<Acc>);
  for (int i = thread; i < p.k; i += kPrepareThreads) any |= !(last_top - (end ? end[i] : Acc(0)) <= kScaledRange<Acc>);
  any = __any_sync(0xffffffffu, any);
  if (thread % 32 == 0) far[thread / 32] = any;
  __syncthreads();
  for (int other = 0; other < kPrepareThreads / 32; ++other) any |= far[other];
  for (int i = thread; i < count; i += kPrepareThreads) {
    const Acc x = any ? a[i] : exp_minus(Acc(top - a[i]));
    w.to[i] = x;
    w.from[i % p.k * p.k + i / p.k] = x;
  }
  for (int i = thread; i < p.k; i += kPrepareThreads) {
    const Acc x = end ? end[i] : Acc(0);
    w.last[i] = any ? x : exp_minus(Acc(last_top - x));
  }
  if (thread == 0) {
    *w.top = any ? Acc(0) : top;
    *w.last_top = any ? Acc(0) : last_top;
    *w.scaled = any ? Acc(0) : Acc(1);
  }
}

// Of a sequence's tags, in the first thread; NaN where one is none.
template <class Tr>
__device__ __forceinline__ double score(const CrfParams& p, int64_t n, int length) {
  using Acc = typename Tr::Acc;
  const long long* labels = p.labels + n * p.steps;
  double sum = 0;
  for (int t = static_cast<int>(threadIdx.x); t < length; t += Tr::kThreads) {
    const long long y = __ldg(labels + t), before = t ? __ldg(labels + t - 1) : 0;
    if (y < 0 || y >= p.k || before < 0 || before >= p.k) {
      sum += NAN;
      continue;
    }
    const int64_t at = n * p.emissions.image + t * p.emissions.channel + y * p.emissions.position;
    sum += static_cast<double>(load_stored<Acc>(p.stored, p.emissions.data, at));
    if (t) sum += static_cast<double>(__ldg(static_cast<const Acc*>(p.transitions) + before * p.k + y));
    if (!t && p.start) sum += static_cast<double>(__ldg(static_cast<const Acc*>(p.start) + y));
    if (t + 1 == length && p.end) sum += static_cast<double>(__ldg(static_cast<const Acc*>(p.end) + y));
  }
  return group_sum<Tr::kThreads>(sum, Tr::kThreads);
}

// The next state of sums q and emissions e, both per lane; what was taken off it.
template <class Acc, int kChunks>
__device__ __forceinline__ Acc next_state(const Acc (&q)[kChunks], const Acc (&e)[kChunks], bool scaled,
                                          Acc (&state)[kChunks]) {
  Acc m = none<Acc>();
#pragma unroll
  for (int c = 0; c < kChunks; ++c) m = larger(Acc(scaled ? e[c] + rough_log(q[c]) : q[c] + e[c]), m);
  m = warp_max(m);
  m = m == none<Acc>() ? Acc(0) : m;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) state[c] = scaled ? q[c] * crf_factor(Acc(m - e[c])) : (q[c] + e[c]) - m;
  return m;
}

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads, 1) crf_forward_kernel(const __grid_constant__ CrfParams p) {
  using Acc = typename Tr::Acc;
  __shared__ Acc states[Tr::kThreads / 32 * Tr::kRows], partial[4 * Tr::kParts * Tr::kTags];
  const int64_t n = blockIdx.x;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const Span span(p, n);
  const CrfWeights<Acc> w(p.weights, p.k);
  const bool scaled = *w.scaled != Acc(0);
  const Acc top = *w.top;
  Chain<Tr> chain(w.to, p.k, scaled ? Sum::Scaled : Sum::Logarithms, states, partial);
  Acc state[Tr::kChunks], e[Tr::kChunks], following[Tr::kChunks];
  read_vector<Tr>(p.start, p.k, state);
  double total = 0;
  if (span.length > 0) read_step<Tr>(p, n, 0, following);
  for (int t = 0; t < span.length; ++t) {
#pragma unroll
    for (int c = 0; c < Tr::kChunks; ++c) e[c] = following[c];
    if (t + 1 < span.length) read_step<Tr>(p, n, t + 1, following);
    if (t) chain(state, t);
    const Acc m = next_state(state, e, scaled && t > 0, state);
    if (scaled && t == 0) {
#pragma unroll
      for (int c = 0; c < Tr::kChunks; ++c) state[c] = exp_minus(Acc(-state[c]));
    }
    total += static_cast<double>(m) + static_cast<double>(t ? top : Acc(0));
    if (p.states && threadIdx.x < 32) {
      Acc* row = static_cast<Acc*>(p.states) + (n * p.steps + t) * (p.k + 1);
#pragma unroll
      for (int c = 0; c < Tr::kChunks; ++c)
        if (32 * c + lane < p.k) row[32 * c + lane] = state[c];
      if (lane == 0) row[p.k] = m;
    }
  }
  if (!p.nll) return;
  Acc sum = 0;
#pragma unroll
  for (int c = 0; c < Tr::kChunks; ++c) {
    const int j = 32 * c + lane;
    const Acc last = j < p.k ? w.last[j] : scaled ? Acc(0) : none<Acc>();
    sum += state[c] * (scaled ? last : Acc(0));
    state[c] += scaled ? Acc(0) : last;
  }
  double z = total + (scaled ? static_cast<double>(*w.last_top) + ::log(static_cast<double>(warp_sum(sum)))
                             : static_cast<double>(log_total(state)));
  if (span.length == 0) z = 0;
  const double own = p.labels ? score<Tr>(p, n, span.length) : 0;
  if (threadIdx.x == 0) {
    const bool never = p.labels && z == own && own == -static_cast<double>(INFINITY);
    const double nll = never ? -own : z - own;
    static_cast<Acc*>(p.nll)[n] = span.wrong ? static_cast<Acc>(NAN) : static_cast<Acc>(nll);
  }
}

// Forwards as above, with maxima; all backends round alike. Backwards a warp finds each tag again from the states.
template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads, 1) crf_decode_kernel(const __grid_constant__ CrfParams p) {
  using Acc = typename Tr::Acc;
  __shared__ Acc memory[Tr::kThreads / 32 * Tr::kRows], partial[4 * Tr::kParts * Tr::kTags];
  const int64_t n = blockIdx.x;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const Span span(p, n);
  const Acc* a = static_cast<const Acc*>(p.transitions);
  Acc* states = static_cast<Acc*>(p.states) + n * p.steps * (p.k + 1);
  Chain<Tr> chain(a, p.k, Sum::Best, memory, partial);
  Acc state[Tr::kChunks], e[Tr::kChunks];
  read_vector<Tr>(p.start, p.k, state);
  double total = 0;
  for (int t = 0; t < span.length; ++t) {
    read_step<Tr>(p, n, t, e);
    if (t) chain(state, t);
    total += static_cast<double>(next_state(state, e, false, state));
    if (threadIdx.x >= 32) continue;
#pragma unroll
    for (int c = 0; c < Tr::kChunks; ++c)
      if (32 * c + lane < p.k) states[int64_t(t) * (p.k + 1) + 32 * c + lane] = state[c];
  }
  if (threadIdx.x >= 32) return;
  long long* out = p.decoded + n * p.steps;
  for (int64_t t = span.length + lane; t < p.steps; t += 32) out[t] = -1;
  read_vector<Tr>(p.end, p.k, e);
  for (int t = span.length - 1; t >= 0; --t) {
    Acc best = none<Acc>();
    int tag = lane;  // of -inf throughout the lowest too
#pragma unroll
    for (int c = 0; c < Tr::kChunks; ++c) {
      const int j = 32 * c + lane;
      const Acc x = j < p.k ? states[int64_t(t) * (p.k + 1) + j] + e[c] : none<Acc>();  // what this thread has written
      if (x > best) {
        best = x;
        tag = j;
      }
    }
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) {
      const Acc other = __shfl_xor_sync(0xffffffffu, best, mask);
      const int its = __shfl_xor_sync(0xffffffffu, tag, mask);
      if (other > best || (other == best && its < tag)) {
        best = other;
        tag = its;
      }
    }
    if (t == span.length - 1) total += static_cast<double>(best);
    if (lane == 0) out[t] = tag;
#pragma unroll
    for (int c = 0; c < Tr::kChunks; ++c)
      if (32 * c + lane < p.k) e[c] = __ldg(a + (32 * c + lane) * p.k + tag);
  }
  if (lane == 0) static_cast<Acc*>(p.scores)[n] = span.wrong ? static_cast<Acc>(NAN) : static_cast<Acc>(total);
}

}  // namespace
}  // namespace pygen::cuda
