// The machine behind shim.h: a launch's threads, their barriers and exchanges.
#include "shim.h"

#include <cstdio>
#include <cstdlib>

#include "barrier_host.h"
#include "machine.h"
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#include "threads_host.h"
#else
#include "fibers_host.h"
#endif

thread_local uint3 threadIdx, blockIdx;
thread_local dim3 blockDim, gridDim;

namespace cuda_host {

thread_local char* current_shared = nullptr;

Local& local() { return own(); }

char* dynamic_shared() { return current_shared; }

void block_barrier() { wait(current_block->barrier); }

uint64_t exchange(uint64_t bits, unsigned from) {
  Warp& warp = *current_block->warps[threadIdx.x / 32];
  leave(&warp.slot[threadIdx.x % 32], bits);
  meet(warp);
  bits = found(&warp.slot[from]);
  meet(warp);
  return bits;
}

void warp_barrier() { wait(current_block->warps[threadIdx.x / 32]->barrier); }

const uint32_t (*publish(const uint32_t* words, int count))[64] {
  Warp& warp = *current_block->warps[threadIdx.x / 32];
  auto& all = warp.words[local().publications++ % 2];
  leave(all[threadIdx.x % 32], words, count);
  meet(warp);
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
  Local::Copy{shared, global, bytes}.run();
#else
  local().copies.back().push_back({shared, global, bytes});
#endif
}

void commit_copies() { local().copies.emplace_back(); }

void wait_copies(int pending) {
  auto& copies = local().copies;
  while (copies.size() > static_cast<size_t>(pending) + 1) {
    for (const Local::Copy& copy : copies.front()) copy.run();
    copies.erase(copies.begin());
  }
}

int capability() {
  const char* asked = std::getenv("PYGEN_HOST_CAPABILITY");
  return asked ? std::atoi(asked) : 8;
}

unsigned blocks_of_cluster() { return current_cluster->blocks; }
int cluster_rank() { return static_cast<int>(blockIdx.x % current_cluster->blocks); }
void cluster_arrive() {
  if (own().arrival) fail("barrier.cluster: a thread arrives twice");
  arrive(*current_cluster);
}
void cluster_wait() {
  if (!own().arrival) fail("barrier.cluster: a thread waits that has not arrived");
  wait(*current_cluster);
}
void* remote(void* own, int rank) {
  if (rank < 0 || rank >= static_cast<int>(current_cluster->blocks)) fail("mapa: no such block");
  if (!current_cluster->running.any(static_cast<unsigned>(rank))) fail("shared::cluster: of a block that has ended");
  return current_cluster->shared[rank] + (static_cast<char*>(own) - current_shared);
}

void sync_threads(int name, int threads) {
  if (name < 0 || name > 15 || threads <= 0 || threads % 32 != 0) fail("bar.sync: no such barrier, or parts of warps");
  wait(current_block->named(name, threads));
}
void spin_until(const std::function<bool()>& ready) { spin(ready); }

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, const std::function<void()>& code) {
  bind_context();
  const dim3 grid = config.gridDim, block = config.blockDim;
  if (grid.y > 65535 || grid.z > 65535 || block.x > 1024 || block.y != 1 || block.z != 1)
    return cudaErrorInvalidConfiguration;
  const unsigned cluster = config.numAttrs > 0 ? config.attrs[0].val.clusterDim.x : 1;
  if (cluster > 1 && capability() < 9) return cudaErrorNotSupported;
  if (grid.x % cluster != 0) return cudaErrorInvalidConfiguration;
  const Allowed most = allowed(kernel);
  if (cluster > (most.large_clusters ? kMostInCluster : kPortableCluster)) return cudaErrorInvalidClusterSize;
  if (config.dynamicSmemBytes > most.dynamic_bytes) return cudaErrorInvalidValue;
  run_blocks(grid, block, cluster, config.dynamicSmemBytes, code);
  end_block();
  return cudaSuccess;
}

}  // namespace cuda_host
