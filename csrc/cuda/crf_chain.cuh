// How a block goes along a chain. Formulas and when sums are scaled: csrc/common/crf.h.
//
// A block takes a sequence. Its warps share the K columns of a product, 32 each, and, `parts` warps to a column, the K
// rows; a thread's piece of the matrix stays in registers (of more than 128 tags, in double of more than 64, it comes
// out of the caches at every step). Every warp then adds up all columns for itself, so that a step takes one barrier:
// the state lies in each warp's own memory, the partial sums in one of two places by turns.
#pragma once

#include "common/crf.h"
#include "cuda/convert.cuh"
#include "cuda/loss_sums.cuh"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

enum class Stored : int { Float64, Float32, BFloat16, Float16 };

struct CrfParams {
  Stored stored;  // what emissions and their gradient hold
  Positions emissions, grads;
  const void *transitions, *start, *end;
  const long long *labels, *lengths;
  void *weights, *states;  // kept
  void* nll;               // [N] or null
  const void* grad;
  int64_t grad_stride;
  double scale;
  void *u, *ends;      // [N, T, K] and [2, N, K], or null
  long long* decoded;  // or drawn
  void* scores;
  const int64_t* seed;
  int64_t samples;
  int64_t sequences, steps;
  int k;
};

// What crf_prepare_kernel leaves: e^(A - top) or A, once as it is and once transposed; the same of end; three numbers.
template <class Acc>
struct CrfWeights {
  Acc *to, *from, *last, *top, *last_top, *scaled;
  __host__ __device__ CrfWeights(void* data, int64_t k)
      : to(static_cast<Acc*>(data)),
        from(to + k * k),
        last(from + k * k),
        top(last + k),
        last_top(top + 1),
        scaled(top + 2) {}
};

template <class Number, int kColumns>  // of 32 tags
struct CrfTraits {
  using Acc = Number;
  static constexpr int kChunks = kColumns;
  static constexpr int kFew = sizeof(Acc) == 8 ? 2 : 1, kMany = sizeof(Acc) == 8 ? 1 : 2;
  static constexpr int kParts = kChunks == 1 ? kFew : kChunks < 8 ? 4 : kMany;
  static constexpr int kTags = 32 * kChunks;
  static constexpr int kThreads = 32 * kChunks * kParts;
  static constexpr int kRows = kTags / kParts;                               // of a thread
  static constexpr bool kHeld = kChunks == 1 || kRows * sizeof(Acc) <= 128;  // in registers
  static constexpr int kUnroll = kHeld ? kRows : sizeof(Acc) == 8 ? 2 : 4;
};

template <class Acc>
__device__ __forceinline__ Acc none() {
  return -static_cast<Acc>(INFINITY);
}

template <class Acc>
__device__ __forceinline__ Acc larger(Acc x, Acc y) {
  return x > y ? x : y;
}
template <class Acc>
__device__ __forceinline__ Acc warp_max(Acc x) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) x = larger(x, __shfl_xor_sync(0xffffffffu, x, mask));
  return x;
}
template <class Acc>
__device__ __forceinline__ Acc warp_sum(Acc x) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) x += __shfl_xor_sync(0xffffffffu, x, mask);
  return x;
}

template <class Acc>
__device__ __forceinline__ Acc load_stored(Stored stored, const char* data, int64_t at) {
  if constexpr (std::is_same_v<Acc, double>) return __ldg(reinterpret_cast<const double*>(data) + at);
  if (stored == Stored::BFloat16) return static_cast<Acc>(widen_to(reinterpret_cast<const __nv_bfloat16*>(data)[at]));
  if (stored == Stored::Float16) return static_cast<Acc>(widen_to(reinterpret_cast<const __half*>(data)[at]));
  return static_cast<Acc>(__ldg(reinterpret_cast<const float*>(data) + at));
}
template <class Acc>
__device__ __forceinline__ void store_stored(Stored stored, char* data, int64_t at, Acc value) {
  if constexpr (std::is_same_v<Acc, double>) {
    reinterpret_cast<double*>(data)[at] = value;
  } else if (stored == Stored::BFloat16) {
    reinterpret_cast<__nv_bfloat16*>(data)[at] = narrow_to<__nv_bfloat16>(value);
  } else if (stored == Stored::Float16) {
    reinterpret_cast<__half*>(data)[at] = narrow_to<__half>(value);
  } else {
    reinterpret_cast<float*>(data)[at] = value;
  }
}

// A sequence's length, cut to what there is.
struct Span {
  int length;
  bool wrong;
  __device__ __forceinline__ Span(const CrfParams& p, int64_t n) {
    const int64_t given = p.lengths ? __ldg(p.lengths + n) : p.steps;
    wrong = given < 0 || given > p.steps;
    length = static_cast<int>(given < 0 ? 0 : given > p.steps ? p.steps : given);
  }
};

enum class Sum { Scaled, Logarithms, Best };

// A thread's piece of a matrix [k, k] of which products sum over the first index, and the products.
template <class Tr>
class Chain {
  using Acc = typename Tr::Acc;

