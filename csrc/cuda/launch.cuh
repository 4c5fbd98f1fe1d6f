// Launching a kernel from raw integers: every CUDA error becomes an exception, and the tensors' device is the current
// one for as long as the guard lives.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "cuda/runtime.h"

// In a kernel: char* name, the launch's shared memory.
#ifdef PYGEN_CUDA_HOST
#define PYGEN_DYNAMIC_SHARED(name) char* const name = cuda_host::dynamic_shared()
#else
#define PYGEN_DYNAMIC_SHARED(name) extern __shared__ __align__(16) char name[]
#endif

namespace pygen::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // the exception reports it; the next call starts clean
  const char* hint = status == cudaErrorNoKernelImageForDevice ? "; this build is for " PYGEN_CUDA_ARCHS : "";
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) +
                           ")" + hint);
}

class DeviceGuard {
 public:
  explicit DeviceGuard(int device) : device_(device) {
    check(cudaGetDevice(&previous_), "cudaGetDevice");
    if (previous_ != device_) check(cudaSetDevice(device_), "cudaSetDevice");
  }
  ~DeviceGuard() {
    if (previous_ != device_) cudaSetDevice(previous_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int device_;
  int previous_ = 0;
};

// Of a block that shuffles.
inline void check_threads(int threads, int most) {
  if (threads >= 32 && threads <= most && threads % 32 == 0) return;
  throw std::invalid_argument("threads: expected a multiple of 32, 32 .. " + std::to_string(most) + ", got " +
                              std::to_string(threads));
}

// More shared memory than every kernel gets unasked: at once as much as the device has, as calls of other sizes may run
// beside this one. And clusters beyond the 8 blocks of every GPU that has them.
template <class Params>
void allow_shared(const char* name, void (*kernel)(Params), int shared_bytes) {
  if (shared_bytes <= 48 << 10) return;
  const auto address = reinterpret_cast<const void*>(kernel);
  int device = 0, most = 0;
  cudaFuncAttributes own = {};
  check(cudaGetDevice(&device), name);
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), name);
  check(cudaFuncGetAttributes(&own, address), name);
  most -= static_cast<int>(own.sharedSizeBytes);
  const cudaError_t status = cudaFuncSetAttribute(address, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                  most > shared_bytes ? most : shared_bytes);
  if (status == cudaErrorInvalidValue && shared_bytes > most) {
    cudaGetLastError();
    throw std::runtime_error(std::string(name) + ": sizes that take " + std::to_string(shared_bytes) +
                             " bytes of shared memory in a block, of which this GPU has " + std::to_string(most) +
                             "; another backend has no such limit");
  }
  check(status, name);
}
template <class Params>
void allow_large_clusters(const char* name, void (*kernel)(Params)) {
  const auto address = reinterpret_cast<const void*>(kernel);
  check(cudaFuncSetAttribute(address, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), name);
}

inline cudaLaunchAttribute cluster_attribute(int blocks) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = static_cast<unsigned>(blocks);
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  return attribute;
}

// How many clusters of so many blocks the current device runs at once.
template <class Params>
int clusters_at_once(const char* name, void (*kernel)(Params), int cluster, int threads, int shared_bytes) {
  allow_shared(name, kernel, shared_bytes);
  cudaLaunchAttribute attribute = cluster_attribute(cluster);
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(cluster));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.attrs = &attribute;
  config.numAttrs = 1;
  int clusters = 0;
  if (cudaOccupancyMaxActiveClusters(&clusters, reinterpret_cast<const void*>(kernel), &config) != cudaSuccess) {
    cudaGetLastError();  // a size that the device does not have
    return 0;
  }
  return clusters;
}

// Blocks go on the x axis alone: y and z end at 65535. `shared_bytes` of memory that PYGEN_DYNAMIC_SHARED names; in
// clusters of `cluster` blocks.
template <class Params>
void launch(const char* name, void (*kernel)(Params), int64_t blocks, int threads, cudaStream_t stream,
            const Params& params, int shared_bytes = 0, int cluster = 1) {
  if (blocks < 1 || blocks > 0x7fffffff) {
    throw std::invalid_argument(std::string(name) + ": between 1 and 2^31 - 1 blocks can be launched, got " +
                                std::to_string(blocks));
  }
  cudaLaunchAttribute attribute = cluster_attribute(cluster);
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = stream;
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.attrs = cluster > 1 ? &attribute : nullptr;
  config.numAttrs = cluster > 1 ? 1 : 0;
  allow_shared(name, kernel, shared_bytes);
  check(cudaLaunchKernelEx(&config, kernel, params), name);
}

}  // namespace pygen::cuda
