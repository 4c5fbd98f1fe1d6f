// gan_loss for NVIDIA GPUs. Not yet run on a GPU.
//
// Terms weight form(y), y = sign (x - other), of csrc/common/gan_loss.h, summed over all logits.
//
// Traffic, T = bytes of the logits: forward reads T, backward reads T and writes T, each in one launch for all members
// of a list; relativistic_average reads T once more in forward, for the means. Two levels: each block writes its sums
// (8 bytes per 2048 logits or more), the block that finishes last adds them in a fixed order.
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
  void *out, *other_grad;            // [numel]
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
  bool weighted;  // sums are of slopes times upstream, and nothing else is wanted
};

struct BackwardParams : GanParams {
  const void* grad_loss;  // [], or null: each term has its own
  const void* means;      // [members, 4], or null
  const void* slopes;     // [members, 4], sums of slopes in the last two; with means
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

// --- kernels

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
  Pack<T, V> in;
  if (aligned && valid == V) {
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(in) / 16); ++i) {
      const uint4 chunk = __ldg(reinterpret_cast<const uint4*>(from) + i);
      memcpy(reinterpret_cast<char*>(in.v) + 16 * i, &chunk, 16);
    }
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) in.v[i] = i < valid ? from[i] : static_cast<T>(0.0f);
  }
  return in;
}

template <class T, int V, class Acc>
__device__ __forceinline__ void store_unit(void* data, int64_t at, int valid, bool aligned, const Acc (&value)[V]) {
  T* to = static_cast<T*>(data) + at;
  const Pack<T, V> in = pack<T, V>(value);
  if (aligned && valid == V) {
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(in) / 16); ++i) {
      uint4 chunk;
      memcpy(&chunk, reinterpret_cast<const char*>(in.v) + 16 * i, 16);
      reinterpret_cast<uint4*>(to)[i] = chunk;
    }
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (i < valid) to[i] = in.v[i];
    }
  }
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

// The means of relativistic_average: sums[members, :2].
template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads) gan_loss_mean_kernel(const __grid_constant__ ForwardParams p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  constexpr int V = Tr::kUnit, U = Tr::kUnits;
  GanPlace<Tr> place(p);
  const Segment& s = p.segment[place.index];
  double total[1] = {};
  for (int turn = 0; turn < p.turns; ++turn, place.at += Tr::kTile) {
    Pack<T, V> packed[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int64_t at = place.at + u * (Tr::kThreads * V);
      packed[u] = load_unit<T, V>(s.x, at, valid_elements(s.numel, at, V), s.aligned);
    }
    Acc sum = 0;
#pragma unroll
    for (int u = 0; u < U; ++u) {
      Acc x[V];
      unpack(packed[u], x);
#pragma unroll
      for (int i = 0; i < V; ++i) sum += x[i];
    }
    total[0] += sum;
  }
  block_sums<Tr::kThreads>(total);
  if (threadIdx.x == 0) p.partial[kTotals * static_cast<int64_t>(gridDim.x) + blockIdx.x] = total[0];
  if (is_last_block(p.ticket)) finish<Tr>(p, true);
}

template <class Tr, GanForm kForm>
__global__ void __launch_bounds__(Tr::kThreads, Tr::kMinBlocks)
    gan_loss_fwd_kernel(const __grid_constant__ ForwardParams p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  constexpr int V = Tr::kUnit, U = Tr::kUnits;
  GanPlace<Tr> place(p);
  const Segment& s = p.segment[place.index];
  const SideConstants& side = p.side[s.side];
  const Acc shift = compared_mean<Acc>(p.means, s), sign = static_cast<Acc>(side.sign);
  const Acc offset = static_cast<Acc>(side.offset), limit = static_cast<Acc>(side.limit);
  const Acc weight = static_cast<Acc>(s.weight);
  const bool used = !p.weighted || s.upstream != nullptr;
  const Acc all_upstream = s.expanded ? *static_cast<const Acc*>(s.upstream) : Acc(0);
  GanSums<Acc> sums;
  for (int turn = 0; turn < (used ? p.turns : 0); ++turn, place.at += Tr::kTile) {
    Pack<T, V> packed[U], packed_other[U];
    int valid[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int64_t at = place.at + u * (Tr::kThreads * V);
      valid[u] = valid_elements(s.numel, at, V);
      packed[u] = load_unit<T, V>(s.x, at, valid[u], s.aligned);
      if (p.pair) packed_other[u] = load_unit<T, V>(s.other, at, valid[u], s.aligned);
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int64_t at = place.at + u * (Tr::kThreads * V);
      Acc x[V], other[V], upstream[V], term[V];
      unpack(packed[u], x);
      if (p.pair) unpack(packed_other[u], other);
      if (p.weighted && !s.expanded) unpack(load_unit<Acc, V>(s.upstream, at, valid[u], s.aligned), upstream);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const Acc y = (x[i] - (p.pair ? other[i] : shift)) * sign;
        const Acc e = uses_exp(kForm) ? exp_minus_abs(y) : Acc(0);
        const Acc plain = plain_part<kForm>(y, offset);
        if (s.out != nullptr) {
          term[i] = (uses_exp(kForm) ? plain + log1p_positive(e) : plain) * weight;
        }
        if (i >= valid[u]) continue;
        sums.value += plain;
        if (uses_exp(kForm)) sums.log.add(e);
        sums.x += x[i];
        if (p.pair) sums.other += other[i];
        sums.right += y < limit ? 1 : 0;
        if (kForm == GanForm::Softplus && p.sums != nullptr) {
          const Acc slope = gan_slope<kForm>(y, e, offset);
          sums.slope += p.weighted ? slope * (s.expanded ? all_upstream : upstream[i]) : slope;
        }
      }
      if (s.out != nullptr) store_unit<Acc>(s.out, at, valid[u], s.aligned, term);
    }
    if ((turn + 1) % Tr::kRun == 0) sums.flush();
  }
  sums.flush();
  // loss, x, other, right, slopes; then as the columns of partial
  double total[5] = {sums.total_value, sums.total_x, sums.total_other, static_cast<double>(sums.right),
                     sums.total_slope};
  block_sums<Tr::kThreads>(total);
  if (threadIdx.x == 0) {
    const int64_t blocks = gridDim.x;
    double* to = p.partial + blockIdx.x;
    if (p.loss != nullptr) to[0] = s.numel > 0 ? total[0] * s.weight : 0.0;
    if (p.stats != nullptr) {
      const double share = s.numel > 0 ? 1.0 / (static_cast<double>(s.numel) * p.members) : 0.0;
      const double mean = total[1] * share, right = total[3] * share;
      const bool real = s.side == 0;
      to[blocks] = real ? mean : 0.0;
      to[2 * blocks] = p.pair ? total[2] * share : real ? 0.0 : mean;
      to[3 * blocks] = real ? right : 0.0;
      to[4 * blocks] = p.pair || !real ? right : 0.0;
    }
    if (p.sums != nullptr) to[kTotals * blocks] = total[4];
  }
  if (p.loss == nullptr && p.stats == nullptr && p.sums == nullptr) return;
  if (is_last_block(p.ticket)) finish<Tr>(p, false);
}