 public:
  // `state`: [threads / 32, kRows]; `partial`: [2, 2, kParts, kTags]. Both shared.
  __device__ __forceinline__ Chain(const Acc* matrix, int k, Sum sum, Acc* state, Acc* partial)
      : lane_(static_cast<int>(threadIdx.x) % 32),
        first_(static_cast<int>(threadIdx.x) / 32 / Tr::kChunks * Tr::kRows),
        column_(static_cast<int>(threadIdx.x) / 32 % Tr::kChunks * 32 + lane_),
        k_(k),
        sum_(sum),
        nothing_(sum == Sum::Scaled ? Acc(0) : none<Acc>()),
        matrix_(matrix),
        state_(state + threadIdx.x / 32 * Tr::kRows),
        partial_(partial) {
    if constexpr (Tr::kHeld) {
#pragma unroll
      for (int r = 0; r < Tr::kRows; ++r) held_[r] = read(r);
    }
  }

  // The products of `values`, the 32 c + lane-th in each warp's lane, in their place. Every thread must call it.
  __device__ __forceinline__ void operator()(Acc (&values)[Tr::kChunks], int turn) {
#pragma unroll
    for (int c = 0; c < Tr::kChunks; ++c) {
      const int row = 32 * c + lane_ - first_;
      if (row >= 0 && row < Tr::kRows) state_[row] = values[c];
    }
    __syncwarp();
    Acc* partial = partial_ + (turn & 1) * (2 * Tr::kParts * Tr::kTags);
    Acc* sums = partial + Tr::kParts * Tr::kTags;
    const int mine = first_ / Tr::kRows * Tr::kTags + column_;
    if (sum_ == Sum::Scaled) {
      Acc total[4] = {};
#pragma unroll Tr::kUnroll
      for (int r = 0; r < Tr::kRows; ++r) total[r % 4] += state_[r] * at(r);
      partial[mine] = (total[0] + total[1]) + (total[2] + total[3]);
    } else {
      Acc top = none<Acc>();
#pragma unroll Tr::kUnroll
      for (int r = 0; r < Tr::kRows; ++r) top = larger(Acc(state_[r] + at(r)), top);
      partial[mine] = top;
      if (sum_ == Sum::Logarithms) {
        Acc total = 0;
        const Acc from = larger(top, -Lanes<Acc>::kMax);
#pragma unroll Tr::kUnroll
        for (int r = 0; r < Tr::kRows; ++r) total += exp_minus(Acc(from - (state_[r] + at(r))));
        sums[mine] = total;
      }
    }
    __syncthreads();
#pragma unroll
    for (int c = 0; c < Tr::kChunks; ++c) values[c] = joined(partial + 32 * c + lane_, sums + 32 * c + lane_);
  }

 private:
  __device__ __forceinline__ Acc read(int r) const {
    return first_ + r < k_ && column_ < k_ ? __ldg(matrix_ + (first_ + r) * k_ + column_) : nothing_;
  }
  __device__ __forceinline__ Acc at(int r) const {
    if constexpr (Tr::kHeld) return held_[r];
    return read(r);
  }
  __device__ __forceinline__ Acc joined(const Acc* partial, const Acc* sums) const {
    Acc total = partial[0];
    if (sum_ == Sum::Scaled) {
#pragma unroll
      for (int s = 1; s < Tr::kParts; ++s) total += partial[s * Tr::kTags];
      return total;
    }
    Acc top = larger(total, -Lanes<Acc>::kMax);
#pragma unroll
    for (int s = 1; s < Tr::kParts; ++s) {
      total = larger(partial[s * Tr::kTags], total);
      top = larger(partial[s * Tr::kTags], top);
    }
    if (sum_ == Sum::Best) return total;
    Acc sum = 0;
#pragma unroll
    for (int s = 0; s < Tr::kParts; ++s)
      sum += sums[s * Tr::kTags] * exp_minus(Acc(top - larger(partial[s * Tr::kTags], -Lanes<Acc>::kMax)));
    return top + crf_log(sum);
  }

  const int lane_, first_, column_, k_;
  const Sum sum_;
  const Acc nothing_;
  const Acc* matrix_;
  Acc *state_, *partial_;
  Acc held_[Tr::kHeld ? Tr::kRows : 1];
};

// log sum e^x over a warp's values.
template <class Acc, int kChunks>
__device__ __forceinline__ Acc log_total(const Acc (&x)[kChunks]) {
  Acc top = -Lanes<Acc>::kMax, sum = 0;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) top = larger(x[c], top);
  top = warp_max(top);
#pragma unroll
  for (int c = 0; c < kChunks; ++c) sum += exp_minus(Acc(top - x[c]));
  sum = warp_sum(sum);
  return top + crf_log(sum);
}

// Emissions of a step, the 32 c + lane-th in each warp's lane; -inf past the last tag.
template <class Tr>
__device__ __forceinline__ void read_step(const CrfParams& p, int64_t n, int t, typename Tr::Acc (&e)[Tr::kChunks]) {
  using Acc = typename Tr::Acc;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t row = n * p.emissions.image + t * p.emissions.channel;
#pragma unroll
  for (int c = 0; c < Tr::kChunks; ++c) {
    const int j = 32 * c + lane;
    e[c] = j < p.k ? load_stored<Acc>(p.stored, p.emissions.data, row + j * p.emissions.position) : none<Acc>();
  }
}
// start or end likewise, 0 where absent.
template <class Tr>
__device__ __forceinline__ void read_vector(const void* from, int k, typename Tr::Acc (&x)[Tr::kChunks]) {
  using Acc = typename Tr::Acc;
#pragma unroll
  for (int c = 0; c < Tr::kChunks; ++c) {
    const int j = 32 * c + static_cast<int>(threadIdx.x) % 32;
    x[c] = j >= k ? none<Acc>() : from ? __ldg(static_cast<const Acc*>(from) + j) : Acc(0);
  }
}

}  // namespace
}  // namespace pygen::cuda
