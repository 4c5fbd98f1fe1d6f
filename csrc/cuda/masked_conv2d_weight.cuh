// The kernels of the weight's and the bias's gradient of masked_conv2d.
//
//   grad_weight[o, i, tap] = sum over pixels p of grad[p, o] x[p + offset(tap), i]        for each live tap
//
// One product over pixels for each live tap, in splits of fixed size; a second kernel adds the splits in order and
// writes exact zeros where the weight is dead. Traffic: both images once for each tap and each tile of the other's
// channels, from L2; the splits' sums once there and back.
#pragma once

#include "cuda/conv_tile.cuh"

namespace pygen::cuda {

struct WeightParams {
  const unsigned char* grad;  // [pixels][grad_pitch bytes]
  const unsigned char* x;     // [pixels][x_pitch bytes]
  void* partial;              // [splits][positions][outs][ins]
  int64_t grad_pitch, x_pitch;
  int64_t pixels, per_split, plane, height, width;
  int outs, ins, groups;
  bool strict;
  Taps taps;
  const int64_t* live;  // of masked_linear, both sides by degree: how many of ins each of outs sees, rising
};

template <class T, class Math, int kChannels, bool kDegrees = false>
struct WeightTraits {
  using Element = T;
  using Multiply = Math;
  using Acc = typename pygen::cuda::Element<T>::Acc;
  static constexpr bool kTensor = sizeof(T) == 2 || std::is_same_v<Math, Tf32>;
  static constexpr bool kByDegree = kDegrees;  // masked_linear
  static constexpr int kSize = sizeof(T);
  static constexpr int kThreads = 256;
  static constexpr int kTile = kChannels;       // of outs and of ins
  static constexpr int kPixels = 64 / kSize;    // of one step
  static constexpr int kPitch = kTile * kSize;  // bytes of a pixel's channels
  static constexpr int kParts = kPitch / 16;
  static constexpr int kTileBytes = kPixels * kPitch;
  static constexpr int kWarpsN = 4, kTilesM = kTile / 32, kTilesN = kTile / 32;  // 2 by 4 warps
  static constexpr int kPer = kTile / 16;                                        // 16 by 16 threads
  static constexpr int kSharedBytes = kStages * 2 * kTileBytes;
  // Which part of a row of channels lies where: what one instruction reads of several pixels is in all banks.
  static __device__ __forceinline__ int turn(int row) { return kSize == 2 ? row & 7 : (row & 3) << 1; }
  static __device__ __forceinline__ unsigned char* at(unsigned char* tile, int row, int channel) {
    const int byte = channel * kSize;
    return tile + row * kPitch + ((byte >> 4 ^ turn(row)) << 4) + (byte & 15);
  }
};

// 16-bit elements: transposed by ldmatrix, as pixels are the dim that is summed.
template <class Tr>
__device__ __forceinline__ void load_fragments(unsigned char* a_tile, unsigned char* b_tile, int step, int m0, int n0,
                                               uint32_t (&a)[Tr::kTilesM][4], uint32_t (&b)[Tr::kTilesN][2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if constexpr (Tr::kSize == 2) {
    const int low = lane & 7, one = lane >> 3 & 1, two = lane >> 4;
#pragma unroll
    for (int m = 0; m < Tr::kTilesM; ++m) {
      load_matrices_transposed(a[m], Tr::at(a_tile, step * 16 + two * 8 + low, m0 + m * 16 + one * 8));
    }
#pragma unroll
    for (int n = 0; n < Tr::kTilesN; n += 2) {
      uint32_t r[4];
      load_matrices_transposed(r, Tr::at(b_tile, step * 16 + one * 8 + low, n0 + n * 8 + two * 8));
      b[n][0] = r[0];
      b[n][1] = r[1];
      b[n + 1][0] = r[2];
      b[n + 1][1] = r[3];
    }
  } else {
    const int g = lane >> 2, t = lane & 3;
    const auto word = [&](unsigned char* tile, int row, int channel) {
      return round_tf32(*reinterpret_cast<const uint32_t*>(Tr::at(tile, step * 8 + row, channel)));
    };
#pragma unroll
    for (int m = 0; m < Tr::kTilesM; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) a[m][i] = word(a_tile, t + i / 2 * 4, m0 + m * 16 + g + i % 2 * 8);
    }
#pragma unroll
    for (int n = 0; n < Tr::kTilesN; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) b[n][i] = word(b_tile, t + i * 4, n0 + n * 8 + g);
    }
  }
}

template <class Tr>
struct TensorSums {
  float acc[Tr::kTilesM][Tr::kTilesN][4] = {};
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int m0 = warp / Tr::kWarpsN * Tr::kTilesM * 16, n0 = warp % Tr::kWarpsN * Tr::kTilesN * 8;

