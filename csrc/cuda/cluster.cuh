// Clusters of blocks (sm_90 on), one wrapper for each instruction: the blocks of a cluster run at the same time, wait
// for each other and write into each other's shared memory. Before sm_90 a cluster is one block.
// tests/cuda_host/cluster_host.h is their model on the host.
#pragma once

#include "cuda/mma.cuh"

#ifdef PYGEN_CUDA_HOST
#include "cluster_host.h"
#else

namespace pygen::cuda {

#if __CUDA_ARCH__ >= 900
#define PYGEN_CLUSTER(code) asm volatile(code::: "memory")
#else
#define PYGEN_CLUSTER(code) __trap()
#endif

__device__ __forceinline__ int cluster_rank() {
  uint32_t rank = 0;
#if __CUDA_ARCH__ >= 900
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
#endif
  return static_cast<int>(rank);
}

// What this thread wrote before it arrives, wherever, the others see after their wait.
__device__ __forceinline__ void cluster_arrive() { PYGEN_CLUSTER("barrier.cluster.arrive.release;"); }
__device__ __forceinline__ void cluster_wait() { PYGEN_CLUSTER("barrier.cluster.wait.acquire;"); }
#undef PYGEN_CLUSTER

// Into the memory of block `rank`, at the place that `own` has in this block's.
template <class T>
__device__ __forceinline__ void store_remote(T* own, int rank, T value) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 16);
#if __CUDA_ARCH__ >= 900
  uint32_t at;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at) : "r"(shared_address(own)), "r"(rank));
  if constexpr (sizeof(T) == 16) {
    uint4 words;
    memcpy(&words, &value, 16);
    asm volatile("st.shared::cluster.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(words.x), "r"(words.y),
                 "r"(words.z), "r"(words.w)
                 : "memory");
  } else if constexpr (sizeof(T) == 4) {
    uint32_t word;
    memcpy(&word, &value, 4);
    asm volatile("st.shared::cluster.b32 [%0], %1;" ::"r"(at), "r"(word) : "memory");
  } else {
    uint16_t half;
    memcpy(&half, &value, 2);
    asm volatile("st.shared::cluster.b16 [%0], %1;" ::"r"(at), "h"(half) : "memory");
  }
#else
  *own = value;
#endif
}

}  // namespace pygen::cuda

#endif
