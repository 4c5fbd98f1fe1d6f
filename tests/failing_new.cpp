// Loaded before all else: an operator new that fails where a test says so. test_process.py compiles it.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace {

std::atomic<uintptr_t> code_begin{0}, code_end{0};  // whose allocations count
std::atomic<long> left{-1}, seen{0};

void* allocate(std::size_t bytes, void* caller) {
  const uintptr_t from = reinterpret_cast<uintptr_t>(caller);
  if (left >= 0 && from >= code_begin && from < code_end) {
    ++seen;
    if (left-- == 0) throw std::bad_alloc();
  }
  void* memory = std::malloc(bytes ? bytes : 1);
  if (!memory) throw std::bad_alloc();
  return memory;
}

}  // namespace

extern "C" {
void watch(uintptr_t begin, uintptr_t end) {
  code_begin = begin;
  code_end = end;
}
// The one after the next n; none where n < 0. Returns how many there were since the last call.
long fail_after(long n) {
  left = n;
  return seen.exchange(0);
}
}

void* operator new(std::size_t bytes) { return allocate(bytes, __builtin_return_address(0)); }
void* operator new[](std::size_t bytes) { return allocate(bytes, __builtin_return_address(0)); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
