// A fiber for each CUDA thread, all on the calling thread: a barrier costs a microsecond a CUDA thread, not a
// scheduler's turn. They run one after the other, each until its next barrier.
#pragma once

#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "machine.h"

namespace cuda_host {

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

inline thread_local Block* current_block = nullptr;
inline thread_local Cluster* current_cluster = nullptr;

inline Local& own() { return current_block->fibers[threadIdx.x].local; }

inline void fiber_main() {
  current_block->kernel();
  end_thread();
  current_cluster->running.end(blockIdx.x % current_cluster->blocks);
  current_block->fibers[threadIdx.x].done = true;
  current_block->moved = true;
}

inline void wait(Barrier& barrier) {
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

inline void meet(Warp& warp) { wait(warp.barrier); }

template <class Ready>
void spin(const Ready& ready) {
  Block& block = *current_block;
  while (!ready()) swapcontext(&block.fibers[threadIdx.x].context, &block.scheduler);
  block.moved = true;
}

// Returns how many of the block's threads are not done.
inline size_t take_turns(Block& block) {
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

inline void run_blocks(dim3 grid, dim3 dim, unsigned cluster, size_t shared_bytes,
                       const std::function<void()>& kernel) {
  SharedMemory shared(cluster, shared_bytes);
  Cluster together{{static_cast<int>(dim.x * cluster)}, shared.blocks.data(), cluster, {}};
  std::vector<std::unique_ptr<Block>> blocks;
  for (unsigned c = 0; c < cluster; ++c) blocks.push_back(std::make_unique<Block>(static_cast<int>(dim.x), kernel));
  current_cluster = &together;
  blockDim = dim;
  gridDim = grid;
  for (unsigned first = 0; first < grid.x; first += cluster) {
    end_block();
    shared.poison();
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
        current_shared = shared.blocks[c];
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
inline void arrive(Cluster& cluster) {
  Barrier& barrier = cluster.barrier;
  own().arrival = barrier.generation;
  current_block->moved = true;
  if (++barrier.arrived < barrier.expected) return;
  barrier.arrived = 0;
  ++barrier.generation;
}
inline void wait(Cluster& cluster) {
  const uint64_t mine = *own().arrival;
  own().arrival.reset();
  spin([&] { return cluster.barrier.generation != mine; });
}

}  // namespace cuda_host
