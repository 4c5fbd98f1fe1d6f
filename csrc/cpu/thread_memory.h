// Memory that stays with its thread: fresh pages would cost more than the work on them. Asked for when it is first
// used: what is itself thread_local lies in one piece with all the module's, 5 MB that every thread would fill with
// zeros at its first call of any op, and where there is no more memory the process ends instead of raising.
#pragma once

#include <cstdint>
#include <memory>

namespace pygen {
inline namespace PYGEN_ISA {

// It grows.
template <class Real, int kUse>
__attribute__((noinline)) Real* thread_scratch(int64_t n) {
  static thread_local std::unique_ptr<Real[]> memory;
  static thread_local int64_t size = 0;
  if (n > size) {
    size = 0;  // where there is no more memory
    memory.reset();
    memory.reset(new Real[n + 64 / sizeof(Real)]);
    size = n;
  }
  const uintptr_t address = reinterpret_cast<uintptr_t>(memory.get());
  return reinterpret_cast<Real*>((address + 63) / 64 * 64);
}

// The thread's own T, zeros at first. Not inlined: every use would look up the thread's storage anew.
template <class T>
__attribute__((noinline)) T& of_thread() {
  static thread_local std::unique_ptr<T> own;
  if (!own) own.reset(new T());
  return *own;
}

}  // namespace PYGEN_ISA
}  // namespace pygen