  __device__ __forceinline__ void multiply(unsigned char* a_tile, unsigned char* b_tile) {
#pragma unroll(Tr::kSize == 2 ? 2 : 1)  // more registers than there are without spilling, for TF32 on sm_120
    for (int step = 0; step < 2; ++step) {
      uint32_t a[Tr::kTilesM][4], b[Tr::kTilesN][2];
      load_fragments<Tr>(a_tile, b_tile, step, m0, n0, a, b);
      multiply_tiles<typename Tr::Multiply>(acc, a, b);
    }
  }
  template <class Store>
  __device__ __forceinline__ void each(Store store) const {
    each_sum(acc, m0, n0, store);
  }
};

template <class Tr>
struct ScalarSums {
  using T = typename Tr::Element;
  T acc[Tr::kPer][Tr::kPer] = {};
  const int row = static_cast<int>(threadIdx.x) / 16, column = static_cast<int>(threadIdx.x) % 16;

  __device__ __forceinline__ void multiply(unsigned char* a_tile, unsigned char* b_tile) {
#pragma unroll 4
    for (int k = 0; k < Tr::kPixels; ++k) {
      T a[Tr::kPer], b[Tr::kPer];
#pragma unroll
      for (int i = 0; i < Tr::kPer; ++i) {
        a[i] = *reinterpret_cast<const T*>(Tr::at(a_tile, k, row + 16 * i));
        b[i] = *reinterpret_cast<const T*>(Tr::at(b_tile, k, column + 16 * i));
      }
#pragma unroll
      for (int i = 0; i < Tr::kPer; ++i) {
#pragma unroll
        for (int j = 0; j < Tr::kPer; ++j) acc[i][j] += a[i] * b[j];
      }
    }
  }
  template <class Store>
  __device__ __forceinline__ void each(Store store) const {
#pragma unroll
    for (int i = 0; i < Tr::kPer; ++i) {
#pragma unroll
      for (int j = 0; j < Tr::kPer; ++j) store(row + 16 * i, column + 16 * j, acc[i][j]);
    }
  }
};

// A tile of the sums over one split of the pixels, for one position.
template <class Tr>
__device__ __forceinline__ void sum_tile(const WeightParams& p) {
  PYGEN_DYNAMIC_SHARED(memory);
  unsigned char* const shared = reinterpret_cast<unsigned char*>(memory);
  const int thread = static_cast<int>(threadIdx.x);
  const unsigned m_tiles = (p.outs + Tr::kTile - 1) / Tr::kTile, n_tiles = (p.ins + Tr::kTile - 1) / Tr::kTile;
  unsigned rest = blockIdx.x;
  const int first_i = static_cast<int>(rest % n_tiles) * Tr::kTile;
  rest /= n_tiles;
  const int first_o = static_cast<int>(rest % m_tiles) * Tr::kTile;
  rest /= m_tiles;
  const int positions = p.taps.positions();
  const int position = static_cast<int>(rest % positions);  // neighbours read the same pixels
  const int64_t split = rest / positions;
  const int64_t begin = split * p.per_split, end = min(begin + p.per_split, p.pixels);
  const int64_t dy = p.taps.dy(position), dx = p.taps.dx(position), offset = dy * p.width + dx;
  int64_t steps = (max(end - begin, int64_t(0)) + Tr::kPixels - 1) / Tr::kPixels;
  if constexpr (Tr::kByDegree) {
    if (first_i >= p.live[min(first_o + Tr::kTile, p.outs) - 1]) return;  // dead, and never read
  } else if (position == p.taps.count) {
    const int last_group = (min(first_o + Tr::kTile, p.outs) - 1) / (p.outs / p.groups);
    if (first_i / (p.ins / p.groups) + p.strict > last_group) steps = 0;  // nothing live between these channels
  }
  const auto copy_step = [&](int64_t step, int stage) {
    unsigned char* const a_tile = shared + stage * 2 * Tr::kTileBytes;
    for (int i = thread; i < Tr::kPixels * Tr::kParts; i += Tr::kThreads) {
      const int row = i / Tr::kParts, part = i % Tr::kParts, to = row * Tr::kPitch + ((part ^ Tr::turn(row)) << 4);
      const int64_t pixel = begin + step * Tr::kPixels + row;
      const bool there = pixel < end;
      const int64_t o_byte = static_cast<int64_t>(first_o) * Tr::kSize + part * 16;
      const int a_bytes = there ? clamp_bytes(static_cast<int64_t>(p.outs) * Tr::kSize - o_byte) : 0;
      copy_async(a_tile + to, a_bytes ? p.grad + pixel * p.grad_pitch + o_byte : p.grad, a_bytes);
      const Pixel at = Tr::kByDegree ? Pixel{0, 0} : place(there ? pixel : 0, p.plane, p.width);
      const bool inside = there && static_cast<uint64_t>(at.y + dy) < static_cast<uint64_t>(p.height) &&
                          static_cast<uint64_t>(at.x + dx) < static_cast<uint64_t>(p.width);
      const int64_t i_byte = static_cast<int64_t>(first_i) * Tr::kSize + part * 16;
      const int b_bytes = inside ? clamp_bytes(static_cast<int64_t>(p.ins) * Tr::kSize - i_byte) : 0;
      copy_async(a_tile + Tr::kTileBytes + to, b_bytes ? p.x + (pixel + offset) * p.x_pitch + i_byte : p.x, b_bytes);
    }
  };
  std::conditional_t<Tr::kTensor, TensorSums<Tr>, ScalarSums<Tr>> sums;
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < steps) copy_step(s, s);
    commit_copies();
  }
  int stage = 0;
  for (int64_t s = 0; s < steps; ++s) {
    wait_copies<kStages - 2>();
    __syncthreads();  // the copies of all threads are there, and the buffers of the last step are free
    if (s + kStages - 1 < steps) copy_step(s + kStages - 1, stage == 0 ? kStages - 1 : stage - 1);
    commit_copies();
    unsigned char* const a_tile = shared + stage * 2 * Tr::kTileBytes;
    sums.multiply(a_tile, a_tile + Tr::kTileBytes);
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }
  wait_copies<0>();
  auto* const partial = static_cast<typename Tr::Acc*>(p.partial);
  sums.each([&](int m, int n, auto sum) {
    const int o = first_o + m, i = first_i + n;
    if (o < p.outs && i < p.ins) partial[((split * positions + position) * p.outs + o) * p.ins + i] = sum;
  });
}

