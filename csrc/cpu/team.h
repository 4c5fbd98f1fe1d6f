// How a thread waits for another where that takes microseconds: it spins, and gives its core away where it lasts.
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

}  // namespace pygen
