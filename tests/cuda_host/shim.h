// CUDA C++ on the host: force-included before a .cu file that g++ compiles. The toolkit's own headers give vector
// types, half and bf16; what is missing without nvcc is here. Every CUDA thread is a fiber or, under a sanitizer, a
// thread of the operating system, so that sanitizers see races and stray accesses. One block runs at a time: __shared__
// is static.
#pragma once

#define PYGEN_CUDA_HOST

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#undef __shared__
#define __shared__ static
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__
#define PYGEN_CUDA_ARCHS "90a"

extern thread_local uint3 threadIdx, blockIdx;
extern thread_local dim3 blockDim, gridDim;

namespace cuda_host {

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, const std::function<void()>& code);
void block_barrier();
void warp_barrier();
char* dynamic_shared();  // of exactly the launch's size, all NaN when a block starts
// What lane `from` of the calling thread's warp passes in `bits`.
uint64_t exchange(uint64_t bits, unsigned from);

template <class T>
T shuffle(T value, unsigned from) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = exchange(bits, from);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace cuda_host

inline void __syncthreads() { cuda_host::block_barrier(); }

template <class T>
T __shfl_down_sync(unsigned, T value, unsigned delta, int width) {
  const unsigned lane = threadIdx.x % 32, segment_end = (lane / width + 1) * width;
  return cuda_host::shuffle(value, lane + delta < segment_end ? lane + delta : lane);
}

template <class T>
T __shfl_up_sync(unsigned, T value, unsigned delta, int width = 32) {
  const unsigned lane = threadIdx.x % 32, segment_start = lane / width * width;
  return cuda_host::shuffle(value, lane >= segment_start + delta ? lane - delta : lane);
}

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask, int width = 32) {
  const int lane = static_cast<int>(threadIdx.x % 32), from = lane ^ mask;
  return cuda_host::shuffle(value, static_cast<unsigned>(from < (lane / width + 1) * width ? from : lane));
}

template <class T>
T __shfl_sync(unsigned, T value, int from, int width = 32) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  return cuda_host::shuffle(value, static_cast<unsigned>(lane / width * width + from % width));
}

inline void __syncwarp() { cuda_host::warp_barrier(); }

inline int __any_sync(unsigned, int predicate) {
  for (int mask = 16; mask > 0; mask /= 2) predicate |= __shfl_xor_sync(~0u, predicate, mask);
  return predicate;
}

inline unsigned __ballot_sync(unsigned, int predicate) {
  unsigned bits = (predicate != 0 ? 1u : 0u) << threadIdx.x % 32;
  for (int mask = 16; mask > 0; mask /= 2) bits |= __shfl_xor_sync(~0u, bits, mask);
  return bits;
}
inline int __popc(unsigned word) { return __builtin_popcount(word); }
inline int __ffs(int word) { return __builtin_ffs(word); }

inline float __uint_as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}

inline std::atomic<int> fence_order;
inline void __threadfence() { fence_order.fetch_add(0); }  // as a fence, and thread sanitizers understand it
// Of atomics a GPU makes no order.
inline unsigned long long atomicCAS(unsigned long long* word, unsigned long long expected, unsigned long long next) {
  std::atomic_ref(*word).compare_exchange_strong(expected, next, std::memory_order_relaxed);
  return expected;
}
inline unsigned long long atomicAdd(unsigned long long* word, unsigned long long value) {
  return std::atomic_ref(*word).fetch_add(value, std::memory_order_relaxed);
}

using std::max;
using std::min;

// The toolkit's own passes untyped arguments to a driver that is not there.
#define cudaLaunchKernelEx cuda_host::launch_kernel
namespace cuda_host {
template <class... Params, class... Args>
cudaError_t launch_kernel(const cudaLaunchConfig_t* config, void (*kernel)(Params...), Args&&... args) {
  return launch(*config, reinterpret_cast<const void*>(kernel), [&] { kernel(args...); });
}
}  // namespace cuda_host
