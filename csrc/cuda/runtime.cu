#include <cuda_runtime.h>

#include "cuda/runtime.h"

namespace pygen::cuda {
namespace {

std::string version(int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); }

// https://docs.nvidia.com/deploy/cuda-compatibility: a driver runs every runtime of its own major version, and older
// ones.
constexpr int kMinimumDriver = CUDART_VERSION >= 13000 ? 580 : 525;

}  // namespace

// No device is counted here: that would start the driver, and a process that forks afterwards could not use CUDA.
std::string why_not() {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return "no NVIDIA driver is installed";
  if (driver / 1000 >= CUDART_VERSION / 1000) return "";
  return "pygen._cuda was built with CUDA " + version(CUDART_VERSION) + ", which needs an NVIDIA driver of version " +
         std::to_string(kMinimumDriver) + " or later, but this one supports CUDA " + version(driver) +
         ": update the driver, or build with a CUDA " + std::to_string(driver / 1000) + " toolkit";
}

std::string archs() { return PYGEN_CUDA_ARCHS; }

}  // namespace pygen::cuda
