// vector_quantize for NVIDIA GPUs. Formula: csrc/cpu/vector_quantize.cpp. Not yet run on a GPU.
//
// Nearest: a block takes kPositions positions through all codes, kCodes at a time, kDepth channels of both in shared
// memory; a thread has kRows by kColumns products in registers and, of its positions, the best score and code so far.
// At the end the threads of a position compare, and of equal scores the lower code wins: what was found depends on
// nothing but the position. Scores never leave registers. A position's D numbers and the codes' K D come from L2 for
// each block: 2 (kPositions + kCodes) D reads for kPositions kCodes D multiply-adds.
// Gradient of input: an element a thread, its neighbours in memory beside it; three numbers read, one written.
// Sums: a warp's lanes take kSumChannels channels of one code, warps its positions by turns, in double; the order is
// that of the positions. A code that comes often keeps one block busy.
#pragma once

#include "cuda/convert.cuh"
#include "cuda/loss_sums.cuh"
#include "cuda/tensor.cuh"

namespace pygen::cuda {
namespace {

// --- params

struct QuantizeParams {
  Positions input, out, grad_quantized;
  const void *codebook, *half, *factor;
  int64_t* indices;
  void *distances, *sums;
  const int64_t *order, *begins;
  int64_t channels, positions, codes, total;  // total: positions of all images
  int64_t blocks_per_code;
};

// --- traits

template <class Number>
struct QuantizeTraits {
  using T = Number;
  using Acc = typename Element<T>::Acc;
  static constexpr int kSide = 16;  // threads along positions, and along codes
  static constexpr int kThreads = kSide * kSide;
  static constexpr int kMinBlocks = 2;
  static constexpr int kRows = std::is_same_v<Acc, double> ? 4 : 8;  // positions of a thread
  static constexpr int kColumns = kRows;                             // codes of a thread
  static constexpr int kPositions = kSide * kRows, kCodes = kSide * kColumns;
  static constexpr int kDepth = 16;
  static constexpr int kPad = 4;
  static_assert(kThreads % kPositions == 0 && kThreads % kDepth == 0);
};

constexpr int kSumChannels = 32;
constexpr int kSumWarps = 8;

// --- nearest

__device__ __forceinline__ int64_t place_of(const Positions& t, int64_t number, int64_t positions) {
  const auto image = static_cast<int64_t>(divide(static_cast<uint64_t>(number), static_cast<uint64_t>(positions)));
  return image * t.image + (number - image * positions) * t.position;
}

// What a block lends its steps.
template <class Tr>
struct QuantizeShared {
  using Acc = typename Tr::Acc;
  Acc z[Tr::kDepth][Tr::kPositions + Tr::kPad];
  Acc e[Tr::kDepth][Tr::kCodes + Tr::kPad];
  int64_t place[Tr::kPositions];
  Acc best[Tr::kSide][Tr::kPositions];
  int found[Tr::kSide][Tr::kPositions];
};

// kDepth channels of the block's positions, and of some codes; zeros where there are none.
template <class Tr>
__device__ __forceinline__ void fetch(const QuantizeParams& p, QuantizeShared<Tr>& s, int64_t channel, int64_t code,
                                      int64_t live) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const T* input = reinterpret_cast<const T*>(p.input.data);
  const bool together = p.input.channel == 1;
  for (int i = static_cast<int>(threadIdx.x); i < Tr::kPositions * Tr::kDepth; i += Tr::kThreads) {
    const int c = together ? i % Tr::kDepth : i / Tr::kPositions, k = together ? i / Tr::kDepth : i % Tr::kPositions;
    const bool there = k < live && channel + c < p.channels;
    s.z[c][k] = there ? Acc(widen_to(input[s.place[k] + (channel + c) * p.input.channel])) : Acc(0);
  }
  const T* codebook = static_cast<const T*>(p.codebook);
  for (int i = static_cast<int>(threadIdx.x); i < Tr::kCodes * Tr::kDepth; i += Tr::kThreads) {
    const int c = i % Tr::kDepth, k = i / Tr::kDepth;
    const bool there = code + k < p.codes && channel + c < p.channels;
    s.e[c][k] = there ? Acc(widen_to(codebook[(code + k) * p.channels + channel + c])) : Acc(0);
  }
}

// Positions row + kSide r by codes column + kSide j of a thread: neighbours read neighbours in shared memory.
template <class Tr>
__device__ __forceinline__ void score_codes(const QuantizeParams& p, QuantizeShared<Tr>& s, int64_t code, int64_t live,
                                            typename Tr::Acc (&best)[Tr::kRows], int (&found)[Tr::kRows]) {
  using Acc = typename Tr::Acc;
  const int row = static_cast<int>(threadIdx.x) / Tr::kSide, column = static_cast<int>(threadIdx.x) % Tr::kSide;
  Acc sum[Tr::kRows][Tr::kColumns] = {};
  for (int64_t channel = 0; channel < p.channels; channel += Tr::kDepth) {
    __syncthreads();  // what lies there has been read
    fetch<Tr>(p, s, channel, code, live);
    __syncthreads();
#pragma unroll 4
    for (int c = 0; c < Tr::kDepth; ++c) {
      Acc z[Tr::kRows], e[Tr::kColumns];
#pragma unroll
      for (int r = 0; r < Tr::kRows; ++r) z[r] = s.z[c][row + Tr::kSide * r];
#pragma unroll
      for (int j = 0; j < Tr::kColumns; ++j) e[j] = s.e[c][column + Tr::kSide * j];
#pragma unroll
      for (int r = 0; r < Tr::kRows; ++r) {
#pragma unroll
        for (int j = 0; j < Tr::kColumns; ++j) sum[r][j] += z[r] * e[j];
      }
    }
  }
#pragma unroll
  for (int j = 0; j < Tr::kColumns; ++j) {
    const int64_t k = code + column + Tr::kSide * j;
    if (k >= p.codes) break;
    const Acc half = static_cast<const Acc*>(p.half)[k];
#pragma unroll
    for (int r = 0; r < Tr::kRows; ++r) {
      const Acc score = sum[r][j] - half;
      if (score > best[r]) {
        best[r] = score;
        found[r] = static_cast<int>(k);
      }
    }
  }
}

// A position's channels by `lanes` threads, which add up their squares: quantized is written, the distance returned to
// the first of them.
template <class Tr>
__device__ __forceinline__ typename Tr::Acc finish_position(const QuantizeParams& p, int64_t from, int64_t to, int code,
                                                            int lane, int lanes) {
  using T = typename Tr::T;
  using Acc = typename Tr::Acc;
  const T* z = reinterpret_cast<const T*>(p.input.data) + from;
  const T* e = static_cast<const T*>(p.codebook) + code * p.channels;
  T* out = reinterpret_cast<T*>(p.out.data) + to;
  Acc sum = 0, part = 0;
  int count = 0;
  for (int64_t c = lane; c < p.channels; c += lanes) {
    const T own = e[c];
    out[c * p.out.channel] = own;
    const Acc apart = Acc(widen_to(z[c * p.input.channel])) - Acc(widen_to(own));
    part += apart * apart;
    if (++count % 8 == 0) {
      sum += part;
      part = 0;
    }
  }
  sum += part;
  for (int offset = lanes / 2; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffffu, sum, offset, 32);
  return sum;
}

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads, Tr::kMinBlocks)
    vector_quantize_nearest_kernel(const __grid_constant__ QuantizeParams p) {
  using Acc = typename Tr::Acc;
  __shared__ QuantizeShared<Tr> s;
  const int thread = static_cast<int>(threadIdx.x), row = thread / Tr::kSide, column = thread % Tr::kSide;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * Tr::kPositions;
  const int64_t live = min(p.total - first, static_cast<int64_t>(Tr::kPositions));
  for (int k = thread; k < Tr::kPositions; k += Tr::kThreads)
    s.place[k] = place_of(p.input, first + min(static_cast<int64_t>(k), live - 1), p.positions);
  Acc best[Tr::kRows];
  int found[Tr::kRows] = {};
#pragma unroll
  for (int r = 0; r < Tr::kRows; ++r) best[r] = -Acc(INFINITY);
  __syncthreads();
  for (int64_t code = 0; code < p.codes; code += Tr::kCodes) score_codes<Tr>(p, s, code, live, best, found);
#pragma unroll
  for (int r = 0; r < Tr::kRows; ++r) {
    s.best[column][row + Tr::kSide * r] = best[r];
    s.found[column][row + Tr::kSide * r] = found[r];
  }
  __syncthreads();
  if (thread < Tr::kPositions) {
    Acc most = s.best[0][thread];
    int code = s.found[0][thread];
    for (int j = 1; j < Tr::kSide; ++j) {
      const Acc other = s.best[j][thread];
      const int its = s.found[j][thread];
      if (other > most || (other == most && its < code)) {
        most = other;
        code = its;
      }
    }
    if (most == Acc(INFINITY) || most == -Acc(INFINITY)) code = 0;
    s.found[0][thread] = code;
    if (thread < live) p.indices[first + thread] = code;
  }
  __syncthreads();
  // Where channels lie together a warp takes a position, else a thread.
  const int lanes = p.input.channel == 1 ? 32 : 1;
  for (int k = thread / lanes; k < live; k += Tr::kThreads / lanes) {
    const int64_t to = place_of(p.out, first + k, p.positions);
    const Acc distance = finish_position<Tr>(p, s.place[k], to, s.found[0][k], thread % lanes, lanes);
    if (thread % lanes == 0) static_cast<Acc*>(p.distances)[first + k] = distance;
  }
}

