// Pixels whose channels lie side by side, to and from a run of pixels for each channel: words of 32 bits, in blocks of
// four by four.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/block_io.h"

namespace pygen {
inline namespace PYGEN_ISA {

typedef uint32_t Quad __attribute__((vector_size(16)));

// out[j][i] = in[i][j] for i, j < 4; steps in bytes.
PYGEN_INLINE void turn_block(const char* in, int64_t in_step, char* out, int64_t out_step) {
  const Quad a = load<Quad>(in), b = load<Quad>(in + in_step);
  const Quad c = load<Quad>(in + 2 * in_step), d = load<Quad>(in + 3 * in_step);
  constexpr Quad low = {0, 4, 1, 5}, high = {2, 6, 3, 7};
  const Quad ac = __builtin_shuffle(a, c, low), bd = __builtin_shuffle(b, d, low);
  const Quad ac2 = __builtin_shuffle(a, c, high), bd2 = __builtin_shuffle(b, d, high);
  store(out, Quad(__builtin_shuffle(ac, bd, low)));
  store(out + out_step, Quad(__builtin_shuffle(ac, bd, high)));
  store(out + 2 * out_step, Quad(__builtin_shuffle(ac2, bd2, low)));
  store(out + 3 * out_step, Quad(__builtin_shuffle(ac2, bd2, high)));
}

// n times four words that lie side by side, `step` bytes from one four to the next, to four runs `run` bytes apart.
inline void split_words(const void* from, int64_t step, int64_t n, void* to, int64_t run) {
  const char* in = static_cast<const char*>(from);
  char* out = static_cast<char*>(to);
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) turn_block(in + i * step, step, out + 4 * i, run);
  for (; i < n; ++i)
    for (int k = 0; k < 4; ++k) std::memcpy(out + k * run + 4 * i, in + i * step + 4 * k, 4);
}
// And back.
inline void join_words(const void* from, int64_t run, int64_t n, void* to, int64_t step) {
  const char* in = static_cast<const char*>(from);
  char* out = static_cast<char*>(to);
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) turn_block(in + 4 * i, run, out + i * step, step);
  for (; i < n; ++i)
    for (int k = 0; k < 4; ++k) std::memcpy(out + i * step + 4 * k, in + k * run + 4 * i, 4);
}

// So many channels are turned at once.
template <class T>
constexpr int64_t kWordChannels = sizeof(T) > 4 ? 1 : 16 / sizeof(T);
constexpr int64_t kTurnPixels = 64;  // of 16 bits, at a time

// kWordChannels channels of n pixels, which lie `pixel` apart, to runs of Element `run` apart: as they are, or widened.
template <class T, class Element>
void split_channels(const T* in, int64_t pixel, int64_t n, Element* out, int64_t run) {
  if constexpr (sizeof(T) == 4) {
    split_words(in, 4 * pixel, n, out, 4 * run);
  } else {
    static_assert(sizeof(T) == 2);
    uint32_t words[4][kTurnPixels];
    T rows[2][kTurnPixels];
    for (int64_t x = 0; x < n; x += kTurnPixels) {
      const int64_t count = std::min(kTurnPixels, n - x);
      split_words(in + x * pixel, 2 * pixel, count, words, sizeof words[0]);
      for (int64_t k = 0; k < 4; ++k) {
        for (int64_t i = 0; i < count; ++i) {
          rows[0][i].bits = static_cast<uint16_t>(words[k][i]);
          rows[1][i].bits = static_cast<uint16_t>(words[k][i] >> 16);
        }
        for (int64_t half = 0; half < 2; ++half) element_run(rows[half], out + (2 * k + half) * run + x, count);
      }
    }
  }
}
// And back, narrowed.
template <class T, class Real>
void join_channels(const Real* in, int64_t run, int64_t n, T* out, int64_t pixel) {
  if constexpr (sizeof(T) == 4) {
    join_words(in, 4 * run, n, out, 4 * pixel);
  } else {
    static_assert(sizeof(T) == 2);
    uint32_t words[4][kTurnPixels];
    T rows[2][kTurnPixels];
    for (int64_t x = 0; x < n; x += kTurnPixels) {
      const int64_t count = std::min(kTurnPixels, n - x);
      for (int64_t k = 0; k < 4; ++k) {
        for (int64_t half = 0; half < 2; ++half) narrow_run(in + (2 * k + half) * run + x, rows[half], count);
        for (int64_t i = 0; i < count; ++i)
          words[k][i] = rows[0][i].bits | static_cast<uint32_t>(rows[1][i].bits) << 16;
      }
      join_words(words, sizeof words[0], count, out + x * pixel, 2 * pixel);
    }
  }
}

}  // namespace PYGEN_ISA
}  // namespace pygen
