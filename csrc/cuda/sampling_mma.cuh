// Products of the cluster sampler: 16 rows of weights by 8 images or pixels, 64 bytes of input channels at a time.
//
// Lane l holds 16 bytes of the channels, part l % 4 of image l / 4: what one load gives. The instruction wants them in
// two steps of 32 bytes; which channels it takes for neighbours does not matter as long as the weights agree. So step s
// takes words 2s and 2s + 1 of every lane's four, and the weights are packed to match: for each step and lane 16 bytes,
// words 4 (l % 4) + 2s and the next of rows l / 4 and l / 4 + 8, row after row.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/convert.cuh"
#include "cuda/mma.cuh"

namespace pygen::cuda {

constexpr int kBlockBytes = 64, kTileBytes = 1024;  // of channels; of 16 rows of them

// Which word of which row `word` of a lane's 16 bytes of packed weights is, in step s.
__device__ __forceinline__ int packed_row(int lane, int word) { return lane / 4 + word % 2 * 8; }
__device__ __forceinline__ int packed_word(int lane, int s, int word) { return lane % 4 * 4 + 2 * s + word / 2; }

// Zeros instead of what lies beyond so many bytes: it may be anything.
__device__ __forceinline__ void keep_bytes(uint4& v, int bytes) {
  const auto kept = [bytes](uint32_t word, int at) {
    return bytes >= at + 4 ? word : bytes <= at ? 0u : word & 0xffffu;  // an element has 2 bytes at least
  };
  v = {kept(v.x, 0), kept(v.y, 4), kept(v.z, 8), kept(v.w, 12)};
}

template <class T>
__device__ __forceinline__ void rectify(uint4& v) {
  v = {relu_word(T(), v.x), relu_word(T(), v.y), relu_word(T(), v.z), relu_word(T(), v.w)};
}

// d [kM tiles of 16, kN of 8] += a b. Of 32-bit floats each is the sum of two TF32, and the product of the two small
// ones is left out: an error of about 2^-22. What is beyond TF32's range, infinity, comes out as NaN.
template <class T, int kM, int kN>
__device__ __forceinline__ void multiply_block(float (&d)[kM][kN][4], const uint4 (&a)[kM][2], const uint4 (&b)[kN]) {
#pragma unroll
  for (int s = 0; s < 2; ++s) {
    uint32_t x[kM][4], y[kN][2];
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      x[m][0] = a[m][s].x;
      x[m][1] = a[m][s].y;
      x[m][2] = a[m][s].z;
      x[m][3] = a[m][s].w;
    }
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      y[n][0] = s == 0 ? b[n].x : b[n].z;
      y[n][1] = s == 0 ? b[n].y : b[n].w;
    }
    if constexpr (!std::is_same_v<T, float>) {
      multiply_tiles<T>(d, x, y);
    } else {
      const auto halve = [](uint32_t& word) {
        const uint32_t large = round_tf32(word);
        const float rest = __uint_as_float(word) - __uint_as_float(large);
        word = large;
        return round_tf32(__float_as_uint(rest));
      };
      uint32_t small_x[kM][4], small_y[kN][2];
#pragma unroll
      for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) small_x[m][i] = halve(x[m][i]);
      }
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) small_y[n][i] = halve(y[n][i]);
      }
      multiply_tiles<Tf32>(d, small_x, y);
      multiply_tiles<Tf32>(d, x, small_y);
      multiply_tiles<Tf32>(d, x, y);
    }
  }
}

}  // namespace pygen::cuda
