// noise_contrastive for NVIDIA GPUs. Formula: pygen/reference/noise_contrastive.py. Not yet run on a GPU.
//
// Traffic of a sample: D numbers of its own and 1 + K rows of the weights, D T bytes each from anywhere in memory;
// where input's gradient is wanted they are read again, from L1 or L2 (K = 25 rows of 128 floats are 13 KB). A block
// has a sample; a warp takes kBatch classes at a time, whose rows are in flight together. Shared negatives: K products
// read, their slopes written, 8 bytes each. Sums over classes: a block for each entry, of which those that begin a
// class work; an entry is a vector of D numbers read, a class one written. A class that comes often keeps one block
// busy: the order of its sum is fixed.
#pragma once

#include "common/noise_contrastive.h"
#include "cuda/convert.cuh"
#include "cuda/reduce.cuh"
#include "cuda/softmax_terms.cuh"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

// --- params

struct ContrastRows {
  const void *input, *weight, *bias, *shift;
  const double* log_noise;
  const int64_t *target, *chosen;
  void *scores, *slopes, *nll, *grad;
  int64_t input_stride, weight_stride, noise_stride, negatives, features, classes;
  double log_count;
  bool softmax, remove_hits;
};

struct ContrastSums {
  const int64_t *classes, *order, *ends, *place;
  const void *scale, *bias_scale, *head, *tail;
  void *out, *bias;
  int64_t head_stride, tail_stride, targets, per, features, rows;
};

// --- traits

template <class Number>
struct ContrastTraits {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kThreads = 128;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kMinBlocks = 4;          // that fit a multiprocessor: left to itself ptxas spills to fit more
  static constexpr int kBatch = 4;              // rows, or scores, in flight
  static constexpr int kUnit = 16 / sizeof(T);  // elements of one 128-bit access
};

// --- kernels

// The sum of term(first) .. term(end - 1): runs of 16, each of four chains, so that errors do not grow with the count
// and four terms are in flight.
template <class Acc, class Term>
__device__ __forceinline__ Acc sum_in_runs(int64_t first, int64_t end, const Term& term) {
  Acc sum = 0;
  for (int64_t i = first; i < end; i += 16) {
    const int count = static_cast<int>(end - i < 16 ? end - i : 16);
    Acc chain[4] = {};
    for (int j = 0; j < count; j += 4) {
#pragma unroll
      for (int c = 0; c < 4; ++c) chain[c] += j + c < count ? term(i + j + c) : Acc(0);
    }
    sum += (chain[0] + chain[1]) + (chain[2] + chain[3]);
  }
  return sum;
}

// Numbers j .. j + kUnit - 1 of a row, 0 beyond its end.
template <class Tr, bool kAligned>
__device__ __forceinline__ void read_unit(const typename Tr::T* row, int64_t j, int64_t features,
                                          typename Tr::Acc (&out)[Tr::kUnit]) {
  if constexpr (kAligned) {
    const uint4 chunk = __ldg(reinterpret_cast<const uint4*>(row + j));
    Pack<typename Tr::T, Tr::kUnit> pack;
    memcpy(reinterpret_cast<char*>(pack.v), &chunk, 16);
    unpack(pack, out);
  } else {
#pragma unroll
    for (int i = 0; i < Tr::kUnit; ++i) out[i] = j + i < features ? widen_to(row[j + i]) : typename Tr::Acc(0);
  }
}

template <class Tr>
struct ContrastSample {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const ContrastRows& p;
  const T *input, *weight;
  const int64_t* chosen;
  int64_t target;
  Acc* scores;

  __device__ __forceinline__ ContrastSample(const ContrastRows& params, int64_t n)
      : p(params),
        input(static_cast<const T*>(p.input) + n * p.input_stride),
        weight(static_cast<const T*>(p.weight)),
        chosen(p.chosen + (p.shift != nullptr ? 0 : n * p.negatives)),
        target(p.target[n]),
        scores(static_cast<Acc*>(p.scores) + n * p.negatives) {}

  __device__ __forceinline__ bool known(int64_t c) const { return c >= 0 && c < p.classes; }
  __device__ __forceinline__ const T* row(int64_t c) const { return weight + c * p.weight_stride; }
  // What is added to a product, less log(K q).
  __device__ __forceinline__ Acc corrected(Acc product, int64_t c) const {
    if (!known(c)) return Acc(NAN);
    if (p.bias != nullptr) product += Acc(widen_to(static_cast<const T*>(p.bias)[c]));
    if (p.log_noise != nullptr) product -= static_cast<Acc>(p.log_noise[c * p.noise_stride] + p.log_count);
    return product;
  }
  __device__ __forceinline__ Acc without_hit(Acc score, int64_t c) const {
    return p.remove_hits && c == target ? -Acc(INFINITY) : score;
  }

