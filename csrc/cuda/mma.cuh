// Tensor cores and asynchronous copies, one wrapper for each instruction of sm_80: mma.sync, ldmatrix, cp.async.
// tests/cuda_host/mma_host.h is their model on the host.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace pygen::cuda {

// A 32-bit float that is multiplied in 10 bits of mantissa.
struct Tf32 {};

// store(row, column, sum) of each sum that this lane holds of the tiles from (m0, n0) on.
template <int kM, int kN, class Store>
__device__ __forceinline__ void each_sum(const float (&d)[kM][kN][4], int m0, int n0, Store store) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        store(m0 + m * 16 + (lane >> 2) + i / 2 * 8, n0 + n * 8 + (lane & 3) * 2 + i % 2, d[m][n][i]);
      }
    }
  }
}

// The same by pairs of neighbouring columns: store(row, n, pair) of tile n's, of `count` tiles from `first` on.
template <int kM, int kN, class Store>
__device__ __forceinline__ void each_pair(const float (&d)[kM][kN][4], int m0, Store store, int first, int count) {
  const int row = m0 + (static_cast<int>(threadIdx.x) % 32 >> 2);
#pragma unroll
  for (int n = first; n < first + count; ++n) {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int i = 0; i < 4; i += 2) {
        const float pair[2] = {d[m][n][i], d[m][n][i + 1]};
        store(row + m * 16 + i / 2 * 8, n, pair);
      }
    }
  }
}
__device__ __forceinline__ int pair_column(int n) { return n * 8 + (static_cast<int>(threadIdx.x) & 3) * 2; }

}  // namespace pygen::cuda

#ifdef PYGEN_CUDA_HOST
#include "mma_host.h"
#else

namespace pygen::cuda {

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// 16 bytes into shared memory: `bytes` from global memory, which is aligned as they are, then zeros.
__device__ __forceinline__ void copy_async(void* shared, const void* global, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most kPending groups of this thread's copies are under way.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four matrices of 8 rows of 16 bytes; lane l names row l % 8 of matrix l / 8 and gets word l % 4 of row l / 4 of each.
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
// The same for 16-bit elements, transposed: column l / 4 of rows 2 (l % 4) and the next.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// The instruction would cut the bits that TF32 has no room for.
__device__ __forceinline__ uint32_t round_tf32(uint32_t bits) {
  uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(bits)));
  return rounded;
}

// max(x, 0) of each element of a word; NaN stays.
__device__ __forceinline__ uint32_t relu_word(__nv_bfloat16, uint32_t word) {
  asm("max.NaN.bf16x2 %0, %0, %1;" : "+r"(word) : "r"(0));
  return word;
}
__device__ __forceinline__ uint32_t relu_word(__half, uint32_t word) {
  asm("max.NaN.f16x2 %0, %0, %1;" : "+r"(word) : "r"(0));
  return word;
}
__device__ __forceinline__ uint32_t relu_word(float, uint32_t word) { return __uint_as_float(word) < 0.0f ? 0u : word; }

#define PYGEN_MMA(shape, type)                                                        \
  asm volatile("mma.sync.aligned." shape ".row.col.f32." type "." type                \
               ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                       \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
// d [16, 8] += a [16, 32 bytes] b [32 bytes, 8]
__device__ __forceinline__ void multiply(__nv_bfloat16, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  PYGEN_MMA("m16n8k16", "bf16");
}
__device__ __forceinline__ void multiply(__half, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  PYGEN_MMA("m16n8k16", "f16");
}
__device__ __forceinline__ void multiply(Tf32, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  PYGEN_MMA("m16n8k8", "tf32");
}
#undef PYGEN_MMA

template <class Type, int kM, int kN>
__device__ __forceinline__ void multiply_tiles(float (&d)[kM][kN][4], const uint32_t (&a)[kM][4],
                                               const uint32_t (&b)[kN][2]) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) multiply(Type(), d[m][n], a[m], b[n]);
  }
}

}  // namespace pygen::cuda

#endif
