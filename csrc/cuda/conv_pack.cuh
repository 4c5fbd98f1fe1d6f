// Before the products of masked_conv2d: images as [pixel][channel] and weights as [tap][n][k], in rows of whole 16
// bytes for the asynchronous copies, with nothing dead among the weights. Elements are moved as bits.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/conv_pairs.cuh"
#include "cuda/tensor.cuh"

namespace pygen::cuda {

constexpr int kMaxTaps = 1024;  // in the 4 KB of a kernel's parameters

// The live taps in raster order; a color-grouped centre, the last position, is none of `count`.
struct Taps {
  int count, kernel_width, centre_row, centre_column;
  int64_t dilation;
  bool centre;  // by groups
  int16_t tap[kMaxTaps];

  __host__ __device__ int positions() const { return count + centre; }
  __host__ __device__ int index(int position) const {
    return position < count ? tap[position] : centre_row * kernel_width + centre_column;
  }
  __host__ __device__ int64_t dy(int position) const {
    return position < count ? (tap[position] / kernel_width - centre_row) * dilation : 0;
  }
  __host__ __device__ int64_t dx(int position) const {
    return position < count ? (tap[position] % kernel_width - centre_column) * dilation : 0;
  }
};

struct PackImagesParams {
  const void* from;  // [N, C, H, W] by its strides
  void* to;          // [N * H * W, pitch]
  int64_t strides[4];
  int64_t pixels, plane, width, channels, pitch;
  int64_t channel_tiles;
  bool pixels_inner;  // that dim's neighbours are nearer in `from` than a channel's
  bool reversed;      // channels, so that those live for a group come first
};

constexpr int kPackTile = 32, kPackThreads = 256;

__device__ __forceinline__ int64_t image_offset(const int64_t (&strides)[4], int64_t pixel, int64_t plane,
                                                int64_t width) {
  const uint64_t image = divide(static_cast<uint64_t>(pixel), static_cast<uint64_t>(plane));
  const uint64_t inside = static_cast<uint64_t>(pixel) - image * static_cast<uint64_t>(plane);
  const uint64_t row = divide(inside, static_cast<uint64_t>(width));
  const uint64_t column = inside - row * static_cast<uint64_t>(width);
  return static_cast<int64_t>(image) * strides[0] + static_cast<int64_t>(row) * strides[2] +
         static_cast<int64_t>(column) * strides[3];
}

// 32 pixels by 32 channels through shared memory: read along the nearer dim, written along channels.
template <class Bits>
__global__ void __launch_bounds__(kPackThreads) masked_conv2d_pack_images_kernel(PackImagesParams p) {
  __shared__ Bits tile[kPackTile][kPackTile + 1];
  const int64_t block = blockIdx.x, pixel_tile = block / p.channel_tiles;
  const int64_t first_pixel = pixel_tile * kPackTile,
                first_channel = (block - pixel_tile * p.channel_tiles) * kPackTile;
  const int inner = static_cast<int>(threadIdx.x) % kPackTile, outer = static_cast<int>(threadIdx.x) / kPackTile;
  const auto* from = static_cast<const Bits*>(p.from);
  for (int i = outer; i < kPackTile; i += kPackThreads / kPackTile) {
    const int dp = p.pixels_inner ? inner : i, dc = p.pixels_inner ? i : inner;
    const int64_t pixel = first_pixel + dp, c = first_channel + dc;
    Bits value = 0;
    if (pixel < p.pixels && c < p.channels) {
      const int64_t source = p.reversed ? p.channels - 1 - c : c;
      value = from[image_offset(p.strides, pixel, p.plane, p.width) + source * p.strides[1]];
    }
    tile[dp][dc] = value;
  }
  __syncthreads();
  auto* to = static_cast<Bits*>(p.to);
  for (int i = outer; i < kPackTile; i += kPackThreads / kPackTile) {
    const int64_t pixel = first_pixel + i, c = first_channel + inner;
    if (pixel < p.pixels && c < p.pitch) to[pixel * p.pitch + c] = tile[i][inner];
  }
}

struct PackWeightsParams {
  const void* from;  // [n, k, kH, kW] by its strides
  void* to;          // [positions][n][pitch]
  int64_t strides[4];
  int64_t n, k, pitch;
  bool reversed;  // k
  Pairs pairs;    // which n is whose
  Taps taps;
};

template <class Bits>
__global__ void __launch_bounds__(kPackThreads) masked_conv2d_pack_weights_kernel(PackWeightsParams p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x;
  const int64_t row = i / p.pitch, k = i - row * p.pitch;
  const int64_t position = row / p.n, n = row - position * p.n;
  if (position >= p.taps.positions()) return;
  Bits value = 0;
  if (k < p.k) {
    const int tap = p.taps.index(static_cast<int>(position)), y = tap / p.taps.kernel_width;
    const int64_t channel = p.pairs.channel(static_cast<int>(n));
    value = static_cast<const Bits*>(p.from)[channel * p.strides[0] + (p.reversed ? p.k - 1 - k : k) * p.strides[1] +
                                             y * p.strides[2] + (tap - y * p.taps.kernel_width) * p.strides[3]];
  }
  static_cast<Bits*>(p.to)[i] = value;
}

}  // namespace pygen::cuda
