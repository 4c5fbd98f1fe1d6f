// As much of the CUDA runtime as the launchers call: two devices, one stream, no errors of its own.
#include <cstring>
#include <map>
#include <mutex>

#include "machine.h"

namespace {

constexpr int kProcessors = 4, kSharedBytes = 64 << 10;
constexpr int kSharedOnSm120 = 99 << 10, kSharedOnSm90 = 227 << 10;  // the least of all; the most

int current_device = 0;
thread_local bool bound = false;

std::mutex allowed_mutex;
std::map<const void*, cuda_host::Allowed> allowed_of;  // kernels

bool has_clusters() { return cuda_host::capability() >= 9; }
int most_shared() { return cuda_host::capability() == 9 ? kSharedOnSm90 : kSharedOnSm120; }

}  // namespace

namespace cuda_host {

void bind_context() { bound = true; }
bool has_context() { return bound; }
Allowed allowed(const void* kernel) {
  const std::lock_guard lock(allowed_mutex);
  return allowed_of[kernel];
}

}  // namespace cuda_host

extern "C" {

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device > 1) return cudaErrorInvalidDevice;
  current_device = device;
  cuda_host::bind_context();
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  const bool large_clusters = attribute == cudaFuncAttributeNonPortableClusterSizeAllowed;
  if (large_clusters && !has_clusters()) return cudaErrorNotSupported;
  if (value > most_shared()) return cudaErrorInvalidValue;
  const std::lock_guard lock(allowed_mutex);
  cuda_host::Allowed& allowed = allowed_of[kernel];
  if (large_clusters) {
    allowed.large_clusters = value != 0;
  } else {
    allowed.dynamic_bytes = static_cast<size_t>(value);
  }
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  if (attribute == cudaDevAttrMultiProcessorCount) return *value = kProcessors, cudaSuccess;
  if (attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin) return *value = kSharedBytes, cudaSuccess;
  if (attribute == cudaDevAttrComputeCapabilityMajor) return *value = cuda_host::capability(), cudaSuccess;
  return cudaErrorInvalidValue;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t bytes) {
  *blocks = bytes <= static_cast<size_t>(most_shared()) ? 1 : 0;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void* kernel, const cudaLaunchConfig_t* config) {
  const unsigned size = config->attrs[0].val.clusterDim.x;
  const cuda_host::Allowed allowed = cuda_host::allowed(kernel);
  const bool runs = has_clusters() && config->dynamicSmemBytes <= allowed.dynamic_bytes &&
                    size <= (allowed.large_clusters ? cuda_host::kMostInCluster : cuda_host::kPortableCluster);
  *clusters = runs ? std::max(1, kProcessors / static_cast<int>(size)) : 0;
  return runs ? cudaSuccess : cudaErrorInvalidConfiguration;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  if (std::strcmp(symbol, "cuTensorMapEncodeTiled") != 0) return cudaErrorInvalidValue;
  *function = reinterpret_cast<void*>(&cuda_host::encode_map);
  *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorInvalidDevice ? "invalid device ordinal" : "an error";
}
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorInvalidDevice ? "cudaErrorInvalidDevice" : "cudaErrorUnnamed";
}

}  // extern "C"
