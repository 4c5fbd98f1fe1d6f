// Blocks that end at the same time, each a thread of the operating system: last_block.cuh must find one last block and
// leave a word that the next launch can use. Prints what went wrong.
#include <cstdio>

#include "shim.h"

#undef __shared__
#define __shared__ static thread_local
#include "cuda/last_block.cuh"

thread_local uint3 threadIdx, blockIdx;
thread_local dim3 blockDim, gridDim;
void cuda_host::block_barrier() {}

constexpr int kThreads = 4;

// How many of `blocks` were last, or -1 where the last one did not see what the others had written.
int run(unsigned blocks, const pygen::cuda::Ticket& ticket) {
  std::vector<unsigned> written(blocks);
  std::atomic<unsigned> next{0};
  std::atomic<int> lasts{0};
  std::atomic<bool> unseen{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      gridDim = dim3(blocks);
      for (unsigned block; (block = next++) < blocks;) {
        written[block] = block + 1;
        if (!pygen::cuda::is_last_block(ticket)) continue;
        ++lasts;
        for (unsigned b = 0; b < blocks; ++b) unseen = unseen || written[b] != b + 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return unseen ? -1 : lasts.load();
}

int main() {
  constexpr unsigned long long kTag = 0x5bd1e995abcull << pygen::cuda::kTicketBits;
  constexpr unsigned long long kLeft[] = {0, 1, ~0ull, 2048, kTag | 77, (kTag << 1) | 3};  // by whoever had the memory
  int failures = 0;
  for (int turn = 0; turn < 200; ++turn) {
    for (unsigned long long left : kLeft) {
      unsigned long long word = left;
      for (unsigned blocks : {2u, 7u, 300u}) {  // a launch leaves the word to the next one
        const unsigned long long tag = kTag + (static_cast<unsigned long long>(turn + 1) << pygen::cuda::kTicketBits);
        const int lasts = run(blocks, {&word, tag});
        if (lasts == 1 && word == 0) continue;
        std::printf("%u blocks after %llx: %d last ones, %llx left\n", blocks, left, lasts, word);
        ++failures;
      }
    }
  }
  return failures != 0;
}
