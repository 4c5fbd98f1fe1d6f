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

// Blocks go on the x axis alone: y and z end at 65535. `shared_bytes` of memory that PYGEN_DYNAMIC_SHARED names.
template <class Params>
void launch(const char* name, void (*kernel)(Params), int64_t blocks, int threads, cudaStream_t stream,
            const Params& params, int shared_bytes = 0) {
  if (blocks < 1 || blocks > 0x7fffffff) {
    throw std::invalid_argument(std::string(name) + ": between 1 and 2^31 - 1 blocks can be launched, got " +
                                std::to_string(blocks));
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = stream;
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  if (shared_bytes > 48 << 10) {  // more than every kernel gets unasked
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                               shared_bytes),
          name);
  }
  check(cudaLaunchKernelEx(&config, kernel, params), name);
}

}  // namespace pygen::cuda
