// The model of csrc/cuda/mma.cuh on the host: the lanes of a warp exchange their registers as the instructions' tables
// in the PTX manual say. Copies are as late as they may be: what is read before its wait is not there yet. Under TSan
// they are as early as they may be: what is overwritten before its last read is a race.
#pragma once

#include "shim.h"

namespace cuda_host {

// Each lane's `count` words to all lanes of its warp; valid until the second call after this one.
const uint32_t (*publish(const uint32_t* words, int count))[64];
void copy_async(void* shared, const void* global, int bytes);
void commit_copies();
void wait_copies(int pending);
[[noreturn]] void fail(const char* what);

inline const void* const* publish_pointer(const void* p) {
  const void*(&pointers)[32] = *[] {
    static thread_local const void* kept[32];
    return &kept;
  }();
  uint32_t words[2];
  std::memcpy(words, &p, sizeof p);
  const uint32_t (*all)[64] = publish(words, 2);
  for (int lane = 0; lane < 32; ++lane) std::memcpy(&pointers[lane], all[lane], sizeof p);
  return pointers;
}

inline float element(__nv_bfloat16, uint32_t word, int half) {
  return __bfloat162float(__ushort_as_bfloat16(static_cast<unsigned short>(word >> 16 * half)));
}
inline float element(__half, uint32_t word, int half) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(word >> 16 * half)));
}
inline float element(pygen::cuda::Tf32, uint32_t word, int) {
  float value;
  word &= ~uint32_t(0x1fff);
  std::memcpy(&value, &word, sizeof value);
  return value;
}

}  // namespace cuda_host

namespace pygen::cuda {

inline void copy_async(void* shared, const void* global, int bytes) { cuda_host::copy_async(shared, global, bytes); }
inline void commit_copies() { cuda_host::commit_copies(); }
template <int kPending>
void wait_copies() {
  cuda_host::wait_copies(kPending);
}

inline void load_matrices(uint32_t (&r)[4], const void* row) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) cuda_host::fail("ldmatrix: a row that is not aligned");
  const void* const* rows = cuda_host::publish_pointer(row);
  const unsigned lane = threadIdx.x % 32;
  for (int j = 0; j < 4; ++j) {
    std::memcpy(&r[j], static_cast<const char*>(rows[8 * j + lane / 4]) + lane % 4 * 4, 4);
  }
}
inline void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) cuda_host::fail("ldmatrix: a row that is not aligned");
  const void* const* rows = cuda_host::publish_pointer(row);
  const unsigned lane = threadIdx.x % 32;
  for (int j = 0; j < 4; ++j) {
    uint16_t pair[2];
    for (int i = 0; i < 2; ++i) {
      std::memcpy(&pair[i], static_cast<const char*>(rows[8 * j + lane % 4 * 2 + i]) + lane / 4 * 2, 2);
    }
    r[j] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
  }
}

// To nearest, ties away from zero.
inline uint32_t round_tf32(uint32_t bits) {
  return (bits & 0x7f800000) == 0x7f800000 ? bits : (bits + 0x1000) & ~uint32_t(0x1fff);
}

inline uint32_t relu_word(float, uint32_t word) { return __uint_as_float(word) < 0 ? 0 : word; }
template <class T>
uint32_t relu_word(T, uint32_t word) {
  for (int half = 0; half < 2; ++half) {
    if (cuda_host::element(T(), word, half) < 0) word &= half == 0 ? 0xffff0000u : 0xffffu;
  }
  return word;
}

template <class Type, int kM, int kN>
void multiply_tiles(float (&d)[kM][kN][4], const uint32_t (&a)[kM][4], const uint32_t (&b)[kN][2]) {
  static_assert(4 * kM + 2 * kN <= 64);
  constexpr int kPerWord = std::is_same_v<Type, Tf32> ? 1 : 2;
  uint32_t words[4 * kM + 2 * kN];
  std::memcpy(words, a, sizeof a);
  std::memcpy(words + 4 * kM, b, sizeof b);
  const uint32_t (*all)[64] = cuda_host::publish(words, 4 * kM + 2 * kN);
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int m = 0; m < kM; ++m) {
    for (int n = 0; n < kN; ++n) {
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4, column = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 8 * kPerWord; ++k) {
          const int word = k / kPerWord, high = word / 4;
          const uint32_t x = all[row * 4 + word % 4][4 * m + i / 2 + 2 * high];
          const uint32_t y = all[column * 4 + word % 4][4 * kM + 2 * n + high];
          const int half = k % kPerWord;
          d[m][n][i] += cuda_host::element(Type(), x, half) * cuda_host::element(Type(), y, half);
        }
      }
    }
  }
}

}  // namespace pygen::cuda
