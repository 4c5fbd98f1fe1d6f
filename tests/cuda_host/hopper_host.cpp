// The machine behind hopper_host.h.
#include <sched.h>

#include <mutex>

#include "barrier_host.h"
#include "cuda/cluster.cuh"
#include "machine.h"

namespace cuda_host {

constexpr uint32_t kSharedStart = 1024 + 16;  // the dynamic shared memory's address: aligned as little as may be

// ThreadSanitizer understands what the calling thread does at once.
#if defined(__SANITIZE_THREAD__)
constexpr bool kEarlyCopies = true;
#else
constexpr bool kEarlyCopies = false;
#endif
constexpr int64_t kMostBytes = (1 << 20) - 1;  // expected by a barrier, or come too early

// Who waits for a phase comes after all that arrived in it, and after nobody else.
struct AsyncBarrier {
  explicit AsyncBarrier(int arrivals) : expected(arrivals), pending(arrivals) {}
  void add(int arrivals, int64_t bytes_expected) {
    __tsan_release(&orders[phase() % 2]);  // which ends no sooner than the following is counted
    if (const char* fault = count(arrivals, bytes_expected)) fail(fault);
  }
  bool ended(uint32_t parity) {
    while (std::function<void()> copy = take_late()) copy();
    if (phase() % 2 == parity) return false;
    __tsan_acquire(&orders[parity]);
    return true;
  }
  void add_late(std::function<void()> copy) {
    const std::lock_guard guard(late_mutex);
    late.push_back(std::move(copy));
  }
  std::function<void()> take_late() {
    if (kEarlyCopies) return nullptr;
    const std::lock_guard guard(late_mutex);
    if (late.empty()) return nullptr;
    std::function<void()> first = std::move(late.front());
    late.pop_front();
    return first;
  }
  bool ends_well() const { return bytes == 0 && late.empty(); }

