// The model of csrc/cuda/cluster.cuh on the host: a cluster's blocks run together.
#pragma once

#include "cuda/hopper.cuh"

namespace cuda_host {

int cluster_rank();
void cluster_arrive();
void cluster_wait();
void* remote(void* own, int rank);  // that place in block `rank`'s shared memory
// As a copy by the TMA, of a value.
void send_bytes(void* to, const void* value, int bytes, uint64_t* barrier);

}  // namespace cuda_host

namespace pygen::cuda {

inline int cluster_rank() { return cuda_host::cluster_rank(); }
inline void cluster_arrive() { cuda_host::cluster_arrive(); }
inline void cluster_wait() { cuda_host::cluster_wait(); }

template <class T>
T* remote_place(T* own, int rank) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 16);
  T* const to = static_cast<T*>(cuda_host::remote(own, rank));
  if (reinterpret_cast<uintptr_t>(to) % sizeof(T)) cuda_host::fail("shared::cluster: an address that is not aligned");
  return to;
}
template <class T>
void store_remote(T* own, int rank, T value) {
  std::memcpy(remote_place(own, rank), &value, sizeof value);
}
inline void publish_to_cluster() { cuda_host::publish_barriers(); }
template <class T>
void send_message(T* own, int rank, T value, uint64_t* barrier) {
  auto* const heard = static_cast<uint64_t*>(cuda_host::remote(barrier, rank));
  cuda_host::send_bytes(remote_place(own, rank), &value, sizeof value, heard);
}
inline void expect_messages(uint64_t* barrier, int bytes) { cuda_host::arrive(barrier, bytes); }
inline void await_messages(uint64_t* barrier, uint32_t parity) { cuda_host::await(barrier, parity); }

}  // namespace pygen::cuda