// --- gradients

constexpr int kGradThreads = 256;

template <class T>
__global__ void __launch_bounds__(kGradThreads)
    vector_quantize_grad_input_kernel(const __grid_constant__ QuantizeParams p) {
  using Acc = typename Element<T>::Acc;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kGradThreads + threadIdx.x;
  if (index >= p.total * p.channels) return;
  const auto over = [&](int64_t by) {
    return static_cast<int64_t>(divide(static_cast<uint64_t>(index), static_cast<uint64_t>(by)));
  };
  int64_t image, channel, position;
  if (p.input.channel == 1) {  // image, position, channel
    const int64_t number = over(p.channels);
    channel = index - number * p.channels;
    image = static_cast<int64_t>(divide(static_cast<uint64_t>(number), static_cast<uint64_t>(p.positions)));
    position = number - image * p.positions;
  } else {  // image, channel, position
    const int64_t line = over(p.positions);
    position = index - line * p.positions;
    image = static_cast<int64_t>(divide(static_cast<uint64_t>(line), static_cast<uint64_t>(p.channels)));
    channel = line - image * p.channels;
  }
  const auto at = [&](const Positions& t) { return image * t.image + channel * t.channel + position * t.position; };
  const int64_t code = p.indices[image * p.positions + position];
  const Acc z = widen_to(reinterpret_cast<const T*>(p.input.data)[at(p.input)]);
  const Acc e = widen_to(static_cast<const T*>(p.codebook)[code * p.channels + channel]);
  Acc grad = static_cast<const Acc*>(p.factor)[image] * (z - e);
  if (p.grad_quantized.data != nullptr)
    grad += Acc(widen_to(reinterpret_cast<const T*>(p.grad_quantized.data)[at(p.grad_quantized)]));
  reinterpret_cast<T*>(p.out.data)[at(p.out)] = narrow_to<T>(grad);
}