template <class Tr>
__global__ void __launch_bounds__(Tr::kThreads) masked_conv2d_bwd_weight_kernel(WeightParams p) {
  sum_tile<Tr>(p);
}

struct BiasParams {
  const void* grad;  // [pixels][pitch]
  void* partial;     // [splits][outs]
  int64_t pitch, pixels, per_split;
  int outs, tiles;
};

constexpr int kBiasChannels = 32, kBiasRows = 8;

template <class T>
__global__ void __launch_bounds__(kBiasChannels* kBiasRows) masked_conv2d_bwd_bias_kernel(BiasParams p) {
  using Acc = typename Element<T>::Acc;
  __shared__ Acc sums[kBiasRows][kBiasChannels];
  const int row = static_cast<int>(threadIdx.x) / kBiasChannels, lane = static_cast<int>(threadIdx.x) % kBiasChannels;
  const int64_t split = blockIdx.x / p.tiles;
  const int o = static_cast<int>(blockIdx.x % p.tiles) * kBiasChannels + lane;
  const int64_t end = min((split + 1) * p.per_split, p.pixels);
  Acc sum = 0;
  if (o < p.outs) {
    for (int64_t pixel = split * p.per_split + row; pixel < end; pixel += kBiasRows) {
      sum += widen_to(static_cast<const T*>(p.grad)[pixel * p.pitch + o]);
    }
  }
  sums[row][lane] = sum;
  __syncthreads();
  if (row > 0 || o >= p.outs) return;
  for (int r = 1; r < kBiasRows; ++r) sum += sums[r][lane];
  static_cast<Acc*>(p.partial)[split * p.outs + o] = sum;
}

struct FinishWeightParams {
  const void* partial;  // [splits][positions][outs][ins]
  void* out;            // [outs][ins][kernel_taps]
  int64_t splits, outs, ins;
  int kernel_taps, groups;
  bool strict;
  Taps taps;
};

template <class T>
__global__ void __launch_bounds__(kPackThreads) masked_conv2d_finish_kernel(FinishWeightParams p) {
  using Acc = typename Element<T>::Acc;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x, size = p.outs * p.ins;
  const int64_t tap = index / size, at = index - tap * size;
  if (tap >= p.kernel_taps) return;
  int low = 0, high = p.taps.count;  // the first position whose tap is not below
  while (low < high) {
    const int middle = (low + high) / 2;
    if (p.taps.tap[middle] < tap) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  bool live = low < p.taps.count && p.taps.tap[low] == tap;
  if (p.taps.centre && tap == p.taps.index(p.taps.count)) {
    const int64_t o = at / p.ins, o_group = o / (p.outs / p.groups), i_group = (at - o * p.ins) / (p.ins / p.groups);
    live = i_group + p.strict <= o_group;
    low = p.taps.count;
  }
  Acc sum = 0;
  if (live) {
    const Acc* partial = static_cast<const Acc*>(p.partial) + low * size + at;
    for (int64_t split = 0; split < p.splits; ++split) sum += partial[split * p.taps.positions() * size];
  }
  static_cast<T*>(p.out)[at * p.kernel_taps + tap] = narrow_to<T>(sum);
}

}  // namespace pygen::cuda
