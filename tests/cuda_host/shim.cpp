// The machine behind shim.h, and as much of the runtime as the launchers call: two devices, one stream, no errors of
// its own.
#include "shim.h"

thread_local uint3 threadIdx, blockIdx;
thread_local dim3 blockDim, gridDim;

namespace cuda_host {

constexpr int kProcessors = 4, kSharedBytes = 64 << 10;

namespace {

struct Warp {
  explicit Warp(int threads) : barrier(threads) {}
  std::barrier<> barrier;
  uint64_t slot[32];
};

struct Block {
  explicit Block(int threads) : barrier(threads) {
    for (int t = 0; t < threads; t += 32) warps.push_back(std::make_unique<Warp>(std::min(32, threads - t)));
  }
  std::barrier<> barrier;
  std::vector<std::unique_ptr<Warp>> warps;
};

thread_local Block* current_block = nullptr;
thread_local char* current_shared = nullptr;
int current_device = 0;

}  // namespace

char* dynamic_shared() { return current_shared; }

void block_barrier() { current_block->barrier.arrive_and_wait(); }

uint64_t exchange(uint64_t bits, unsigned from) {
  Warp& warp = *current_block->warps[threadIdx.x / 32];
  warp.slot[threadIdx.x % 32] = bits;
  warp.barrier.arrive_and_wait();
  bits = warp.slot[from];
  warp.barrier.arrive_and_wait();
  return bits;
}

cudaError_t launch(const cudaLaunchConfig_t& config, const std::function<void()>& kernel) {
  const dim3 grid = config.gridDim, block = config.blockDim;
  if (grid.y > 65535 || grid.z > 65535 || block.x > 1024 || block.y != 1 || block.z != 1)
    return cudaErrorInvalidConfiguration;
  Block shared(static_cast<int>(block.x));
  const std::unique_ptr<char[]> dynamic(new char[config.dynamicSmemBytes]);
  const auto poison = [&]() noexcept { std::memset(dynamic.get(), 0xff, config.dynamicSmemBytes); };
  poison();
  std::barrier next(block.x, poison);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < block.x; ++t) {
    threads.emplace_back([&, t] {
      threadIdx = {t, 0, 0};
      blockDim = block;
      gridDim = grid;
      current_block = &shared;
      current_shared = dynamic.get();
      for (unsigned b = 0; b < grid.x; ++b) {
        blockIdx = {b, 0, 0};
        kernel();
        next.arrive_and_wait();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return cudaSuccess;
}

}  // namespace cuda_host

extern "C" {

cudaError_t cudaGetDevice(int* device) {
  *device = cuda_host::current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device > 1) return cudaErrorInvalidDevice;
  cuda_host::current_device = device;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int value) {
  return value <= cuda_host::kSharedBytes ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  if (attribute == cudaDevAttrMultiProcessorCount) return *value = cuda_host::kProcessors, cudaSuccess;
  if (attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin) return *value = cuda_host::kSharedBytes, cudaSuccess;
  return cudaErrorInvalidValue;
}
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorInvalidDevice ? "invalid device ordinal" : "an error";
}
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorInvalidDevice ? "cudaErrorInvalidDevice" : "cudaErrorUnnamed";
}

}  // extern "C"
