// What the parts of the host's machine, shim.cpp, hopper_host.cpp and runtime_host.cpp, know of each other.
#pragma once

#include <atomic>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
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
  std::optional<uint64_t> arrival;  // at the cluster's barrier: its generation
};
Local& local();

constexpr unsigned kPortableCluster = 8, kMostInCluster = 16;

// Of a cluster's blocks.
struct SharedMemory {
  SharedMemory(unsigned cluster, size_t bytes) : bytes_each(bytes) {
    for (unsigned c = 0; c < cluster; ++c) {
      owned.emplace_back(new char[bytes]);
      blocks.push_back(owned.back().get());
    }
  }
  void poison() {
    for (char* of : blocks) std::memset(of, 0xff, bytes_each);
  }
  const size_t bytes_each;
  std::vector<std::unique_ptr<char[]>> owned;
  std::vector<char*> blocks;
};
extern thread_local char* current_shared;  // the block's

// Threads of each of a cluster's blocks that have not ended: without any, a block's shared memory is another's.
class Running {
 public:
  void begin(unsigned blocks, unsigned threads) {
    for (unsigned b = 0; b < blocks; ++b) threads_[b] = threads;
  }
  void end(unsigned block) { --threads_[block]; }
  bool any(unsigned block) const { return threads_[block] > 0; }

 private:
  std::atomic<unsigned> threads_[kMostInCluster];
};

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
