// The model of csrc/cuda/cluster.cuh on the host: a cluster's blocks run together.
#pragma once

#include "shim.h"

namespace cuda_host {

int cluster_rank();
void cluster_arrive();
void cluster_wait();
void* remote(void* own, int rank);  // that place in block `rank`'s shared memory

}  // namespace cuda_host

namespace pygen::cuda {

inline int cluster_rank() { return cuda_host::cluster_rank(); }
inline void cluster_arrive() { cuda_host::cluster_arrive(); }
inline void cluster_wait() { cuda_host::cluster_wait(); }

template <class T>
void store_remote(T* own, int rank, T value) {
  void* const to = cuda_host::remote(own, rank);
  if (reinterpret_cast<uintptr_t>(to) % sizeof(T))
    cuda_host::fail("st.shared::cluster: an address that is not aligned");
  std::memcpy(to, &value, sizeof value);
}

}  // namespace pygen::cuda