template <class Tr, GanForm kForm>
__global__ void __launch_bounds__(Tr::kThreads) gan_loss_bwd_kernel(const __grid_constant__ BackwardParams p) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  constexpr int V = Tr::kUnit, U = Tr::kUnits;
  GanPlace<Tr> place(p);
  const Segment& s = p.segment[place.index];
  if (s.out == nullptr && s.other_grad == nullptr) return;
  const SideConstants& side = p.side[s.side];
  const Acc shift = compared_mean<Acc>(p.means, s), sign = static_cast<Acc>(side.sign);
  const Acc offset = static_cast<Acc>(side.offset);
  const bool each = p.grad_loss == nullptr && !s.expanded;  // every term has a gradient of its own
  const bool used = p.grad_loss != nullptr || s.upstream != nullptr;
  const double g = p.grad_loss != nullptr ? static_cast<double>(*static_cast<const Acc*>(p.grad_loss)) : 1.0;
  const Acc factor = static_cast<Acc>(s.weight * side.sign * g);
  const Acc all_upstream = s.expanded ? *static_cast<const Acc*>(s.upstream) : Acc(1);
  Acc constant = 0;
  if (p.means != nullptr) {  // x also moves its mean, which the other side's terms subtract
    const Segment& o = p.segment[place.index ^ 1];
    const double slopes = static_cast<double>(static_cast<const Acc*>(p.slopes)[4 * s.member + 2 + o.side]);
    constant = static_cast<Acc>(-p.side[o.side].sign * o.weight * g * slopes / static_cast<double>(s.numel));
  }
  for (int turn = 0; turn < p.turns; ++turn, place.at += Tr::kTile) {
    Pack<T, V> packed[U], packed_other[U];
    int valid[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int64_t at = place.at + u * (Tr::kThreads * V);
      valid[u] = valid_elements(s.numel, at, V);
      if (!used) continue;
      packed[u] = load_unit<T, V>(s.x, at, valid[u], s.aligned);
      if (p.pair) packed_other[u] = load_unit<T, V>(s.other, at, valid[u], s.aligned);
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int64_t at = place.at + u * (Tr::kThreads * V);
      Acc x[V], other[V], upstream[V], grad[V];
      unpack(packed[u], x);
      if (p.pair) unpack(packed_other[u], other);
      if (each && used) unpack(load_unit<Acc, V>(s.upstream, at, valid[u], s.aligned), upstream);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        if (used) {
          const Acc y = (x[i] - (p.pair ? other[i] : shift)) * sign;
          grad[i] = gan_slope<kForm>(y, offset) * factor;
          grad[i] = grad[i] * (each ? upstream[i] : all_upstream) + constant;
        } else {
          grad[i] = constant;  // terms that nothing uses: what they hold, NaN too, does not matter
        }
      }
      if (s.out != nullptr) store_unit<T>(s.out, at, valid[u], s.aligned, grad);
      if (s.other_grad == nullptr) continue;
#pragma unroll
      for (int i = 0; i < V; ++i) grad[i] = -grad[i];
      store_unit<T>(s.other_grad, at, valid[u], s.aligned, grad);
    }
  }
}

}  // namespace
}  // namespace pygen::cuda
