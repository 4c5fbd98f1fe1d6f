// What the kernels of gan_loss.cuh share: parameters, traits, where a thread works, a block's sums and the last
// block's.
#pragma once

#include "common/gan_loss_call.h"
#include "cuda/last_block.cuh"
#include "cuda/reduce.cuh"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

// --- params

#if !defined(PYGEN_GAN_MAX_SEGMENTS)
#define PYGEN_GAN_MAX_SEGMENTS 48  // in one launch: 4 KB of parameters; the tests on the host take fewer
#endif
constexpr int kMaxSegments = PYGEN_GAN_MAX_SEGMENTS;
constexpr int kTotals = 5;  // loss, mean of real, of fake, right answers on real, on fake

struct Segment {
  const void *x, *other, *upstream;  // [numel]
  void *out, *other_grad;            // [numel]; out: forward's terms, or x's gradient
  int64_t numel, first;              // first: its first block
  double weight;
  int member;
  int8_t side;
  bool aligned;   // every pointer allows 128-bit accesses
  bool expanded;  // upstream is one number
};

struct SideConstants {
  double sign, offset, limit;
};

struct GanParams {
  int count, turns, members;  // each thread takes turns
  bool pair;
  SideConstants side[2];
  Segment segment[kMaxSegments];
};

struct ForwardParams : GanParams {
  Ticket ticket;
  double* partial;    // [kTotals + 1, blocks]: the blocks' parts of the totals, and of a sum for each segment
  double* totals;     // [kTotals] of the launches before, where one list needs several
  void* loss;         // [], or null
  void* stats;        // [4], or null
  const void* means;  // [members, 4], or null: the logits are compared with the other side's mean
  void* sums;         // [members, 4], or null: the sums for each segment go here
  double empty[2];    // what is added to the statistics of a side: NaN where a member has no logits
  bool first_launch, last_launch;
  bool weighted;   // sums are of slopes times upstream, and nothing else is wanted
  bool gradients;  // out and other_grad get the gradients for an upstream gradient of 1, in place of terms
};

struct BackwardParams : GanParams {
  const void* grad_loss;  // [], or null: each term has its own
  const void* means;      // [members, 4], or null
  const void* slopes;     // [members, 4], sums of slopes in the last two; with means
  bool made;              // forward has left the gradients for an upstream gradient of 1
};

static_assert(sizeof(ForwardParams) <= 4096 && sizeof(BackwardParams) <= 4096, "what a launch takes");

// --- traits

template <class Number>
struct GanTraits {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kThreads = 256;
  static constexpr int kMinBlocks = 2;                            // that fit a multiprocessor: with more, some spill
  static constexpr int kUnit = 16 / sizeof(T);                    // elements of one 128-bit access
  static constexpr int kUnits = 2;                                // in flight in each thread
  static constexpr int kPerTurn = kUnit * kUnits;                 // elements of a thread
  static constexpr int64_t kTile = int64_t(kThreads) * kPerTurn;  // elements of a block
  static constexpr int kRun = Log1pSum<Acc>::kRun / kPerTurn;     // turns between which sums stay in Acc
  static_assert(kRun >= 1 && kRun * kPerTurn == Log1pSum<Acc>::kRun);
};

// --- what the kernels share

// The segment of the calling block, and where in it the thread's first unit of a turn lies.
template <class Tr>
struct GanPlace {
  int index = 0;
  int64_t at;
  __device__ __forceinline__ GanPlace(const GanParams& p) {
    const int64_t block = blockIdx.x;
    while (index + 1 < p.count && block >= p.segment[index + 1].first) ++index;
    at = (block - p.segment[index].first) * p.turns * Tr::kTile + static_cast<int>(threadIdx.x) * Tr::kUnit;
  }
};

__device__ __forceinline__ int valid_elements(int64_t numel, int64_t at, int most) {
  const int64_t left = numel - at;
  return left >= most ? most : left > 0 ? static_cast<int>(left) : 0;
}

// Elements at .. at+V-1, of which `valid` exist; 0 for the others.
template <class T, int V>
__device__ __forceinline__ Pack<T, V> load_unit(const void* data, int64_t at, int valid, bool aligned) {
  const T* from = static_cast<const T*>(data) + at;
  if (aligned && valid == V) return load_whole<T, V>(from);
  Pack<T, V> in;
#pragma unroll
  for (int i = 0; i < V; ++i) in.v[i] = i < valid ? from[i] : static_cast<T>(0.0f);
  return in;
}

