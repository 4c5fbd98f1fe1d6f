// Which block of a launch finishes last: it adds up what the others left, so that a sum over the grid takes one launch.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace pygen::cuda {

constexpr int kTicketBits = 20;

// A word of device memory that counts blocks. It needs no first value, hence neither a launch nor a copy to set one:
// the count is believed only beside this launch's tag, which no other launch of the process has. The last block clears
// the word, so that a captured launch can be replayed.
struct Ticket {
  unsigned long long* word;
  unsigned long long tag;  // the low kTicketBits are 0
};

// True in the block that comes last; what the first threads of the others wrote to global memory before is visible to
// it. Every thread of the block must call it, once per kernel.
__device__ __forceinline__ bool is_last_block(const Ticket& ticket) {
  if (gridDim.x == 1) return true;
  __shared__ bool last;
  if (threadIdx.x == 0) {
    __threadfence();
    constexpr unsigned long long kCount = (1ull << kTicketBits) - 1;
    // The first block swaps the tag in, the others add: of swaps that race one succeeds in each round trip to L2, which
    // a thousand blocks that end together would wait for; additions all do.
    unsigned long long expected = 0, count = 1;
    for (;;) {
      const unsigned long long seen = atomicCAS(ticket.word, expected, ticket.tag + 1);
      if (seen == expected) break;
      if ((seen & ~kCount) == ticket.tag) {
        count = (atomicAdd(ticket.word, 1ull) & kCount) + 1;
        break;
      }
      expected = seen;
    }
    last = count == gridDim.x;
    if (last) *ticket.word = 0;
    __threadfence();
  }
  __syncthreads();
  return last;
}

}  // namespace pygen::cuda
