// Barriers between threads of the operating system, whose order of memory ThreadSanitizer is told: all that a barrier
// makes, or none. A shuffle, a vote and a product by a warp make none, nor do blocks that come one after the other:
// what nothing else orders is a race on a GPU, whether or not the model's threads met.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <cstdint>

#define PYGEN_UNSEEN __attribute__((no_sanitize("thread"), noinline))

#if defined(__SANITIZE_THREAD__)
extern "C" void __tsan_acquire(void* order);
extern "C" void __tsan_release(void* order);
#else
inline void __tsan_acquire(void*) {}
inline void __tsan_release(void*) {}
#endif

namespace cuda_host {

// Asks the system itself: the library's calls make an order that the sanitizer sees.
PYGEN_UNSEEN inline void sleep_while(unsigned* word, unsigned value) {
  while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == value)
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}
PYGEN_UNSEEN inline void change(unsigned* word, unsigned value) {
  __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

class Meeting {
 public:
  explicit Meeting(unsigned threads) : expected_(threads) {}
  PYGEN_UNSEEN unsigned generation() const { return __atomic_load_n(&generation_, __ATOMIC_SEQ_CST); }
  PYGEN_UNSEEN bool is_last() { return __atomic_add_fetch(&arrived_, 1, __ATOMIC_SEQ_CST) == expected_; }
  PYGEN_UNSEEN void open() {
    __atomic_store_n(&arrived_, 0, __ATOMIC_SEQ_CST);
    change(&generation_, generation() + 1);
  }
  void wait_beyond(unsigned generation) { sleep_while(&generation_, generation); }
  void wait() {
    const unsigned mine = generation();
    is_last() ? open() : wait_beyond(mine);
  }

 private:
  const unsigned expected_;
  unsigned arrived_ = 0, generation_ = 0;
};

class OrderedBarrier {
 public:
  explicit OrderedBarrier(unsigned threads) : meeting_(threads) {}
  // `last` is called by the last one, before the others go on.
  template <class Last>
  unsigned arrive(const Last& last) {
    const unsigned mine = meeting_.generation();
    __tsan_release(&orders_[mine % 2]);
    if (meeting_.is_last()) {
      __tsan_acquire(&orders_[mine % 2]);
      last();
      __tsan_release(&orders_[mine % 2]);
      meeting_.open();
    }
    return mine;
  }
  void wait_beyond(unsigned generation) {
    meeting_.wait_beyond(generation);
    __tsan_acquire(&orders_[generation % 2]);
  }
  template <class Last>
  void wait(const Last& last) {
    wait_beyond(arrive(last));
  }
  void wait() {
    wait([] {});
  }

 private:
  Meeting meeting_;
  char orders_[2] = {};  // of odd and even generations: who goes on at once is not before those still on their way
};

// Turns that threads take without an order of memory.
class Turns {
 public:
  PYGEN_UNSEEN void wait_for(unsigned turn) {
    for (unsigned seen; (seen = __atomic_load_n(&now_, __ATOMIC_SEQ_CST)) != turn;) sleep_while(&now_, seen);
  }
  PYGEN_UNSEEN void pass() { change(&now_, __atomic_load_n(&now_, __ATOMIC_SEQ_CST) + 1); }

 private:
  unsigned now_ = 0;
};

// What threads leave each other at a meeting. Not memcpy, which would be seen.
PYGEN_UNSEEN inline void leave(uint32_t* to, const uint32_t* words, int count) {
  for (int i = 0; i < count; ++i) __atomic_store_n(to + i, words[i], __ATOMIC_RELAXED);
}
PYGEN_UNSEEN inline void leave(uint64_t* to, uint64_t bits) { __atomic_store_n(to, bits, __ATOMIC_RELAXED); }
PYGEN_UNSEEN inline uint64_t found(const uint64_t* word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }

}  // namespace cuda_host