template <class T, int V, class Acc>
__device__ __forceinline__ void store_unit(void* data, int64_t at, int valid, bool aligned, const Acc (&value)[V]) {
  T* to = static_cast<T*>(data) + at;
  const Pack<T, V> in = pack<T, V>(value);
  if (aligned && valid == V) {
    store_whole<T, V>(to, in);
    return;
  }
#pragma unroll
  for (int i = 0; i < V; ++i) {
    if (i < valid) to[i] = in.v[i];
  }
}

// One expression for both directions: what forward makes is what backward would make, to the bit and the zeros' signs.
template <class Acc>
__device__ __forceinline__ Acc gan_gradient(Acc slope, Acc factor, Acc upstream, Acc constant) {
  return slope * factor * upstream + constant;
}

template <class T, int V, class Acc>
__device__ __forceinline__ void store_gradients(const Segment& s, int64_t at, int valid, Acc (&grad)[V]) {
  if (s.out != nullptr) store_unit<T>(s.out, at, valid, s.aligned, grad);
  if (s.other_grad == nullptr) return;
#pragma unroll
  for (int i = 0; i < V; ++i) grad[i] = -grad[i];
  store_unit<T>(s.other_grad, at, valid, s.aligned, grad);
}

// With label smoothing one side of a launch may have none, and relu(-y) 0 would be NaN at infinity.
template <GanForm kForm, class Acc>
__device__ __forceinline__ Acc plain_part(Acc y, Acc offset) {
  if (kForm == GanForm::SmoothedSoftplus && offset == 0) return relu(y);
  return gan_plain_part<kForm>(y, offset);
}

// What a segment's logits are compared with where that is one number.
template <class Acc>
__device__ __forceinline__ Acc compared_mean(const void* means, const Segment& s) {
  return means == nullptr ? Acc(0) : static_cast<const Acc*>(means)[4 * s.member + 1 - s.side];
}

// Of one thread; flushed to double before float would lose digits.
template <class Acc>
struct GanSums {
  Acc value = 0, x = 0, other = 0, slope = 0;
  Log1pSum<Acc> log;
  double total_value = 0, total_x = 0, total_other = 0, total_slope = 0;
  int right = 0;
  __device__ __forceinline__ void flush() {
    total_value += value + log.take();
    total_x += x;
    total_other += other;
    total_slope += slope;
    value = x = other = slope = 0;
  }
};

template <int kThreads>
__device__ __forceinline__ double column_sum(const double* column, int64_t first, int64_t last) {
  double sum = 0;
#pragma unroll 8
  for (int64_t i = first + threadIdx.x; i < last; i += kThreads) sum += __ldcg(column + i);
  return sum;
}

// The last block: totals over the grid, and the sum of each segment, or its mean where `mean`.
template <class Tr>
__device__ __forceinline__ void finish(const ForwardParams& p, bool mean) {
  using Acc = typename Tr::Acc;
  const int64_t blocks = gridDim.x;
  if (p.loss != nullptr || p.stats != nullptr) {
    double total[kTotals] = {};
#pragma unroll
    for (int k = 0; k < kTotals; ++k) {
      if (k == 0 ? p.loss != nullptr : p.stats != nullptr)
        total[k] = column_sum<Tr::kThreads>(p.partial + k * blocks, 0, blocks);
    }
    block_sums<Tr::kThreads>(total);
    if (threadIdx.x == 0) {
#pragma unroll
      for (int k = 0; k < kTotals; ++k) {
        if (!p.first_launch) total[k] += p.totals[k];
        if (!p.last_launch) p.totals[k] = total[k];
      }
      if (p.last_launch && p.loss != nullptr) *static_cast<Acc*>(p.loss) = static_cast<Acc>(total[0]);
      if (p.last_launch && p.stats != nullptr) {
#pragma unroll
        for (int k = 0; k < 4; ++k) static_cast<Acc*>(p.stats)[k] = static_cast<Acc>(total[k + 1] + p.empty[k % 2]);
      }
    }
  }
  if (p.sums == nullptr) return;
  for (int i = 0; i < p.count; ++i) {
    const Segment& s = p.segment[i];
    const int64_t last = i + 1 < p.count ? p.segment[i + 1].first : blocks;
    double sum[1] = {s.numel > 0 ? column_sum<Tr::kThreads>(p.partial + kTotals * blocks, s.first, last) : 0.0};
    block_sums<Tr::kThreads>(sum);
    if (threadIdx.x != 0) continue;
    if (mean && s.numel > 0) sum[0] /= static_cast<double>(s.numel);
    static_cast<Acc*>(p.sums)[4 * s.member + s.side + (mean ? 0 : 2)] = static_cast<Acc>(sum[0]);
  }
}

}  // namespace
}  // namespace pygen::cuda
