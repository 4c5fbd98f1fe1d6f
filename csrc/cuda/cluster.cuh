// Clusters of blocks (sm_90 on), one wrapper for each instruction: the blocks of a cluster run at the same time, wait
// for each other and write into each other's shared memory. Before sm_90 a cluster is one block, and none of these is
// ever reached. tests/cuda_host/cluster_host.h is their model on the host.
#pragma once

#include "cuda/hopper.cuh"

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
  static_assert(sizeof(T) == 4 || sizeof(T) == 16);
#if __CUDA_ARCH__ >= 900
  uint32_t at, words[sizeof(T) / 4];
  memcpy(words, &value, sizeof(T));
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at) : "r"(shared_address(own)), "r"(rank));
  if constexpr (sizeof(T) == 16) {
    asm volatile("st.shared::cluster.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(words[0]), "r"(words[1]),
                 "r"(words[2]), "r"(words[3])
                 : "memory");
  } else {
    asm volatile("st.shared::cluster.b32 [%0], %1;" ::"r"(at), "r"(words[0]) : "memory");
  }
#endif
}

// --- messages: such a store whose bytes that block's barrier hears of; nobody else need wait

__device__ __forceinline__ void publish_to_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
template <class T>
__device__ __forceinline__ void send_message(T* own, int rank, T value, uint64_t* barrier) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 16);
#if __CUDA_ARCH__ >= 900
  uint32_t at, heard, words[sizeof(T) / 4];
  memcpy(words, &value, sizeof(T));
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at) : "r"(shared_address(own)), "r"(rank));
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(heard) : "r"(shared_address(barrier)), "r"(rank));
  if constexpr (sizeof(T) == 16) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(at),
                 "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3]), "r"(heard)
                 : "memory");
  } else {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(at), "r"(words[0]),
                 "r"(heard)
                 : "memory");
  }
#endif
}
// By one thread, once for each phase: so many bytes are on their way to this block, or have come already.
__device__ __forceinline__ void expect_messages(uint64_t* barrier, int bytes) {
#if __CUDA_ARCH__ >= 900
  arrive_expecting(barrier, bytes);
#endif
}
// Until that phase's messages are there: hopper.cuh's await, but for what the whole cluster has written.
__device__ __forceinline__ void await_messages(uint64_t* barrier, uint32_t parity) {
#if __CUDA_ARCH__ >= 900
  uint32_t ended;
  do {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(ended)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
  } while (!ended);
#endif
}

}  // namespace pygen::cuda

#endif
