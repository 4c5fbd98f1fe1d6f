// Tiles of rational_quadratic_spline: a number of kTile places side by side, whatever way they lie in memory. Planes of
// a convolution are read as they lie, and the numbers that a linear layer puts together are turned four by four.
#pragma once

#include "cpu/block_io.h"

namespace pygen {
inline namespace PYGEN_ISA {

constexpr int64_t kTile = 64;  // whole cache lines of each plane, in 16 bits too; 47 numbers of each fit the L1 cache

// Four numbers in 128 bits.
typedef float Quad __attribute__((vector_size(16)));
typedef uint32_t QuadWords __attribute__((vector_size(16)));
typedef uint16_t QuadHalves __attribute__((vector_size(8)));
typedef int32_t QuadIndex __attribute__((vector_size(16)));

PYGEN_INLINE Quad widen_quad(const float* p) { return load<Quad>(p); }
PYGEN_INLINE Quad widen_quad(const BFloat16* p) {
  return reinterpret_cast<Quad>(__builtin_convertvector(load<QuadHalves>(p), QuadWords) << 16);
}
PYGEN_INLINE Quad widen_quad(const Float16* p) {
#if defined(__F16C__)
  return _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
  return Quad{widen(p[0]), widen(p[1]), widen(p[2]), widen(p[3])};
#endif
}
PYGEN_INLINE void narrow_quad(Quad x, float* p) { store(p, x); }
PYGEN_INLINE void narrow_quad(Quad x, BFloat16* p) {  // as narrow_register
  const QuadWords bits = reinterpret_cast<QuadWords>(x);
  const QuadWords rounded = bits + 0x7fffu + ((bits >> 16) & 1u), quiet = bits | 0x400000u;
  store(p, __builtin_convertvector((x == x ? rounded : quiet) >> 16, QuadHalves));
}
PYGEN_INLINE void narrow_quad(Quad x, Float16* p) {
#if defined(__F16C__)
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int i = 0; i < 4; ++i) narrow(x[i], p + i);
#endif
}
PYGEN_INLINE void turn(Quad& a, Quad& b, Quad& c, Quad& d) {
  const Quad ab_low = __builtin_shuffle(a, b, QuadIndex{0, 4, 1, 5}),
             ab = __builtin_shuffle(a, b, QuadIndex{2, 6, 3, 7});
  const Quad cd_low = __builtin_shuffle(c, d, QuadIndex{0, 4, 1, 5}),
             cd = __builtin_shuffle(c, d, QuadIndex{2, 6, 3, 7});
  a = __builtin_shuffle(ab_low, cd_low, QuadIndex{0, 1, 4, 5});
  b = __builtin_shuffle(ab_low, cd_low, QuadIndex{2, 3, 6, 7});
  c = __builtin_shuffle(ab, cd, QuadIndex{0, 1, 4, 5});
  d = __builtin_shuffle(ab, cd, QuadIndex{2, 3, 6, 7});
}

// body(i, k, whether a square of four places by four numbers starts there) over count places and their numbers; squares
// at the end of a place's numbers overlap.
template <class Body>
PYGEN_INLINE void for_each_square(bool squares, int64_t count, int64_t numbers, Body body) {
  int64_t i = 0;
  if (squares && numbers >= 4) {
    for (; i + 4 <= count; i += 4)
      for (int64_t k = 0; k < numbers; k += 4) body(i, k + 4 <= numbers ? k : numbers - 4, true);
  }
  for (; i < count; ++i)
    for (int64_t k = 0; k < numbers; ++k) body(i, k, false);
}

// tile [numbers, kTile] of the places [start, start + n).
template <class T, class Real>
__attribute__((noinline)) void read_tile(const View& view, int64_t step, int64_t numbers, int64_t start, int64_t n,
                                         Real* tile) {
  const T* data = static_cast<const T*>(view.data);
  for_each_run(view, start, n, [&](int64_t offset, int64_t stride, int64_t at, int64_t count) {
    const T* in = data + offset;
    if (stride == 1) {
      for (int64_t k = 0; k < numbers; ++k) widen_run(in + k * step, tile + k * kTile + at, count);
      return;
    }
    for_each_square(step == 1 && sizeof(Real) == 4, count, numbers, [&](int64_t i, int64_t k, bool square) {
      Real* to = tile + k * kTile + at + i;
      if constexpr (sizeof(Real) == 4) {
        if (square) {
          const T* from = in + i * stride + k;
          Quad a = widen_quad(from), b = widen_quad(from + stride), c = widen_quad(from + 2 * stride),
               d = widen_quad(from + 3 * stride);
          turn(a, b, c, d);
          store(to, a);
          store(to + kTile, b);
          store(to + 2 * kTile, c);
          store(to + 3 * kTile, d);
          return;
        }
      }
      *to = widen(in[i * stride + k * step]);
    });
  });
}
template <class T, class Real>
__attribute__((noinline)) void write_tile(const View& view, int64_t step, int64_t numbers, int64_t start, int64_t n,
                                          const Real* tile) {
  T* data = static_cast<T*>(view.data);
  for_each_run(view, start, n, [&](int64_t offset, int64_t stride, int64_t at, int64_t count) {
    T* out = data + offset;
    if (stride == 1) {
      for (int64_t k = 0; k < numbers; ++k) narrow_run(tile + k * kTile + at, out + k * step, count);
      return;
    }
    for_each_square(step == 1 && sizeof(Real) == 4, count, numbers, [&](int64_t i, int64_t k, bool square) {
      const Real* from = tile + k * kTile + at + i;
      if constexpr (sizeof(Real) == 4) {
        if (square) {
          Quad a = load<Quad>(from), b = load<Quad>(from + kTile), c = load<Quad>(from + 2 * kTile),
               d = load<Quad>(from + 3 * kTile);
          turn(a, b, c, d);
          T* to = out + i * stride + k;
          narrow_quad(a, to);
          narrow_quad(b, to + stride);
          narrow_quad(c, to + 2 * stride);
          narrow_quad(d, to + 3 * stride);
          return;
        }
      }
      narrow(*from, out + i * stride + k * step);
    });
  });
}

}  // namespace PYGEN_ISA
}  // namespace pygen
