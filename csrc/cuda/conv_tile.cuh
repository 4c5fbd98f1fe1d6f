// What the kernels of masked_conv2d share: sizes, how tiles lie in shared memory, where a pixel lies in its image.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "cuda/conv_pack.cuh"
#include "cuda/convert.cuh"
#include "cuda/launch.cuh"
#include "cuda/mma.cuh"

namespace pygen::cuda {

constexpr int kStages = 3;     // of the pipeline: two are copied while one is multiplied
constexpr int kRowBytes = 64;  // of k in one step, for forward

// Math: the type that tensor cores multiply, or T itself for plain multiply-adds.
template <class T, class Math, int kChannels, bool kDegrees = false>
struct ConvTraits {
  using Element = T;
  using Multiply = Math;
  using Acc = typename pygen::cuda::Element<T>::Acc;
  static constexpr bool kTensor = sizeof(T) == 2 || std::is_same_v<Math, Tf32>;
  static constexpr bool kByDegree = kDegrees;  // masked_linear: each of n sees its own part of k
  static constexpr int kSize = sizeof(T);
  static constexpr int kThreads = 256, kWarps = 8;
  static constexpr int kM = std::is_same_v<T, double> ? 64 : 128;  // pixels
  static constexpr int kN = kChannels;
  static constexpr int kStep = kRowBytes / kSize;  // of k
  // Tensor cores: warps over the tile, then instructions of 16 by 8 over a warp's part.
  static constexpr int kWarpsN = kN / 32, kWarpsM = kWarps / kWarpsN;
  static constexpr int kTilesM = kM / kWarpsM / 16, kTilesN = 4;
  // Multiply-adds: 16 by 16 threads, each taking every 16th row and column.
  static constexpr int kRows = kM / 16, kColumns = kN / 16;
  static constexpr int kBlocks = kN == 64 && kTensor ? 2 : 1;  // at once on a processor, without spilling
  static_assert(kN == 64 || kN == 128);
};

// The 16-byte parts of rows are turned so that eight rows' equal parts lie in all banks.
template <int kBytes = kRowBytes>
__device__ __forceinline__ int turn(int row) {
  static_assert(kBytes == 64 || kBytes == 128);
  return kBytes == 64 ? (row >> 1) & 3 : row & 7;
}
__device__ __forceinline__ unsigned char* part_of_row(unsigned char* tile, int row, int part) {
  return tile + row * kRowBytes + ((part ^ turn(row)) << 4);
}

__device__ __forceinline__ int clamp_bytes(int64_t bytes) {
  return static_cast<int>(bytes < 0 ? 0 : bytes > 16 ? 16 : bytes);
}

struct Pixel {
  int64_t y, x;
};
__device__ __forceinline__ Pixel place(int64_t pixel, int64_t plane, int64_t width) {
  const uint64_t p = static_cast<uint64_t>(pixel);
  const uint64_t inside = p - divide(p, static_cast<uint64_t>(plane)) * static_cast<uint64_t>(plane);
  const uint64_t y = divide(inside, static_cast<uint64_t>(width));
  return {static_cast<int64_t>(y), static_cast<int64_t>(inside - y * static_cast<uint64_t>(width))};
}

}  // namespace pygen::cuda
