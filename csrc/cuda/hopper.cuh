// Hopper's own instructions (sm_90a), one wrapper for each: barriers in shared memory, copies by the tensor memory
// accelerator (TMA), products of a warpgroup (wgmma). tests/cuda_host/hopper_host.h is their model on the host.
//
// A tile of a matrix in shared memory is rows of 128 bytes from a multiple of 1024 on, whose 16-byte parts are turned
// by the row ("128-byte swizzle"): part p of row r lies at p ^ (r & 7).
#pragma once

#include <cuda.h>

#include "cuda/mma.cuh"

namespace pygen::cuda {

// Whether this pass of the compiler may emit them: a build is for other architectures too.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || defined(PYGEN_CUDA_HOST)
#define PYGEN_HAS_WGMMA
#endif

constexpr int kTileRowBytes = 128;

// What names a tile's part to a product. Rows of n: `address` is that of 32 bytes of k in each row. Rows of k: of the
// first of its rows, which have 64 elements of n; the next 64 lie `apart` bytes behind.
__host__ __device__ __forceinline__ uint64_t matrix_descriptor(uint32_t address, int apart = 16) {
  constexpr uint64_t kEightRows = 8 * kTileRowBytes, kSwizzle128 = 1;
  return (address & 0x3ffff) >> 4 | static_cast<uint64_t>(apart >> 4) << 16 | kEightRows >> 4 << 32 | kSwizzle128 << 62;
}

}  // namespace pygen::cuda

#ifdef PYGEN_CUDA_HOST
#include "hopper_host.h"
#else

namespace pygen::cuda {

// --- barriers: 8 bytes of shared memory, a phase of which ends with the last arrival and the last byte expected

__device__ __forceinline__ void init_barrier(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// Before the block's first barrier of all threads: for the copies, which see shared memory by another way.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
__device__ __forceinline__ void arrive_expecting(uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
// Until the phase of that parity has ended; the one before the first has parity 1.
__device__ __forceinline__ void await(uint64_t* barrier, uint32_t parity) {
  uint32_t ended;
  do {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(ended)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
  } while (!ended);
}
// Of `threads` threads; 0 is that of __syncthreads.
__device__ __forceinline__ void sync_threads(int name, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

// --- registers: what one warpgroup of a block gives, the others may take

template <int kRegisters>
__device__ __forceinline__ void keep_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// --- copies to shared memory, each by one thread; the barrier hears of their bytes

// The map's box from (column, row) on; zeros where that is outside.
__device__ __forceinline__ void copy_box(void* shared, const CUtensorMap& map, int column, int row, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
          shared_address(shared)),
      "l"(&map), "r"(column), "r"(row), "r"(shared_address(barrier))
      : "memory");
}
__device__ __forceinline__ void copy_bytes(void* shared, const void* global, int bytes, uint64_t* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(shared)),
               "l"(global), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}
__device__ __forceinline__ void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// --- products of a warpgroup: warp w of four has rows 16 w to 16 w + 15 of the 64

// Before the first product after its registers, a or d, were written.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most kPending groups are under way; till then nobody may touch what they read or write.
template <int kPending>
__device__ __forceinline__ void await_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// After the wait for the last of them: keeps the compiler, who sees no tie between the two, from reading d before it.
template <int kN8>
__device__ __forceinline__ void end_products(float (&d)[kN8][4]) {
#pragma unroll
  for (int n = 0; n < kN8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(d[n][i])::"memory");
  }
}

#define PYGEN_D4(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define PYGEN_D16(i) PYGEN_D4(i), PYGEN_D4(i + 1), PYGEN_D4(i + 2), PYGEN_D4(i + 3)
#define PYGEN_WGMMA_64(shape, type, transposed)                                                                    \
  asm volatile("{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\nwgmma.mma_async.sync.aligned." shape ".f32." type "." type \
               " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
               "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, p, 1, "         \
               "1" transposed ";\n}"                                                                               \
               : PYGEN_D16(0), PYGEN_D16(4)                                                                        \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
#define PYGEN_WGMMA_128(shape, type, transposed)                                                                      \
  asm volatile("{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\nwgmma.mma_async.sync.aligned." shape ".f32." type "." type    \
               " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "    \
               "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, " \
               "%41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, " \
               "%61, %62, %63}, {%64, %65, %66, %67}, %68, p, 1, 1" transposed ";\n}"                                 \
               : PYGEN_D16(0), PYGEN_D16(4), PYGEN_D16(8), PYGEN_D16(12)                                              \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

// d [64, 8 kN8] += a [64, 32 bytes] b [32 bytes, 8 kN8], b by matrix_descriptor: rows of n or, transposed, of k.
template <class Type, bool kTransposed = false, int kN8>
__device__ __forceinline__ void multiply_async(float (&d)[kN8][4], const uint32_t (&a)[4], uint64_t b) {
  static_assert(kN8 == 8 || kN8 == 16);
  constexpr bool kBFloat16 = std::is_same_v<Type, __nv_bfloat16>, kHalf = std::is_same_v<Type, __half>;
  static_assert(!kTransposed || kBFloat16 || kHalf);
  if constexpr (kBFloat16 && kN8 == 8 && !kTransposed) PYGEN_WGMMA_64("m64n64k16", "bf16", ", 0");
  if constexpr (kBFloat16 && kN8 == 8 && kTransposed) PYGEN_WGMMA_64("m64n64k16", "bf16", ", 1");
  if constexpr (kBFloat16 && kN8 == 16 && !kTransposed) PYGEN_WGMMA_128("m64n128k16", "bf16", ", 0");
  if constexpr (kBFloat16 && kN8 == 16 && kTransposed) PYGEN_WGMMA_128("m64n128k16", "bf16", ", 1");
  if constexpr (kHalf && kN8 == 8 && !kTransposed) PYGEN_WGMMA_64("m64n64k16", "f16", ", 0");
  if constexpr (kHalf && kN8 == 8 && kTransposed) PYGEN_WGMMA_64("m64n64k16", "f16", ", 1");
  if constexpr (kHalf && kN8 == 16 && !kTransposed) PYGEN_WGMMA_128("m64n128k16", "f16", ", 0");
  if constexpr (kHalf && kN8 == 16 && kTransposed) PYGEN_WGMMA_128("m64n128k16", "f16", ", 1");
  if constexpr (std::is_same_v<Type, Tf32> && kN8 == 8) PYGEN_WGMMA_64("m64n64k8", "tf32", "");
  if constexpr (std::is_same_v<Type, Tf32> && kN8 == 16) PYGEN_WGMMA_128("m64n128k8", "tf32", "");
}
#undef PYGEN_WGMMA_128
#undef PYGEN_WGMMA_64
#undef PYGEN_D16
#undef PYGEN_D4

}  // namespace pygen::cuda

#endif
