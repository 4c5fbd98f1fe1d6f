// How a few threads wait for each other where they meet every few microseconds: they spin, and give their core away
// where that lasts.
#pragma once

#include <sched.h>

#include <atomic>

namespace pygen {

class Patience {
 public:
  void wait() {
    if (++spins_ < kSpins) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    } else {
      sched_yield();
    }
  }

 private:
  static constexpr int kSpins = 1000;  // some tens of microseconds
  int spins_ = 0;
};

class Barrier {
 public:
  void resize(int size) { size_ = size; }
  void wait() {
    const unsigned phase = phase_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      return;
    }
    for (Patience patience; phase_.load(std::memory_order_acquire) == phase;) patience.wait();
  }

 private:
  int size_ = 1;
  std::atomic<int> arrived_{0};
  std::atomic<unsigned> phase_{0};
};

}  // namespace pygen
