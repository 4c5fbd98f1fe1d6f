// The machine behind shim.h, and as much of the runtime as the launchers call: two devices, one stream, no errors of
// its own.
#include "shim.h"

#include <cstdio>
#include <cstdlib>

#include "cuda/mma.cuh"

thread_local uint3 threadIdx, blockIdx;
thread_local dim3 blockDim, gridDim;

namespace cuda_host {

constexpr int kProcessors = 4, kSharedBytes = 64 << 10;
constexpr int kMostSharedBytes = 99 << 10;  // what sm_120 has, the least of all

namespace {

struct Warp {
  explicit Warp(int threads) : barrier(threads) {}
  std::barrier<> barrier;
  uint64_t slot[32];
  uint32_t words[2][32][64];
};

struct Block {
  explicit Block(int threads) : barrier(threads) {
    for (int t = 0; t < threads; t += 32) warps.push_back(std::make_unique<Warp>(std::min(32, threads - t)));
  }
  std::barrier<> barrier;
  std::vector<std::unique_ptr<Warp>> warps;
};

struct Copy {
  void* shared;
  const void* global;
  int bytes;
  void run() const {
    std::memset(shared, 0, 16);
    if (bytes > 0) std::memcpy(shared, global, static_cast<size_t>(bytes));
  }
};

thread_local Block* current_block = nullptr;
thread_local char* current_shared = nullptr;
thread_local unsigned publications = 0;
thread_local std::vector<std::vector<Copy>> copies(1);  // groups, the last one open
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

const uint32_t (*publish(const uint32_t* words, int count))[64] {
  Warp& warp = *current_block->warps[threadIdx.x / 32];
  auto& all = warp.words[publications++ % 2];
  std::memcpy(all[threadIdx.x % 32], words, static_cast<size_t>(count) * 4);
  warp.barrier.arrive_and_wait();
  return all;
}

void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

void copy_async(void* shared, const void* global, int bytes) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 || (bytes && reinterpret_cast<uintptr_t>(global) % 16))
    fail("cp.async: an address that is not aligned to 16 bytes");
  if (bytes < 0 || bytes > 16) fail("cp.async: more than 16 bytes");
#if defined(__SANITIZE_THREAD__)
  Copy{shared, global, bytes}.run();
#else
  copies.back().push_back({shared, global, bytes});
#endif
}

void commit_copies() { copies.emplace_back(); }

void wait_copies(int pending) {
  while (copies.size() > static_cast<size_t>(pending) + 1) {
    for (const Copy& copy : copies.front()) copy.run();
    copies.erase(copies.begin());
  }
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
  return value <= cuda_host::kMostSharedBytes ? cudaSuccess : cudaErrorInvalidValue;
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