  // Of candidates 0, the target, and 1 .. count, the negatives; by a warp, `take(candidate, class, score)` in one lane.
  template <bool kAligned, class Take>
  __device__ __forceinline__ void dots(int64_t count, const Take& take) const {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    for (int64_t first = int64_t(warp) * Tr::kBatch; first <= count; first += Tr::kWarps * Tr::kBatch) {
      int64_t ids[Tr::kBatch];
      Acc sums[Tr::kBatch] = {};
#pragma unroll
      for (int b = 0; b < Tr::kBatch; ++b) {
        const int64_t candidate = first + b;
        ids[b] = candidate == 0 ? target : candidate <= count ? chosen[candidate - 1] : -1;
      }
      for (int64_t j = lane * Tr::kUnit; j < p.features; j += 32 * Tr::kUnit) {
        Acc x[Tr::kUnit], w[Tr::kBatch][Tr::kUnit];
        read_unit<Tr, kAligned>(input, j, p.features, x);
#pragma unroll
        for (int b = 0; b < Tr::kBatch; ++b)
          read_unit<Tr, kAligned>(row(known(ids[b]) ? ids[b] : 0), j, p.features, w[b]);
#pragma unroll
        for (int b = 0; b < Tr::kBatch; ++b)
#pragma unroll
          for (int i = 0; i < Tr::kUnit; ++i) sums[b] += x[i] * w[b][i];
      }
#pragma unroll
      for (int b = 0; b < Tr::kBatch; ++b) {
#pragma unroll
        for (int mask = 16; mask > 0; mask /= 2) sums[b] += __shfl_xor_sync(0xffffffffu, sums[b], mask);
        if (lane == b && first + b <= count) take(first + b, ids[b], corrected(sums[b], ids[b]));
      }
    }
  }
};

template <class Tr, bool kShared, bool kAligned>
__global__ void __launch_bounds__(Tr::kThreads, Tr::kMinBlocks)
    noise_contrastive_rows_kernel(const __grid_constant__ ContrastRows p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  __shared__ Acc target_score;
  const int64_t n = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x), count = static_cast<int>(p.negatives);
  const ContrastSample<Tr> sample(p, n);
  sample.template dots<kAligned>(kShared ? 0 : count, [&](int64_t candidate, int64_t c, Acc score) {
    if (candidate == 0) {
      target_score = score;
    } else {
      sample.scores[candidate - 1] = sample.without_hit(score, c);
    }
  });
  __syncthreads();
  const Acc own = target_score;
  const auto score = [&](int k) {
    if (!kShared) return sample.scores[k];
    const int64_t c = sample.chosen[k];
    const Acc made = sample.scores[k] + static_cast<const Acc*>(p.shift)[k];
    return sample.known(c) ? sample.without_hit(made, c) : Acc(NAN);
  };
  Acc slope;
  if (p.softmax) {
    Terms<Acc> terms = sweep_terms<Tr::kBatch, Acc>(count, -1, thread, Tr::kThreads, score);
    join_lanes(terms);
    join_warps<Tr::kWarps>(terms);
    const Acc top = own > terms.top ? own : terms.top;
    const Acc others = terms.others * exp_term(terms.top - top);
    const Categorical<Acc> of = categorical<Acc>(top, own, others);
    for (int k = thread; k < count; k += Tr::kThreads) sample.scores[k] = exp_term(score(k) - top) * of.inverse;
    slope = -others * of.inverse;
    if (thread == 0) static_cast<Acc*>(p.nll)[n] = of.nll;
  } else {
    double loss[1] = {};
    for (int k = thread; k < count; k += Tr::kThreads) {
      const ContrastTerm<Acc> term = negative_term<Acc>(score(k));
      sample.scores[k] = term.slope;
      loss[0] += term.loss;
    }
    block_sums<Tr::kThreads>(loss);
    const ContrastTerm<Acc> term = negative_term<Acc>(-own);
    slope = -term.slope;
    if (thread == 0) static_cast<Acc*>(p.nll)[n] = term.loss + static_cast<Acc>(loss[0]);
  }
  if (thread == 0) static_cast<Acc*>(p.slopes)[n] = slope;
  if (p.grad == nullptr) return;
  __syncthreads();  // slopes of other threads
  const bool has_target = sample.known(sample.target);
  for (int64_t d = thread; d < p.features; d += Tr::kThreads) {
    Acc sum = slope;
    if (has_target) sum = slope * Acc(widen_to(sample.row(sample.target)[d]));
    if (!kShared) {
      sum += sum_in_runs<Acc>(0, count, [&](int64_t k) {
        const int64_t c = sample.chosen[k];
        const T* row = sample.row(sample.known(c) ? c : 0);
        return sample.scores[k] * Acc(widen_to(row[d]));  // of a class that is none the slope is NaN
      });
    }
    static_cast<Acc*>(p.grad)[n * p.features + d] = sum;
  }
}

template <class Tr, class U>
__global__ void __launch_bounds__(Tr::kThreads) noise_contrastive_sums_kernel(const __grid_constant__ ContrastSums p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const int64_t first = blockIdx.x, to = p.place[first];
  if ((first > 0 && p.classes[first - 1] == p.classes[first]) || to < 0 || to >= p.rows) return;  // whole blocks
  const int64_t end = p.ends[first];
  const int thread = static_cast<int>(threadIdx.x);
  const Acc* const scale = static_cast<const Acc*>(p.scale);
  for (int64_t d = thread; d < p.features; d += Tr::kThreads) {
    const Acc sum = sum_in_runs<Acc>(first, end, [&](int64_t i) {
      const int64_t e = p.order[i];
      const U* row = e < p.targets ? static_cast<const U*>(p.head) + e * p.head_stride
                                   : static_cast<const U*>(p.tail) + (e - p.targets) / p.per * p.tail_stride;
      return scale[e] * Acc(widen_to(row[d]));
    });
    static_cast<T*>(p.out)[to * p.features + d] = narrow_to<T>(sum);
  }
  if (p.bias == nullptr || thread >= 32) return;  // of whole warps
  Acc sum = 0;
  for (int64_t i = first + thread; i < end; i += 32) sum += static_cast<const Acc*>(p.bias_scale)[p.order[i]];
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
  if (thread == 0) static_cast<T*>(p.bias)[to] = narrow_to<T>(sum);
}

}  // namespace
}  // namespace pygen::cuda