template <class T>
__global__ void __launch_bounds__(kSumChannels* kSumWarps)
    vector_quantize_sums_kernel(const __grid_constant__ QuantizeParams p) {
  using Acc = typename Element<T>::Acc;
  __shared__ double parts[kSumWarps][kSumChannels];
  const int64_t code = static_cast<int64_t>(blockIdx.x) / p.blocks_per_code;
  const int lane = static_cast<int>(threadIdx.x) % kSumChannels, warp = static_cast<int>(threadIdx.x) / kSumChannels;
  const int64_t channel = (static_cast<int64_t>(blockIdx.x) - code * p.blocks_per_code) * kSumChannels + lane;
  const T* input = reinterpret_cast<const T*>(p.input.data) + channel * p.input.channel;
  double sum = 0;
  if (channel < p.channels) {
    const double own =
        p.factor != nullptr ? widen_to(static_cast<const T*>(p.codebook)[code * p.channels + channel]) : 0;
    for (int64_t i = p.begins[code] + warp; i < p.begins[code + 1]; i += kSumWarps) {
      const int64_t number = p.order[i];
      const double z = widen_to(input[place_of(p.input, number, p.positions)]);
      if (p.factor != nullptr) {
        const auto image = divide(static_cast<uint64_t>(number), static_cast<uint64_t>(p.positions));
        sum += static_cast<double>(static_cast<const Acc*>(p.factor)[image]) * (own - z);
      } else {
        sum += z;
      }
    }
  }
  parts[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || channel >= p.channels) return;
  for (int other = 1; other < kSumWarps; ++other) sum += parts[other][lane];
  static_cast<Acc*>(p.sums)[code * p.channels + channel] = static_cast<Acc>(sum);
}

}  // namespace
}  // namespace pygen::cuda
