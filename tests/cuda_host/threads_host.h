// A thread of the operating system for each CUDA thread: what the sanitizers understand. Blocks run one after the
// other, by teams of threads that take turns. Of one team, a block is ordered before the next, whose shared memory it
// may have. Of several, PYGEN_HOST_TEAMS, nothing orders the blocks of different teams, as on a GPU: ThreadSanitizer
// shows what they do to each other in global memory, and is told to overlook the module's own variables, where
// __shared__ ones lie.
#pragma once

#include <link.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "barrier_host.h"
#include "machine.h"

#if defined(__SANITIZE_THREAD__)
extern "C" void AnnotateBenignRaceSized(const char* file, int line, const volatile void* memory, long bytes,
                                        const char* what);
#else
inline void AnnotateBenignRaceSized(const char*, int, const volatile void*, long, const char*) {}
#endif

namespace cuda_host {

struct Warp {
  explicit Warp(unsigned threads) : barrier(threads), lanes(threads) {}
  OrderedBarrier barrier;
  Meeting lanes;
  uint64_t slot[32];
  uint32_t words[2][32][64];
};

struct Block {
  explicit Block(unsigned threads) : barrier(threads) {
    for (unsigned t = 0; t < threads; t += 32) warps.push_back(std::make_unique<Warp>(std::min(32u, threads - t)));
  }
  OrderedBarrier& named(int name, int threads) {
    const std::lock_guard lock(mutex);
    if (!others[name]) others[name].emplace(static_cast<unsigned>(threads));
    return *others[name];
  }
  OrderedBarrier barrier;
  std::vector<std::unique_ptr<Warp>> warps;
  std::mutex mutex;
  std::optional<OrderedBarrier> others[16];
};

struct Cluster {
  OrderedBarrier barrier;
  char* const* shared;  // of each block
  unsigned blocks;
  Running running;
};

inline thread_local Block* current_block = nullptr;
inline thread_local Cluster* current_cluster = nullptr;
inline thread_local Local current_local;

inline Local& own() { return current_local; }

inline void wait(OrderedBarrier& barrier) { barrier.wait(); }
// A shuffle is no fence, but what its value was made of has been read before anybody acts on it:
// PYGEN_HOST_SHUFFLES=order for kernels that write over what they have read when a message made of it has come. Then a
// missing __syncwarp passes.
inline bool shuffles_order = false;
inline void meet(Warp& warp) { shuffles_order ? warp.barrier.wait() : warp.lanes.wait(); }

template <class Ready>
void spin(const Ready& ready) {
  while (!ready()) std::this_thread::yield();
}

inline void arrive(Cluster& cluster) {
  current_local.arrival = cluster.barrier.arrive([] {});
}
inline void wait(Cluster& cluster) {
  cluster.barrier.wait_beyond(static_cast<unsigned>(*current_local.arrival));
  current_local.arrival.reset();
}

// A cluster's blocks, which run together.
struct Team {
  Team(unsigned threads, unsigned cluster, size_t shared_bytes)
      : shared(cluster, shared_bytes),
        together{OrderedBarrier(threads * cluster), shared.blocks.data(), cluster, {}},
        next(threads * cluster),
        block_threads(threads) {
    for (unsigned c = 0; c < cluster; ++c) blocks.push_back(std::make_unique<Block>(threads));
    prepare();
  }
  void prepare() {
    end_block();
    shared.poison();
    together.running.begin(together.blocks, block_threads);
  }
  SharedMemory shared;
  Cluster together;
  OrderedBarrier next;
  const unsigned block_threads;
  std::vector<std::unique_ptr<Block>> blocks;
};

inline unsigned teams_asked() {
  const char* asked = std::getenv("PYGEN_HOST_TEAMS");
  return asked ? static_cast<unsigned>(std::atoi(asked)) : 1;
}

// Whose variables the calling function's are: this module's.
inline void overlook_own_variables() {
  static int own_variable = 0;
  const auto overlook = [](dl_phdr_info* object, size_t, void* found) {
    const auto inside = [&](const ElfW(Phdr) & part) {
      const auto start = object->dlpi_addr + part.p_vaddr, at = reinterpret_cast<uintptr_t>(found);
      return part.p_type == PT_LOAD && (part.p_flags & PF_W) && start <= at && at < start + part.p_memsz;
    };
    for (int i = 0; i < object->dlpi_phnum; ++i) {
      const ElfW(Phdr) & part = object->dlpi_phdr[i];
      if (!inside(part)) continue;
      const auto* const start = reinterpret_cast<const volatile char*>(object->dlpi_addr + part.p_vaddr);
      AnnotateBenignRaceSized(__FILE__, __LINE__, start, static_cast<long>(part.p_memsz), "__shared__");
    }
    return 0;
  };
  dl_iterate_phdr(overlook, &own_variable);
}

inline void run_blocks(dim3 grid, dim3 block, unsigned cluster, size_t shared_bytes,
                       const std::function<void()>& kernel) {
  const unsigned turns = grid.x / cluster, several = std::min(teams_asked(), turns);
  [[maybe_unused]] static const bool overlooked = teams_asked() > 1 && (overlook_own_variables(), true);
  const char* const shuffles = std::getenv("PYGEN_HOST_SHUFFLES");
  shuffles_order = shuffles != nullptr && std::string(shuffles) == "order";
  std::vector<std::unique_ptr<Team>> teams;
  for (unsigned t = 0; t < several; ++t) teams.push_back(std::make_unique<Team>(block.x, cluster, shared_bytes));
  Turns order;
  std::vector<std::thread> threads;
  for (unsigned first = 0; first < several; ++first) {
    for (unsigned i = 0; i < block.x * cluster; ++i) {
      threads.emplace_back([&, first, i] {
        Team& team = *teams[first];
        const unsigned rank = i / block.x;
        threadIdx = {i % block.x, 0, 0};
        blockDim = block;
        gridDim = grid;
        current_cluster = &team.together;
        current_block = team.blocks[rank].get();
        current_shared = team.shared.blocks[rank];
        for (unsigned turn = first; turn < turns; turn += several) {
          order.wait_for(turn);
          blockIdx = {turn * cluster + rank, 0, 0};
          kernel();
          end_thread();
          team.together.running.end(rank);
          team.next.wait([&] {
            team.prepare();
            order.pass();
          });
        }
      });
    }
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace cuda_host
