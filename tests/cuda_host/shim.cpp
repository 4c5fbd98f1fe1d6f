// The machine behind shim.h, and as much of the runtime as the launchers call: two devices, one stream, no errors of
// its own.
#include "shim.h"

#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <mutex>

#include "cuda/hopper.cuh"

thread_local uint3 threadIdx, blockIdx;
thread_local dim3 blockDim, gridDim;

namespace cuda_host {

constexpr int kProcessors = 4, kSharedBytes = 64 << 10;
constexpr int kSharedOnSm120 = 99 << 10, kSharedOnSm90 = 227 << 10;  // the least of all; the most
constexpr uint32_t kSharedStart = 1024 + 16;  // the dynamic shared memory's address: aligned as little as may be

namespace {

int current_device = 0;
thread_local char* current_shared = nullptr;

// What belongs to one CUDA thread goes here and is reached by local(): a thread_local would be shared by fibers.
struct Local {
  struct Copy {
    void* shared;
    const void* global;
    int bytes;
    void run() const {
      std::memset(shared, 0, 16);
      if (bytes > 0) std::memcpy(shared, global, static_cast<size_t>(bytes));
    }
  };
  unsigned publications = 0;
  std::vector<std::vector<Copy>> copies = std::vector<std::vector<Copy>>(1);  // groups, the last one open
  std::deque<std::vector<std::function<void()>>> products = std::deque<std::vector<std::function<void()>>>(1);
  bool may_multiply = false;
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

// A thread of the operating system for each CUDA thread: what the sanitizers understand.
struct Warp {
  explicit Warp(int threads) : barrier(threads) {}
  std::barrier<> barrier;
  uint64_t slot[32];
  uint32_t words[2][32][64];
};

struct Block {
  explicit Block(int threads) : barrier(threads) {
    for (int t = 0; t < threads; t += 32) warps.push_back(std::make_unique<Warp>(std::min(32, threads - t)));
  }
  std::barrier<>& named(int name, int threads) {
    const std::lock_guard lock(mutex);
    if (!others[name]) others[name] = std::make_unique<std::barrier<>>(threads);
    return *others[name];
  }
  std::barrier<> barrier;
  std::vector<std::unique_ptr<Warp>> warps;
  std::mutex mutex;
  std::unique_ptr<std::barrier<>> others[16];
};

thread_local Block* current_block = nullptr;
thread_local Local current_local;

Local& local() { return current_local; }

void wait(std::barrier<>& barrier) { barrier.arrive_and_wait(); }

template <class Ready>
void spin(const Ready& ready) {
  while (!ready()) std::this_thread::yield();
}

template <class Prepare>
void run_blocks(dim3 grid, dim3 block, char* dynamic, const Prepare& prepare, const std::function<void()>& kernel) {
  Block shared(static_cast<int>(block.x));
  const auto prepare_next = [&]() noexcept { prepare(); };
  prepare();
  std::barrier next(block.x, prepare_next);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < block.x; ++t) {
    threads.emplace_back([&, t] {
      threadIdx = {t, 0, 0};
      blockDim = block;
      gridDim = grid;
      current_block = &shared;
      current_shared = dynamic;
      for (unsigned b = 0; b < grid.x; ++b) {
        blockIdx = {b, 0, 0};
        kernel();
        next.arrive_and_wait();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

#else

// A fiber for each CUDA thread, all on the calling thread: a barrier costs a microsecond a CUDA thread, not a
// scheduler's turn. They run one after the other, each until its next barrier.
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

thread_local Block* current_block = nullptr;

Local& local() { return current_block->fibers[threadIdx.x].local; }

void fiber_main() {
  current_block->kernel();
  current_block->fibers[threadIdx.x].done = true;
  current_block->moved = true;
}

void wait(Barrier& barrier) {
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

template <class Ready>
void spin(const Ready& ready) {
  Block& block = *current_block;
  while (!ready()) swapcontext(&block.fibers[threadIdx.x].context, &block.scheduler);
  block.moved = true;
}

template <class Prepare>
void run_blocks(dim3 grid, dim3 dim, char* dynamic, const Prepare& prepare, const std::function<void()>& kernel) {
  Block block(static_cast<int>(dim.x), kernel);
  current_block = &block;
  current_shared = dynamic;
  blockDim = dim;
  gridDim = grid;
  for (unsigned b = 0; b < grid.x; ++b) {
    prepare();
    blockIdx = {b, 0, 0};
    for (Fiber& fiber : block.fibers) {
      fiber.done = false;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStackBytes;
      fiber.context.uc_link = &block.scheduler;
      makecontext(&fiber.context, fiber_main, 0);
    }
    for (size_t left = block.fibers.size(); left > 0;) {
      block.moved = false;
      left = 0;
      for (unsigned t = 0; t < block.fibers.size(); ++t) {
        Fiber& fiber = block.fibers[t];
        if (fiber.done) continue;
        threadIdx = {t, 0, 0};
        swapcontext(&block.scheduler, &fiber.context);
        left += !fiber.done;
      }
      if (left > 0 && !block.moved) {
        std::fprintf(stderr, "cuda_host: %zu threads wait at a barrier that the others never reach\n", left);
        std::abort();
      }
    }
  }
}

#endif

}  // namespace

char* dynamic_shared() { return current_shared; }

void block_barrier() { wait(current_block->barrier); }

uint64_t exchange(uint64_t bits, unsigned from) {
  Warp& warp = *current_block->warps[threadIdx.x / 32];
  warp.slot[threadIdx.x % 32] = bits;
  wait(warp.barrier);
  bits = warp.slot[from];
  wait(warp.barrier);
  return bits;
}

const uint32_t (*publish(const uint32_t* words, int count))[64] {
  Warp& warp = *current_block->warps[threadIdx.x / 32];
  auto& all = warp.words[local().publications++ % 2];
  std::memcpy(all[threadIdx.x % 32], words, static_cast<size_t>(count) * 4);
  wait(warp.barrier);
  return all;
}

void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

void copy_async(void* shared, const void* global, int bytes) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 || (bytes && reinterpret_cast<uintptr_t>(global) % 16))
    fail("cp.async: an address that is not aligned to 16 bytes");
  if (bytes < 0 || bytes > 16) fail("cp.async: more than 16 bytes");
#if defined(__SANITIZE_THREAD__)
  Local::Copy{shared, global, bytes}.run();
#else
  local().copies.back().push_back({shared, global, bytes});
#endif
}

void commit_copies() { local().copies.emplace_back(); }

void wait_copies(int pending) {
  auto& copies = local().copies;
  while (copies.size() > static_cast<size_t>(pending) + 1) {
    for (const Local::Copy& copy : copies.front()) copy.run();
    copies.erase(copies.begin());
  }
}

// --- Hopper's

struct AsyncBarrier {
  explicit AsyncBarrier(int arrivals) : expected(arrivals), pending(arrivals) {}
  void add(int arrivals, int64_t bytes_expected) {
    const std::lock_guard lock(mutex);
    if (pending < arrivals) fail("mbarrier: more arrivals than expected");
    pending -= arrivals;
    bytes += bytes_expected;
    if (pending == 0 && bytes == 0) {
      pending = expected;
      ++phases;
    }
  }
  bool ended(uint32_t parity) {
    for (;;) {
      std::function<void()> copy;
      {
        const std::lock_guard lock(mutex);
        if (late.empty()) return (phases & 1) != parity;
        copy = std::move(late.front());
        late.pop_front();
      }
      copy();
    }
  }
  const int expected;
  std::mutex mutex;
  int pending;
  int64_t bytes = 0;
  uint32_t phases = 0;
  std::deque<std::function<void()>> late;
};

namespace {

std::mutex barriers_mutex;
std::vector<std::unique_ptr<AsyncBarrier>> barriers;  // of the launch

AsyncBarrier& barrier_at(const uint64_t* barrier) {
  AsyncBarrier* found = nullptr;
  std::memcpy(&found, barrier, sizeof found);
  return *found;
}

unsigned char* shared_byte(uint32_t address) {
  return reinterpret_cast<unsigned char*>(current_shared) + (address - kSharedStart);
}
uint32_t swizzled(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

// A copy that comes when it is waited for, or at once.
void begin_copy(uint64_t* barrier, int bytes, std::function<void()> copy) {
  AsyncBarrier& of = barrier_at(barrier);
  const auto run = [&of, bytes, copy = std::move(copy)] {
    copy();
    of.add(0, -bytes);
  };
#if !defined(__SANITIZE_THREAD__)
  static std::atomic<uint32_t> turns{1};
  if ((turns += 0x9e3779b9u) >> 31) {
    const std::lock_guard lock(of.mutex);
    of.late.push_back(run);
    return;
  }
#endif
  run();
}

// What the model's cuTensorMapEncodeTiled keeps in the map.
struct Map {
  const char* data;
  uint64_t columns, rows, pitch;
  uint32_t box_columns, box_rows, size;
};
static_assert(sizeof(Map) <= sizeof(CUtensorMap));

CUresult encode_map(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* data, const cuuint64_t* sizes,
                    const cuuint64_t* pitches, const cuuint32_t* box, const cuuint32_t* steps,
                    CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                    CUtensorMapFloatOOBfill fill) {
  const uint32_t size = type == CU_TENSOR_MAP_DATA_TYPE_FLOAT32 ? 4 : 2;
  const bool right = rank == 2 && reinterpret_cast<uintptr_t>(data) % 16 == 0 && sizes[0] > 0 && sizes[1] > 0 &&
                     sizes[0] <= uint64_t(1) << 32 && sizes[1] <= uint64_t(1) << 32 && pitches[0] % 16 == 0 &&
                     pitches[0] >= sizes[0] * size && pitches[0] < uint64_t(1) << 40 && box[0] * size == 128 &&
                     box[1] > 0 && box[1] <= 256 && steps[0] == 1 && steps[1] == 1 &&
                     interleave == CU_TENSOR_MAP_INTERLEAVE_NONE && swizzle == CU_TENSOR_MAP_SWIZZLE_128B &&
                     fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE && reinterpret_cast<uintptr_t>(map) % 64 == 0;
  if (!right) return CUDA_ERROR_INVALID_VALUE;
  const Map kept{static_cast<const char*>(data), sizes[0], sizes[1], pitches[0], box[0], box[1], size};
  std::memcpy(map, &kept, sizeof kept);
  return CUDA_SUCCESS;
}

int capability() {
  const char* asked = std::getenv("PYGEN_HOST_CAPABILITY");
  return asked ? std::atoi(asked) : 8;
}

}  // namespace

void init_barrier(uint64_t* barrier, int arrivals) {
  const std::lock_guard lock(barriers_mutex);
  barriers.push_back(std::make_unique<AsyncBarrier>(arrivals));
  const AsyncBarrier* made = barriers.back().get();
  std::memcpy(barrier, &made, sizeof made);
}
void arrive(uint64_t* barrier, int bytes) { barrier_at(barrier).add(1, bytes); }
void await(uint64_t* barrier, uint32_t parity) {
  AsyncBarrier& of = barrier_at(barrier);
  spin([&] { return of.ended(parity); });
}
void sync_threads(int name, int threads) { wait(current_block->named(name, threads)); }

uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(static_cast<const char*>(p) - current_shared) + kSharedStart;
}
const unsigned char* described(uint64_t descriptor, uint32_t offset) {
  if (descriptor >> 62 != 1 || (descriptor >> 46 & 0xffff) != 0) fail("wgmma: another layout than the model's");
  return shared_byte(swizzled(static_cast<uint32_t>(descriptor & 0x3fff) * 16 + offset));
}

void copy_box(void* shared, const CUtensorMap& map, int column, int row, uint64_t* barrier) {
  Map of;
  std::memcpy(&of, &map, sizeof of);
  const uint32_t to = shared_address(shared);
  if (to % 128) fail("cp.async.bulk.tensor: a destination that is not aligned to 128 bytes");
  begin_copy(barrier, static_cast<int>(of.box_rows * 128), [=] {
    for (uint32_t r = 0; r < of.box_rows; ++r) {
      for (uint32_t c = 0; c < of.box_columns; ++c) {
        const int64_t y = int64_t(row) + r, x = int64_t(column) + c;
        const bool inside = y >= 0 && y < int64_t(of.rows) && x >= 0 && x < int64_t(of.columns);
        unsigned char* byte = shared_byte(swizzled(to + r * 128 + c * of.size));
        if (inside) {
          std::memcpy(byte, of.data + y * int64_t(of.pitch) + x * of.size, of.size);
        } else {
          std::memset(byte, 0, of.size);
        }
      }
    }
  });
}
void copy_bytes(void* shared, const void* global, int bytes, uint64_t* barrier) {
  if (shared_address(shared) % 16 || reinterpret_cast<uintptr_t>(global) % 16 || bytes % 16)
    fail("cp.async.bulk: not aligned to 16 bytes");
  begin_copy(barrier, bytes, [=] { std::memcpy(shared, global, static_cast<size_t>(bytes)); });
}

void begin_products() { local().may_multiply = true; }
void add_product(std::function<void()> product) {
  if (!local().may_multiply) fail("wgmma: no fence before it");
  local().products.back().push_back(std::move(product));
}
void commit_products() {
  local().products.emplace_back();
  local().may_multiply = false;
}
void end_products() {
  if (local().products.size() > 1 || !local().products.front().empty())
    fail("wgmma: sums are read before they are there");
}
void await_products(int pending) {
  auto& products = local().products;
  while (products.size() > static_cast<size_t>(pending) + 1) {
    for (const std::function<void()>& product : products.front()) product();
    products.pop_front();
  }
}

cudaError_t launch(const cudaLaunchConfig_t& config, const std::function<void()>& kernel) {
  const dim3 grid = config.gridDim, block = config.blockDim;
  if (grid.y > 65535 || grid.z > 65535 || block.x > 1024 || block.y != 1 || block.z != 1)
    return cudaErrorInvalidConfiguration;
  barriers.clear();
  const std::unique_ptr<char[]> dynamic(new char[config.dynamicSmemBytes]);
  const auto poison = [&] { std::memset(dynamic.get(), 0xff, config.dynamicSmemBytes); };
  run_blocks(grid, block, dynamic.get(), poison, kernel);
  return cudaSuccess;
}

}  // namespace cuda_host

extern "C" {

cudaError_t cudaGetDevice(int* device) {
  *device = cuda_host::current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device > 1) return cudaErrorInvalidDevice;
  cuda_host::current_device = device;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int value) {
  const int most = cuda_host::capability() == 9 ? cuda_host::kSharedOnSm90 : cuda_host::kSharedOnSm120;
  return value <= most ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  if (attribute == cudaDevAttrMultiProcessorCount) return *value = cuda_host::kProcessors, cudaSuccess;
  if (attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin) return *value = cuda_host::kSharedBytes, cudaSuccess;
  if (attribute == cudaDevAttrComputeCapabilityMajor) return *value = cuda_host::capability(), cudaSuccess;
  return cudaErrorInvalidValue;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  if (std::strcmp(symbol, "cuTensorMapEncodeTiled") != 0) return cudaErrorInvalidValue;
  *function = reinterpret_cast<void*>(&cuda_host::encode_map);
  *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorInvalidDevice ? "invalid device ordinal" : "an error";
}
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorInvalidDevice ? "cudaErrorInvalidDevice" : "cudaErrorUnnamed";
}

}  // extern "C"
