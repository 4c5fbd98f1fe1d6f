// The machine behind shim.h: a launch's threads, their barriers and exchanges.
#include "shim.h"

#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <mutex>

#include "machine.h"

thread_local uint3 threadIdx, blockIdx;
thread_local dim3 blockDim, gridDim;

namespace cuda_host {

namespace {

thread_local char* current_shared = nullptr;

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

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

// A thread of the operating system for each CUDA thread: what the sanitizers understand.
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
  std::barrier<>& named(int name, int threads) {
    const std::lock_guard lock(mutex);
    if (!others[name]) others[name] = std::make_unique<std::barrier<>>(threads);
    return *others[name];
  }
  std::barrier<> barrier;
  std::vector<std::unique_ptr<Warp>> warps;
  std::mutex mutex;
  std::unique_ptr<std::barrier<>> others[16];
};

struct Cluster {
  std::barrier<> barrier;
  char* const* shared;  // of each block
  unsigned blocks;
  Running running;
};

thread_local Block* current_block = nullptr;
thread_local Cluster* current_cluster = nullptr;
thread_local Local current_local;

Local& own() { return current_local; }

void wait(std::barrier<>& barrier) { barrier.arrive_and_wait(); }

template <class Ready>
void spin(const Ready& ready) {
  while (!ready()) std::this_thread::yield();
}

template <class Prepare>
void run_blocks(dim3 grid, dim3 block, unsigned cluster, char* const* shared, const Prepare& prepare,
                const std::function<void()>& kernel) {
  Cluster together{std::barrier<>(block.x * cluster), shared, cluster, {}};
  std::vector<std::unique_ptr<Block>> blocks;
  for (unsigned c = 0; c < cluster; ++c) blocks.push_back(std::make_unique<Block>(static_cast<int>(block.x)));
  const auto prepare_next = [&]() noexcept {
    prepare();
    together.running.begin(cluster, block.x);
  };
  prepare_next();
  std::barrier next(block.x * cluster, prepare_next);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < block.x * cluster; ++i) {
    threads.emplace_back([&, i] {
      threadIdx = {i % block.x, 0, 0};
      blockDim = block;
      gridDim = grid;
      current_cluster = &together;
      current_block = blocks[i / block.x].get();
      current_shared = shared[i / block.x];
      for (unsigned b = 0; b < grid.x; b += cluster) {
        blockIdx = {b + i / block.x, 0, 0};
        kernel();
        end_thread();
        together.running.end(i / block.x);
        next.arrive_and_wait();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

void arrive(Cluster& cluster) { current_local.arrival.emplace(cluster.barrier.arrive()); }
void wait(Cluster& cluster) {
  cluster.barrier.wait(std::move(*current_local.arrival));
  current_local.arrival.reset();
}

#else

// A fiber for each CUDA thread, all on the calling thread: a barrier costs a microsecond a CUDA thread, not a
// scheduler's turn. They run one after the other, each until its next barrier.
struct Barrier {
  int expected, arrived = 0;
  uint64_t generation = 0;
};

struct Warp {
  Barrier barrier;
  uint64_t slot[32];
  uint32_t words[2][32][64];
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  bool done = false;
  Local local;
};

constexpr size_t kStackBytes = 256 << 10;

struct Block {
  explicit Block(int threads, const std::function<void()>& code) : kernel(code), barrier{threads}, fibers(threads) {
    for (int t = 0; t < threads; t += 32)
      warps.push_back(std::make_unique<Warp>(Warp{{std::min(32, threads - t)}, {}, {}}));
    for (Fiber& fiber : fibers) fiber.stack.reset(new char[kStackBytes]);
  }
  Barrier& named(int name, int threads) {
    others[name].expected = threads;
    return others[name];
  }
  const std::function<void()>& kernel;
  Barrier barrier;
  std::vector<std::unique_ptr<Warp>> warps;
  std::vector<Fiber> fibers;
  Barrier others[16] = {};
  ucontext_t scheduler;
  bool moved = false;  // whether anything happened in this round
};

struct Cluster {
  Barrier barrier;
  char* const* shared;  // of each block
  unsigned blocks;
  Running running;
};

thread_local Block* current_block = nullptr;
thread_local Cluster* current_cluster = nullptr;

Local& own() { return current_block->fibers[threadIdx.x].local; }

void fiber_main() {
  current_block->kernel();
  end_thread();
  current_cluster->running.end(blockIdx.x % current_cluster->blocks);
  current_block->fibers[threadIdx.x].done = true;
  current_block->moved = true;
}

void wait(Barrier& barrier) {
  Block& block = *current_block;
  block.moved = true;
  if (++barrier.arrived == barrier.expected) {
    barrier.arrived = 0;
    ++barrier.generation;
    return;
  }
  const uint64_t mine = barrier.generation;
  while (barrier.generation == mine) swapcontext(&block.fibers[threadIdx.x].context, &block.scheduler);
  block.moved = true;
}

template <class Ready>
void spin(const Ready& ready) {
  Block& block = *current_block;
  while (!ready()) swapcontext(&block.fibers[threadIdx.x].context, &block.scheduler);
  block.moved = true;
}

// Returns how many of the block's threads are not done.
size_t take_turns(Block& block) {
  current_block = &block;
  size_t left = 0;
  for (unsigned t = 0; t < block.fibers.size(); ++t) {
    Fiber& fiber = block.fibers[t];
    if (fiber.done) continue;
    threadIdx = {t, 0, 0};
    swapcontext(&block.scheduler, &fiber.context);
    left += !fiber.done;
  }
  return left;
}

template <class Prepare>
void run_blocks(dim3 grid, dim3 dim, unsigned cluster, char* const* shared, const Prepare& prepare,
                const std::function<void()>& kernel) {
  Cluster together{{static_cast<int>(dim.x * cluster)}, shared, cluster, {}};
  std::vector<std::unique_ptr<Block>> blocks;
  for (unsigned c = 0; c < cluster; ++c) blocks.push_back(std::make_unique<Block>(static_cast<int>(dim.x), kernel));
  current_cluster = &together;
  blockDim = dim;
  gridDim = grid;
  for (unsigned first = 0; first < grid.x; first += cluster) {
    prepare();
    together.running.begin(cluster, dim.x);
    for (const auto& block : blocks) {
      for (Fiber& fiber : block->fibers) {
        fiber.done = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = kStackBytes;
        fiber.context.uc_link = &block->scheduler;
        makecontext(&fiber.context, fiber_main, 0);
      }
    }
    for (size_t left = 1; left > 0;) {
      left = 0;
      bool moved = false;
      for (unsigned c = 0; c < cluster; ++c) {
        blockIdx = {first + c, 0, 0};
        current_shared = shared[c];
        blocks[c]->moved = false;
        left += take_turns(*blocks[c]);
        moved = moved || blocks[c]->moved;
      }
      if (left > 0 && !moved) {
        std::fprintf(stderr, "cuda_host: %zu threads wait at a barrier that the others never reach\n", left);
        std::abort();
      }
    }
  }
}

// The last to arrive opens it; who waits goes on when it is his turn.
void arrive(Cluster& cluster) {
  Barrier& barrier = cluster.barrier;
  own().arrival = barrier.generation;
  current_block->moved = true;
  if (++barrier.arrived < barrier.expected) return;
  barrier.arrived = 0;
  ++barrier.generation;
}
void wait(Cluster& cluster) {
  const uint64_t mine = *own().arrival;
  own().arrival.reset();
  spin([&] { return cluster.barrier.generation != mine; });
}

#endif

}  // namespace

Local& local() { return own(); }

char* dynamic_shared() { return current_shared; }

void block_barrier() { wait(current_block->barrier); }

uint64_t exchange(uint64_t bits, unsigned from) {
  Warp& warp = *current_block->warps[threadIdx.x / 32];
  warp.slot[threadIdx.x % 32] = bits;
  wait(warp.barrier);
  bits = warp.slot[from];
  wait(warp.barrier);
  return bits;
}

const uint32_t (*publish(const uint32_t* words, int count))[64] {
  Warp& warp = *current_block->warps[threadIdx.x / 32];
  auto& all = warp.words[local().publications++ % 2];
  std::memcpy(all[threadIdx.x % 32], words, static_cast<size_t>(count) * 4);
  wait(warp.barrier);
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
  std::vector<std::unique_ptr<char[]>> dynamic;
  std::vector<char*> shared;
  for (unsigned c = 0; c < cluster; ++c) {
    dynamic.emplace_back(new char[config.dynamicSmemBytes]);
    shared.push_back(dynamic.back().get());
  }
  const auto poison = [&] {
    end_block();
    for (char* of : shared) std::memset(of, 0xff, config.dynamicSmemBytes);
  };
  run_blocks(grid, block, cluster, shared.data(), poison, code);
  end_block();
  return cudaSuccess;
}

}  // namespace cuda_host
