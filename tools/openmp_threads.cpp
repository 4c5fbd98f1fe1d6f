// What the C++ kernels use of OpenMP, on threads that ThreadSanitizer sees begin and end: it knows nothing of libgomp.
// tools/sanitize.py compiles it into their module, where it comes before the library.
#include <pthread.h>

#include <thread>
#include <vector>

namespace openmp_threads {

struct Member {
  int number = 0, members = 1;
  pthread_barrier_t* barrier = nullptr;
};
// Once for all instruction sets.
inline Member& member() {
  static thread_local Member m;
  return m;
}

}  // namespace openmp_threads

#define WEAK __attribute__((weak, used, visibility("hidden")))

extern "C" {

WEAK void GOMP_parallel(void (*body)(void*), void* data, unsigned members, unsigned) {
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, nullptr, members);
  std::vector<std::thread> threads;
  const auto run = [&](unsigned number) {
    openmp_threads::Member& m = openmp_threads::member();
    const openmp_threads::Member before = m;
    m = {static_cast<int>(number), static_cast<int>(members), &barrier};
    body(data);
    m = before;
  };
  for (unsigned number = 1; number < members; ++number) threads.emplace_back(run, number);
  run(0);
  for (std::thread& thread : threads) thread.join();
  pthread_barrier_destroy(&barrier);
}

WEAK void GOMP_barrier() { pthread_barrier_wait(openmp_threads::member().barrier); }
WEAK int omp_get_thread_num() { return openmp_threads::member().number; }
WEAK int omp_get_num_threads() { return openmp_threads::member().members; }
}
