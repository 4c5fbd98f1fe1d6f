// The vector type of one instruction set, over GCC's vector extensions: the same source serves SSE2, NEON, AVX2,
// AVX-512 and a 16-lane form over two AVX2 registers. setup.py compiles each file of csrc/cpu once per set, with
//   PYGEN_ISA    the name of the set, used as a namespace
//   PYGEN_LANES  floats in a vector
#pragma once

#include <cstring>
#include <type_traits>

#include "common/lanes.h"
#include "common/macros.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define PYGEN_INLINE inline __attribute__((always_inline))
#define PYGEN_INLINE_LAMBDA __attribute__((always_inline))  // between a lambda's parameters and its body
#if defined(__AVX2__) && !defined(__AVX512F__) && PYGEN_LANES == 16
#define PYGEN_TWIN 1
#define PYGEN_REGISTER_LANES 8
#else
#define PYGEN_TWIN 0
#define PYGEN_REGISTER_LANES PYGEN_LANES
#endif

namespace pygen {
inline namespace PYGEN_ISA {

constexpr int kLanes = PYGEN_LANES;

// One register.
typedef float RegF __attribute__((vector_size(4 * PYGEN_REGISTER_LANES)));
typedef int32_t RegI __attribute__((vector_size(4 * PYGEN_REGISTER_LANES)));
typedef uint32_t RegU __attribute__((vector_size(4 * PYGEN_REGISTER_LANES)));
typedef uint64_t RegQ __attribute__((vector_size(4 * PYGEN_REGISTER_LANES)));  // half as many lanes, 64 bits each

template <class V>
struct Memory {
  static PYGEN_INLINE V load(const void* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static PYGEN_INLINE void store(void* p, V v) { std::memcpy(p, &v, sizeof v); }
};

template <class V, class T>
PYGEN_INLINE V load(const T* p) {
  static_assert(sizeof(V) % sizeof(T) == 0);
  return Memory<V>::load(p);
}
template <class V, class T>
PYGEN_INLINE void store(T* p, V v) {
  static_assert(sizeof(V) % sizeof(T) == 0);
  Memory<V>::store(p, v);
}

PYGEN_INLINE RegQ multiply_words(RegQ x, uint32_t m) {
#if defined(__AVX512F__)
  return reinterpret_cast<RegQ>(_mm512_mul_epu32(reinterpret_cast<__m512i>(x), _mm512_set1_epi64(m)));
#elif defined(__AVX2__)
  return reinterpret_cast<RegQ>(_mm256_mul_epu32(reinterpret_cast<__m256i>(x), _mm256_set1_epi64x(m)));
#elif defined(__SSE2__)
  return reinterpret_cast<RegQ>(_mm_mul_epu32(reinterpret_cast<__m128i>(x), _mm_set1_epi64x(m)));
#else
  return (x & 0xffffffffu) * static_cast<uint64_t>(m);
#endif
}
PYGEN_INLINE RegF sqrt_register(RegF x) {
#if defined(__AVX512F__)
  return _mm512_sqrt_ps(x);
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(x);
#elif defined(__SSE2__)
  return _mm_sqrt_ps(x);
#else
  for (int i = 0; i < PYGEN_REGISTER_LANES; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}
// Of two operands of which one is NaN, x86 takes the second.
PYGEN_INLINE RegF at_least_register(RegF x, RegF low) {
#if defined(__AVX512F__)
  return _mm512_max_ps(low, x);
#elif defined(__AVX2__)
  return _mm256_max_ps(low, x);
#elif defined(__SSE2__)
  return _mm_max_ps(low, x);
#else
  return x < low ? low : x;
#endif
}
PYGEN_INLINE RegF at_most_register(RegF x, RegF high) {
#if defined(__AVX512F__)
  return _mm512_min_ps(high, x);
#elif defined(__AVX2__)
  return _mm256_min_ps(high, x);
#elif defined(__SSE2__)
  return _mm_min_ps(high, x);
#else
  return x > high ? high : x;
#endif
}
PYGEN_INLINE RegF select_top_bit_register(RegI mask, RegF a, RegF b) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  return _mm256_blendv_ps(b, a, reinterpret_cast<RegF>(mask));
#else
  return (mask < 0) ? a : b;
#endif
}
// Within each 128 bits: a0 b0 a1 b1, and a2 b2 a3 b3.
PYGEN_INLINE RegF interleave_low_register(RegF a, RegF b) {
  RegI mask;
  for (int i = 0; i < PYGEN_REGISTER_LANES; ++i) mask[i] = (i & ~3) + (i & 3) / 2 + (i & 1) * PYGEN_REGISTER_LANES;
  return __builtin_shuffle(a, b, mask);
}
PYGEN_INLINE RegF interleave_high_register(RegF a, RegF b) {
  RegI mask;
  for (int i = 0; i < PYGEN_REGISTER_LANES; ++i) mask[i] = (i & ~3) + (i & 3) / 2 + 2 + (i & 1) * PYGEN_REGISTER_LANES;
  return __builtin_shuffle(a, b, mask);
}

#if PYGEN_TWIN
// Two registers as one vector: two independent chains of instructions, which is what hides their latency.
template <class R>
struct Twin {
  R a, b;
  PYGEN_INLINE Twin& operator+=(Twin y) {
    a += y.a;
    b += y.b;
    return *this;
  }
  PYGEN_INLINE Twin operator-() const { return {-a, -b}; }
};
// Copied as a struct it would go through memory in pieces that no load can be forwarded from.
template <class R>
struct Memory<Twin<R>> {
  static PYGEN_INLINE Twin<R> load(const void* p) {
    return {Memory<R>::load(p), Memory<R>::load(static_cast<const char*>(p) + sizeof(R))};
  }
  static PYGEN_INLINE void store(void* p, Twin<R> v) {
    Memory<R>::store(p, v.a);
    Memory<R>::store(static_cast<char*>(p) + sizeof(R), v.b);
  }
};
#define PYGEN_TWIN_OPERATOR(op)                                                     \
  template <class R>                                                                \
  PYGEN_INLINE auto operator op(Twin<R> x, Twin<R> y)->Twin<decltype(x.a op y.a)> { \
    return {x.a op y.a, x.b op y.b};                                                \
  }                                                                                 \
  template <class R, class S, class = std::enable_if_t<std::is_arithmetic_v<S>>>    \
  PYGEN_INLINE auto operator op(Twin<R> x, S y)->Twin<decltype(x.a op y)> {         \
    return {x.a op y, x.b op y};                                                    \
  }                                                                                 \
  template <class R, class S, class = std::enable_if_t<std::is_arithmetic_v<S>>>    \
  PYGEN_INLINE auto operator op(S x, Twin<R> y)->Twin<decltype(x op y.a)> {         \
    return {x op y.a, x op y.b};                                                    \
  }
PYGEN_TWIN_OPERATOR(+)
PYGEN_TWIN_OPERATOR(-)
PYGEN_TWIN_OPERATOR(*)
PYGEN_TWIN_OPERATOR(/)
PYGEN_TWIN_OPERATOR(&)
PYGEN_TWIN_OPERATOR(|)
PYGEN_TWIN_OPERATOR(^)
PYGEN_TWIN_OPERATOR(<<)
PYGEN_TWIN_OPERATOR(>>)
PYGEN_TWIN_OPERATOR(<)
PYGEN_TWIN_OPERATOR(>)
PYGEN_TWIN_OPERATOR(<=)
PYGEN_TWIN_OPERATOR(==)
PYGEN_TWIN_OPERATOR(!=)
#undef PYGEN_TWIN_OPERATOR

using VecF = Twin<RegF>;
using VecI = Twin<RegI>;
using VecQ = Twin<RegQ>;
#define PYGEN_BY_REGISTER(Result, f, x) \
  Result { f((x).a), f((x).b) }
#define PYGEN_BY_REGISTER2(Result, f, x, y) \
  Result { f((x).a, (y).a), f((x).b, (y).b) }
#else
using VecF = RegF;
using VecI = RegI;
using VecQ = RegQ;
#define PYGEN_BY_REGISTER(Result, f, x) f(x)
#define PYGEN_BY_REGISTER2(Result, f, x, y) f(x, y)
#endif

PYGEN_INLINE VecF interleave_low(VecF x, VecF y) { return PYGEN_BY_REGISTER2(VecF, interleave_low_register, x, y); }
PYGEN_INLINE VecF interleave_high(VecF x, VecF y) { return PYGEN_BY_REGISTER2(VecF, interleave_high_register, x, y); }

// 64-bit lanes that each carry a 32-bit word in the lower half; what is above is ignored.
struct VectorWord {
  using Word = VecQ;
  using Wide = VecQ;
  static PYGEN_INLINE VecQ multiply(VecQ x, uint32_t m) {
    const auto f = [m](RegQ r) PYGEN_INLINE_LAMBDA { return multiply_words(r, m); };
    return PYGEN_BY_REGISTER(VecQ, f, x);
  }
  static PYGEN_INLINE VecQ high(VecQ p) { return p >> 32; }
  static PYGEN_INLINE VecQ low(VecQ p) { return p; }
};
// float(word), rounded once: the words of the even lanes and of the odd lanes, back in one vector.
PYGEN_INLINE RegF float_of_words_register(RegQ even, RegQ odd) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  const RegU words = reinterpret_cast<RegU>(
      _mm256_blend_epi32(reinterpret_cast<__m256i>(even), reinterpret_cast<__m256i>(odd << 32), 0xAA));
#else
  const RegU words = reinterpret_cast<RegU>((even & 0xffffffffu) | (odd << 32));
#endif
  return __builtin_convertvector(words, RegF);
}
PYGEN_INLINE VecF float_of_words(VecQ even, VecQ odd) {
  return PYGEN_BY_REGISTER2(VecF, float_of_words_register, even, odd);
}

PYGEN_INLINE RegI bits_of_register(RegF x) { return reinterpret_cast<RegI>(x); }
PYGEN_INLINE RegF float_of_bits_register(RegI i) { return reinterpret_cast<RegF>(i); }
PYGEN_INLINE RegF convert_register(RegI i) { return __builtin_convertvector(i, RegF); }
PYGEN_INLINE RegF absolute_register(RegF x) { return reinterpret_cast<RegF>(reinterpret_cast<RegI>(x) & 0x7fffffff); }
PYGEN_INLINE RegF with_sign_register(RegF x, RegF sign) {
  return reinterpret_cast<RegF>(reinterpret_cast<RegI>(x) ^ (reinterpret_cast<RegI>(sign) & Lanes<float>::kSignBit));
}

}  // namespace PYGEN_ISA

template <>
struct Lanes<VecF> {
  using Real = float;
  static constexpr float kMax = Lanes<float>::kMax;
  static PYGEN_INLINE VecI bits(VecF x) { return PYGEN_BY_REGISTER(VecI, bits_of_register, x); }
  static PYGEN_INLINE VecF from_bits(VecI i) { return PYGEN_BY_REGISTER(VecF, float_of_bits_register, i); }
  static PYGEN_INLINE VecF power_of_two(VecF shifted, int bias) { return from_bits((bits(shifted) + bias) << 23); }
  static PYGEN_INLINE VecF to_real(VecI i) { return PYGEN_BY_REGISTER(VecF, convert_register, i); }
  static PYGEN_INLINE VecF sqrt(VecF x) { return PYGEN_BY_REGISTER(VecF, sqrt_register, x); }
  static PYGEN_INLINE VecF absolute(VecF x) { return PYGEN_BY_REGISTER(VecF, absolute_register, x); }
  static PYGEN_INLINE VecF with_sign(VecF x, VecF sign) {
    return PYGEN_BY_REGISTER2(VecF, with_sign_register, x, sign);
  }
  static PYGEN_INLINE VecF at_least(VecF x, float low) {
    return PYGEN_BY_REGISTER2(VecF, at_least_register, x, VecF{} + low);
  }
  static PYGEN_INLINE VecF at_most(VecF x, float high) {
    return PYGEN_BY_REGISTER2(VecF, at_most_register, x, VecF{} + high);
  }
  static PYGEN_INLINE VecF select_top_bit(VecI mask, VecF x, VecF y) {
#if PYGEN_TWIN
    return {select_top_bit_register(mask.a, x.a, y.a), select_top_bit_register(mask.b, x.b, y.b)};
#else
    return select_top_bit_register(mask, x, y);
#endif
  }
  // mask: all ones or all zeros in each lane.
  static PYGEN_INLINE VecF select(VecI mask, VecF x, VecF y) {
#if PYGEN_TWIN
    return {mask.a ? x.a : y.a, mask.b ? x.b : y.b};
#else
    return mask ? x : y;
#endif
  }
};

}  // namespace pygen