 private:
  PYGEN_UNSEEN uint32_t phase() const { return __atomic_load_n(&phases, __ATOMIC_SEQ_CST); }
  PYGEN_UNSEEN const char* count(int arrivals, int64_t bytes_expected) {
    while (__atomic_exchange_n(&locked, true, __ATOMIC_SEQ_CST)) sched_yield();
    pending -= arrivals;
    bytes += bytes_expected;
    const char* fault = pending < 0                                 ? "mbarrier: more arrivals than expected"
                        : bytes > kMostBytes || bytes < -kMostBytes ? "mbarrier: more bytes than it counts"
                                                                    : nullptr;
    if (pending == 0 && bytes == 0) {
      pending = expected;
      __atomic_store_n(&phases, phases + 1, __ATOMIC_SEQ_CST);
    }
    __atomic_store_n(&locked, false, __ATOMIC_SEQ_CST);
    return fault;
  }
  const int expected;
  int pending;
  int64_t bytes = 0;
  uint32_t phases = 0;
  bool locked = false;
  char orders[2] = {};  // of even and odd phases
  std::mutex late_mutex;
  std::deque<std::function<void()>> late;
};

namespace {

std::mutex barriers_mutex;
std::vector<std::unique_ptr<AsyncBarrier>> barriers;  // of the block
std::atomic<bool> published;
std::atomic<int> registers_taken;  // of all threads, beyond what they had at first

AsyncBarrier& barrier_at(const uint64_t* barrier) {
  AsyncBarrier* found = nullptr;
  std::memcpy(&found, barrier, sizeof found);
  return *found;
}

unsigned char* shared_byte(uint32_t address) {
  return reinterpret_cast<unsigned char*>(dynamic_shared()) + (address - kSharedStart);
}

// What copies have written into shared memory. Products read by the copies' proxy: of what threads have stored they
// would need a fence, and no kernel has one.
constexpr size_t kMostShared = 227 << 10;
unsigned char copied[kMostShared], is_copied[kMostShared];

void write_copied(uint32_t address, const void* from, size_t bytes) {
  std::memcpy(shared_byte(address), from, bytes);
  std::memcpy(&copied[address - kSharedStart], from, bytes);
  std::memset(&is_copied[address - kSharedStart], 1, bytes);
}

uint32_t swizzled(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

// A copy that comes when it is waited for, or at once.
void begin_copy(uint64_t* barrier, int bytes, std::function<void()> copy) {
  if (!published.load(std::memory_order_relaxed)) fail("mbarrier: copies have not been shown it");
  AsyncBarrier& of = barrier_at(barrier);
  const auto run = [&of, bytes, copy = std::move(copy)] {
    copy();
    of.add(0, -bytes);
  };
  static std::atomic<uint32_t> turns{1};
  if (!kEarlyCopies && (turns += 0x9e3779b9u) >> 31) return of.add_late(run);
  run();
}

// What the model's cuTensorMapEncodeTiled keeps in the map.
struct Map {
  const char* data;
  uint64_t columns, rows, pitch;
  uint32_t box_columns, box_rows, size;
};
static_assert(sizeof(Map) <= sizeof(CUtensorMap));

}  // namespace

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
  if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
  if (!right) return CUDA_ERROR_INVALID_VALUE;
  const Map kept{static_cast<const char*>(data), sizes[0], sizes[1], pitches[0], box[0], box[1], size};
  std::memcpy(map, &kept, sizeof kept);
  return CUDA_SUCCESS;
}

void end_block() {
  for (const auto& barrier : barriers) {
    if (!barrier->ends_well()) fail("TMA: a block ends before its copies");
  }
  decltype(barriers)().swap(barriers);  // its memory too: nothing orders this block before the next
  published = false;
  std::memset(is_copied, 0, sizeof is_copied);
  if (registers_taken.exchange(0) > 0) fail("setmaxnreg: waits for registers that nobody gives");
}
void end_thread() {
  if (local().products.size() > 1 || !local().products.front().empty())
    fail("wgmma: a thread ends before its products");
}
void set_registers(int count) {
  const int first = (64 << 10) / static_cast<int>(blockDim.x) / 8 * 8;
  if (count < 24 || count > 256 || count % 8) fail("setmaxnreg: not a number that it takes");
  registers_taken.fetch_add(count - first, std::memory_order_relaxed);
}
void init_barrier(uint64_t* barrier, int arrivals) {
  const std::lock_guard lock(barriers_mutex);
  published = false;
  barriers.push_back(std::make_unique<AsyncBarrier>(arrivals));
  const AsyncBarrier* made = barriers.back().get();
  std::memcpy(barrier, &made, sizeof made);
}
void publish_barriers() { published = true; }
void arrive(uint64_t* barrier, int bytes) { barrier_at(barrier).add(1, bytes); }
void await(uint64_t* barrier, uint32_t parity) {
  AsyncBarrier& of = barrier_at(barrier);
  spin_until([&] { return of.ended(parity); });
}

uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(static_cast<const char*>(p) - dynamic_shared()) + kSharedStart;
}
const unsigned char* described(uint64_t descriptor, uint32_t offset, int bytes) {
  if (descriptor >> 62 != 1 || (descriptor >> 46 & 0xffff) != 0) fail("wgmma: another layout than the model's");
  const auto start = static_cast<uint32_t>(descriptor & 0x3fff) * 16;
  if ((start >> 7 & 7) != 0) fail("wgmma: a matrix that does not start with its eight rows");  // base offset 0
  const uint32_t address = swizzled(start + offset);
  const unsigned char* const there = shared_byte(address);
  for (int i = 0; i < bytes; ++i) {
    const size_t at = address - kSharedStart + static_cast<uint32_t>(i);
    if (!is_copied[at] || copied[at] != there[i]) fail("wgmma: reads what no copy has written, and no proxy's fence");
  }
  return there;
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
        static const char zeros[4] = {};
        write_copied(swizzled(to + r * 128 + c * of.size),
                     inside ? of.data + y * int64_t(of.pitch) + x * of.size : zeros, of.size);
      }
    }
  });
}
void copy_bytes(void* shared, const void* global, int bytes, uint64_t* barrier) {
  if (shared_address(shared) % 16 || reinterpret_cast<uintptr_t>(global) % 16 || bytes % 16)
    fail("cp.async.bulk: not aligned to 16 bytes");
  begin_copy(barrier, bytes, [=] { write_copied(shared_address(shared), global, static_cast<size_t>(bytes)); });
}

void send_bytes(void* to, const void* value, int bytes, uint64_t* barrier) {
  if (blocks_of_cluster() < 2) fail("st.async: undefined in a cluster of one block");
  uint32_t words[4];
  std::memcpy(words, value, static_cast<size_t>(bytes));
  begin_copy(barrier, bytes, [=] { std::memcpy(to, words, static_cast<size_t>(bytes)); });
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

}  // namespace cuda_host
