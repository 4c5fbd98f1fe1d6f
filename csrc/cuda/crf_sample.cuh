// Tags drawn from the linear-chain CRF on NVIDIA GPUs, from the states that forward kept. Not yet run on a GPU.
//
// A warp takes a sample of a sequence; a step reads K numbers of the states, which the samples of a sequence share, and
// K of a row of the transposed matrix, out of the caches. N=64, T=512, K=64 in float32: 8 MB are read; what takes the
// time is 512 steps, one after the other, of that row's way, five shuffles of a running sum and a ballot.
#pragma once

#include "cuda/crf_chain.cuh"
#include "cuda/draws.cuh"

namespace pygen::cuda {
namespace {

constexpr int kSampleWarps = 4;

// Weights of a step's tags, of states and what they are multiplied with (in logarithms added to), and their sum's
// parts.
template <class Acc, int kChunks>
struct CrfTerms {
  Acc term[kChunks], up_to[kChunks], total = 0;

  __device__ __forceinline__ CrfTerms(bool scaled, const Acc (&state)[kChunks], const Acc (&weight)[kChunks]) {
    Acc top = -Lanes<Acc>::kMax;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      term[c] = scaled ? state[c] * weight[c] : state[c] + weight[c];
      top = larger(term[c], top);
    }
    if (!scaled) {
      top = warp_max(top);
#pragma unroll
      for (int c = 0; c < kChunks; ++c) term[c] = exp_minus(Acc(top - term[c]));
    }
#pragma unroll
    for (int c = 0; c < kChunks; ++c) up_to[c] = sum_up_to_lane(term[c]);
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      up_to[c] += total;
      total = __shfl_sync(0xffffffffu, up_to[c], 31);
    }
  }
  // What u draws, 0 where there is nothing to choose.
  __device__ __forceinline__ int draw(Acc u) const {
    WarpSearch<Acc> search{u * total};
#pragma unroll
    for (int c = 0; c < kChunks; ++c) search.take(32 * c, term[c], up_to[c]);
    return total > 0 ? search.result() : 0;
  }
};

template <class Tr>
__global__ void __launch_bounds__(32 * kSampleWarps, 4) crf_sample_kernel(const __grid_constant__ CrfParams p) {
  using Acc = typename Tr::Acc;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t number = static_cast<int64_t>(blockIdx.x) * kSampleWarps + warp;
  if (number >= p.sequences * p.samples) return;  // of all lanes
  const int64_t n = quotient(number, p.samples), sample = number - n * p.samples;
  const Span span(p, n);
  const int length = span.wrong ? 0 : span.length;
  const CrfWeights<Acc> w(p.weights, p.k);
  const bool scaled = *w.scaled != Acc(0);
  const uint64_t seed = static_cast<uint64_t>(*p.seed);
  const Acc* states = static_cast<const Acc*>(p.states) + n * p.steps * (p.k + 1);
  long long* out = p.decoded + (sample * p.sequences + n) * p.steps;
  for (int64_t t = length + lane; t < p.steps; t += 32) out[t] = -1;
  Acc state[Tr::kChunks], following[Tr::kChunks], weight[Tr::kChunks];
  const auto read = [&](const Acc* from, Acc(&x)[Tr::kChunks]) {
#pragma unroll
    for (int c = 0; c < Tr::kChunks; ++c)
      x[c] = 32 * c + lane < p.k ? __ldg(from + 32 * c + lane) : scaled ? Acc(0) : none<Acc>();
  };
  read(w.last, weight);
  if (length > 0) read(states + int64_t(length - 1) * (p.k + 1), following);
  float u = 0;
  int tags = 0;  // of the 32 steps that t is one of, a lane's each
  for (int t = length - 1; t >= 0; --t) {
#pragma unroll
    for (int c = 0; c < Tr::kChunks; ++c) state[c] = following[c];
    if (t > 0) read(states + int64_t(t - 1) * (p.k + 1), following);
    if (t == length - 1 || t % 32 == 31)
      u = draw_uniform(seed, n, (sample << 34) + t / 32 * 32 + lane, NoiseDomain::CrfSample);
    const CrfTerms<Acc, Tr::kChunks> terms(scaled, state, weight);
    const int tag = terms.draw(static_cast<Acc>(__shfl_sync(0xffffffffu, u, t % 32)));
    if (lane == t % 32) tags = tag;
    if (t % 32 == 0 && t + lane < length) out[t + lane] = tags;
    read(w.from + int64_t(tag) * p.k, weight);
  }
}

}  // namespace
}  // namespace pygen::cuda
