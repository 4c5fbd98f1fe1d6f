// The dtypes that memory holds, and the numbers that kernels compute with: one element, one vector.
#pragma once

#include <type_traits>

#include "cpu/simd.h"

namespace pygen {
inline namespace PYGEN_ISA {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

PYGEN_INLINE float widen(float x) { return x; }
PYGEN_INLINE double widen(double x) { return x; }
PYGEN_INLINE float widen(BFloat16 x) {
  return Lanes<float>::from_bits(static_cast<int32_t>(static_cast<uint32_t>(x.bits) << 16));
}
PYGEN_INLINE float widen(Float16 x) {
#if defined(__F16C__)
  return _cvtsh_ss(x.bits);
#else
  const int32_t magnitude = (x.bits & 0x7fff) << 13;  // the exponent is 112 short; the product also lifts subnormals
  const float scaled = Lanes<float>::from_bits(magnitude) * 0x1p112f;
  const int32_t special = (x.bits & 0x7c00) == 0x7c00 ? magnitude | 0x7f800000 : Lanes<float>::bits(scaled);
  return Lanes<float>::from_bits(special | static_cast<int32_t>(static_cast<uint32_t>(x.bits & 0x8000) << 16));
#endif
}
PYGEN_INLINE void narrow(float x, float* out) { *out = x; }
PYGEN_INLINE void narrow(double x, double* out) { *out = x; }
PYGEN_INLINE void narrow(float x, BFloat16* out) {
  const uint32_t bits = static_cast<uint32_t>(Lanes<float>::bits(x));
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;  // to nearest, ties to even
  out->bits = static_cast<uint16_t>(x != x ? bits >> 16 | 0x40u : rounded);
}
PYGEN_INLINE void narrow(float x, Float16* out) {
#if defined(__F16C__)
  out->bits = static_cast<uint16_t>(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT));
#else
  const uint32_t bits = static_cast<uint32_t>(Lanes<float>::bits(x)), magnitude = bits & 0x7fffffffu;
  const float positive = Lanes<float>::from_bits(static_cast<int32_t>(magnitude));
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;  // NaN
  } else if (positive >= 65520.0f) {
    half = 0x7c00u;
  } else if (positive < 0x1p-14f) {  // subnormal: at 0.5 a float's last bit is worth as much as a half's here
    half = static_cast<uint32_t>(Lanes<float>::bits(positive + 0.5f)) - 0x3f000000u;
  } else {
    half = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  out->bits = static_cast<uint16_t>(half | ((bits >> 16) & 0x8000u));
#endif
}

// One register of numbers; then a vector of one or two.
typedef uint16_t RegH __attribute__((vector_size(2 * PYGEN_REGISTER_LANES)));

PYGEN_INLINE RegF widen_register(const BFloat16* p) {
#if defined(__AVX512F__)
  return reinterpret_cast<RegF>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load<__m256i>(p)), 16));
#elif defined(__AVX2__)
  return reinterpret_cast<RegF>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load<__m128i>(p)), 16));
#else
  return reinterpret_cast<RegF>(__builtin_convertvector(load<RegH>(p), RegU) << 16);
#endif
}
PYGEN_INLINE void narrow_register(RegF x, BFloat16* p) {
#if defined(__AVX512BF16__)  // where products of bfloat16 take subnormal numbers for zeros too
  store(p, _mm512_cvtneps_pbh(x));
#else
  const RegU bits = reinterpret_cast<RegU>(x);
  const RegU rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const RegU quiet = bits | 0x400000u;
  const RegU high = (x == x ? rounded : quiet) >> 16;
#if defined(__AVX512F__)
  store(p, _mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(high)));
#elif defined(__AVX2__)
  const __m256i h = reinterpret_cast<__m256i>(high);
  store(p, _mm_packus_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1)));
#else
  store(p, __builtin_convertvector(high, RegH));
#endif
#endif
}
PYGEN_INLINE RegF widen_register(const Float16* p) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(load<__m256i>(p));
#elif defined(__AVX2__)
  return _mm256_cvtph_ps(load<__m128i>(p));
#else
  RegF x{};
  for (int i = 0; i < PYGEN_REGISTER_LANES; ++i) x[i] = widen(p[i]);
  return x;
#endif
}
PYGEN_INLINE void narrow_register(RegF x, Float16* p) {
#if defined(__AVX512F__)
  store(p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__AVX2__)
  store(p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int i = 0; i < PYGEN_REGISTER_LANES; ++i) narrow(x[i], p + i);
#endif
}
template <class T>
PYGEN_INLINE VecF widen_vector(const T* p) {
#if PYGEN_TWIN
  return {widen_register(p), widen_register(p + PYGEN_REGISTER_LANES)};
#else
  return widen_register(p);
#endif
}
template <class T>
PYGEN_INLINE void narrow_vector(VecF x, T* p) {
#if PYGEN_TWIN
  narrow_register(x.a, p);
  narrow_register(x.b, p + PYGEN_REGISTER_LANES);
#else
  narrow_register(x, p);
#endif
}

// V from memory that holds T, and back; V is one number or a vector.
template <class V, class T>
PYGEN_INLINE V load_as(const T* p) {
  if constexpr (std::is_same_v<T, typename Lanes<V>::Real>) {
    return load<V>(p);
  } else if constexpr (sizeof(V) == sizeof(float)) {
    return widen(*p);
  } else {
    return widen_vector(p);
  }
}
template <class V, class T>
PYGEN_INLINE void store_as(T* p, V v) {
  if constexpr (std::is_same_v<T, typename Lanes<V>::Real>) {
    store(p, v);
  } else if constexpr (sizeof(V) == sizeof(float)) {
    narrow(v, p);
  } else {
    narrow_vector(v, p);
  }
}

// Bytes as whole numbers.
PYGEN_INLINE RegI widen_bytes_register(const uint8_t* p) {
#if defined(__AVX512F__)
  return reinterpret_cast<RegI>(_mm512_cvtepu8_epi32(load<__m128i>(p)));
#elif defined(__AVX2__)
  return reinterpret_cast<RegI>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  RegI x{};
  for (int i = 0; i < PYGEN_REGISTER_LANES; ++i) x[i] = p[i];
  return x;
#endif
}
PYGEN_INLINE VecI widen_bytes(const uint8_t* p) {
#if PYGEN_TWIN
  return {widen_bytes_register(p), widen_bytes_register(p + PYGEN_REGISTER_LANES)};
#else
  return widen_bytes_register(p);
#endif
}

}  // namespace PYGEN_ISA
}  // namespace pygen
