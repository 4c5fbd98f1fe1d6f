// What the parts of the host's machine, shim.cpp, hopper_host.cpp and runtime_host.cpp, know of each other.
#pragma once

#include <cstring>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "cuda/hopper.cuh"

namespace cuda_host {

// What belongs to one CUDA thread goes here and is reached by local(): a thread_local would be shared by fibers.
struct Local {
  struct Copy {
    void* shared;
    const void* global;
    int bytes;
    void run() const {
      std::memset(shared, 0, 16);
      if (bytes > 0) std::memcpy(shared, global, static_cast<size_t>(bytes));
    }
  };
  unsigned publications = 0;
  std::vector<std::vector<Copy>> copies = std::vector<std::vector<Copy>>(1);  // groups, the last one open
  std::deque<std::vector<std::function<void()>>> products = std::deque<std::vector<std::function<void()>>>(1);
  bool may_multiply = false;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  std::optional<std::barrier<>::arrival_token> arrival;  // at the cluster's barrier
#else
  std::optional<uint64_t> arrival;  // at the cluster's barrier
#endif
};
Local& local();

constexpr unsigned kPortableCluster = 8, kMostInCluster = 16;
// The calling thread of the operating system: whether it has used the device, as the driver, not the runtime, asks.
void bind_context();
bool has_context();
// What cudaFuncSetAttribute has allowed a kernel.
struct Allowed {
  size_t dynamic_bytes = 48 << 10;
  bool large_clusters = false;
};
Allowed allowed(const void* kernel);
unsigned blocks_of_cluster();
int capability();  // of the device, its major number: PYGEN_HOST_CAPABILITY, else 8
// Lets the other CUDA threads go on until it is ready.
void spin_until(const std::function<bool()>& ready);
void end_block();  // fails where it ends too early
void end_thread();
CUresult encode_map(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* data, const cuuint64_t* sizes,
                    const cuuint64_t* pitches, const cuuint32_t* box, const cuuint32_t* steps,
                    CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                    CUtensorMapFloatOOBfill fill);

}  // namespace cuda_host
