// Threads of torch's OpenMP runtime. Work is cut into blocks whose size never depends on the number of threads.
#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>

namespace pygen {

// body(block) for block in [0, blocks); `blocks_per_thread` is the least work worth a thread.
template <class Body>
inline void parallel_blocks(int64_t blocks, int64_t blocks_per_thread, int threads, const Body& body) {
#if defined(__SANITIZE_THREAD__)
  blocks_per_thread = 1;  // small shapes show races too
#endif
  const int64_t useful = (blocks + blocks_per_thread - 1) / blocks_per_thread;
  const int team = static_cast<int>(useful < threads ? useful : threads);
  if (team <= 1) {
    for (int64_t b = 0; b < blocks; ++b) body(b);
    return;
  }
  std::exception_ptr fault;  // the first: no more memory. One that left its thread would end the process.
  std::atomic<bool> faulty{false};
#pragma omp parallel for num_threads(team) schedule(static)
  for (int64_t b = 0; b < blocks; ++b) {
    try {
      body(b);
    } catch (...) {
      if (!faulty.exchange(true)) fault = std::current_exception();
    }
  }
  if (fault) std::rethrow_exception(fault);
}

// How many units of that many multiply-adds are worth a thread: about 10 us.
inline int64_t units_per_thread(double multiply_adds) {
  return 1 + static_cast<int64_t>(400e3 / std::max(multiply_adds, 1.0));
}

}  // namespace pygen
