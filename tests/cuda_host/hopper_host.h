// The model of csrc/cuda/hopper.cuh on the host. Copies by the TMA come as late as they may, when somebody waits for
// them, or at once: by turns, so that what is read too early or overwritten too early shows. Products read their
// registers and shared memory, and write their sums, when they are waited for; of shared memory they see what copies
// have written. A block that ends before its copies, a thread that ends before its products, or more registers than the
// processor has, fail.
#pragma once

#include <cuda.h>

#include "shim.h"

namespace cuda_host {

// A barrier's 8 bytes of shared memory hold its address.
struct AsyncBarrier;
void init_barrier(uint64_t* barrier, int arrivals);
void publish_barriers();
void set_registers(int count);  // of the calling thread
void arrive(uint64_t* barrier, int bytes);
void await(uint64_t* barrier, uint32_t parity);
void copy_box(void* shared, const CUtensorMap& map, int column, int row, uint64_t* barrier);
void copy_bytes(void* shared, const void* global, int bytes, uint64_t* barrier);
void sync_threads(int name, int threads);
uint32_t shared_address(const void* p);
// `bytes` at `offset` from a matrix descriptor's start, by the swizzle of 128 bytes.
const unsigned char* described(uint64_t descriptor, uint32_t offset, int bytes);

// Of the calling thread, in groups, the last one open.
void begin_products();
void add_product(std::function<void()> product);
void commit_products();
void await_products(int pending);
void end_products();  // fails while any is under way

}  // namespace cuda_host

namespace pygen::cuda {

inline uint32_t shared_address(const void* p) { return cuda_host::shared_address(p); }
inline void init_barrier(uint64_t* barrier, int arrivals) { cuda_host::init_barrier(barrier, arrivals); }
inline void publish_barriers() { cuda_host::publish_barriers(); }
inline void arrive(uint64_t* barrier) { cuda_host::arrive(barrier, 0); }
inline void arrive_expecting(uint64_t* barrier, int bytes) { cuda_host::arrive(barrier, bytes); }
inline void await(uint64_t* barrier, uint32_t parity) { cuda_host::await(barrier, parity); }
inline void sync_threads(int name, int threads) { cuda_host::sync_threads(name, threads); }
template <int kRegisters>
void keep_registers() {
  cuda_host::set_registers(kRegisters);
}
template <int kRegisters>
void take_registers() {
  cuda_host::set_registers(kRegisters);
}
inline void copy_box(void* shared, const CUtensorMap& map, int column, int row, uint64_t* barrier) {
  cuda_host::copy_box(shared, map, column, row, barrier);
}
inline void copy_bytes(void* shared, const void* global, int bytes, uint64_t* barrier) {
  cuda_host::copy_bytes(shared, global, bytes, barrier);
}
inline void prefetch_map(const CUtensorMap&) {}
inline void begin_products() { cuda_host::begin_products(); }
inline void commit_products() { cuda_host::commit_products(); }
template <int kPending>
void await_products() {
  cuda_host::await_products(kPending);
}
template <int kN8>
void end_products(float (&)[kN8][4]) {
  cuda_host::end_products();
}

template <class Type, bool kTransposed = false, int kN8>
void multiply_async(float (&d)[kN8][4], const uint32_t (&a)[4], uint64_t b) {
  constexpr int kPerWord = std::is_same_v<Type, Tf32> ? 1 : 2, kSize = 4 / kPerWord, kK = 32 / kSize;
  float (*const sums)[4] = d;
  const uint32_t* const words = a;
  cuda_host::add_product([sums, words, b] {
    const uint32_t (*all)[64] = cuda_host::publish(words, 4);
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int eight_rows = static_cast<int>(b >> 32 & 0x3fff) << 4, apart = static_cast<int>(b >> 16 & 0x3fff) << 4;
    float x[2][kK];
    for (int high = 0; high < 2; ++high) {
      for (int k = 0; k < kK; ++k) {
        const int word = k / kPerWord;
        x[high][k] = cuda_host::element(Type(), all[lane / 4 * 4 + word % 4][high + word / 4 * 2], k % kPerWord);
      }
    }
    for (int n = 0; n < 8 * kN8; ++n) {
      if (n % 8 / 2 != lane % 4) continue;
      for (int k = 0; k < kK; ++k) {
        uint32_t bits = 0;
        const int offset = kTransposed ? n / 64 * apart + n % 64 * kSize + k / 8 * eight_rows + k % 8 * 128
                                       : n / 8 * eight_rows + n % 8 * 128 + k * kSize;
        std::memcpy(&bits, cuda_host::described(b, static_cast<uint32_t>(offset), kSize), kSize);
        const float y = cuda_host::element(Type(), bits, 0);
        for (int high = 0; high < 2; ++high) sums[n / 8][high * 2 + n % 2] += x[high][k] * y;
      }
    }
  });
}

}  // namespace pygen::cuda
