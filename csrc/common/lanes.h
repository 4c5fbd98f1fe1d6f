// Lanes<V>: the little that the shared arithmetic needs to know about its number type V beyond operators.
// V is float or double here; csrc/cpu/simd.h adds the SIMD vectors.
#pragma once

#include <cmath>
#include <cstring>

#include "common/macros.h"

namespace pygen {

template <class V>
struct Lanes;

template <>
struct Lanes<float> {
  using Real = float;
  static constexpr float kMax = 3.402823466e38f;
  using Int = int32_t;
  static constexpr Int kSignBit = -0x7fffffff - 1;
  static PYGEN_HD Int bits(float x) {
#if defined(__CUDA_ARCH__)
    return __float_as_int(x);
#else
    Int i;
    std::memcpy(&i, &x, sizeof i);
    return i;
#endif
  }
  static PYGEN_HD float from_bits(Int i) {
#if defined(__CUDA_ARCH__)
    return __int_as_float(i);
#else
    float x;
    std::memcpy(&x, &i, sizeof x);
    return x;
#endif
  }
  // The float whose exponent is `bias` and the low bits of `shifted`, where kRoundMagic has put a whole number. Modulo
  // 2^32, as vectors add: a NaN's bits may be any.
  static PYGEN_HD float power_of_two(float shifted, int bias) {
    return from_bits(static_cast<Int>((static_cast<uint32_t>(bits(shifted)) + static_cast<uint32_t>(bias)) << 23));
  }
  static PYGEN_HD float to_real(Int i) { return static_cast<float>(i); }
  static PYGEN_HD float select(bool mask, float a, float b) { return mask ? a : b; }
  static PYGEN_HD float select_top_bit(Int mask, float a, float b) { return mask < 0 ? a : b; }
  static PYGEN_HD float absolute(float x) { return from_bits(bits(x) & 0x7fffffff); }
  static PYGEN_HD float with_sign(float x, float sign) {
    return from_bits(bits(x) ^ (bits(sign) & kSignBit));
  }  // x >= 0
  static PYGEN_HD float at_least(float x, float low) { return x < low ? low : x; }  // NaN stays
  static PYGEN_HD float at_most(float x, float high) { return x > high ? high : x; }
  // Of 0 and of normal numbers only. 1 ulp on a GPU, in one instruction instead of ten.
  static PYGEN_HD float sqrt(float x) {
#if defined(__CUDA_ARCH__)
    float root;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x));
    return root;
#else
    return ::sqrtf(x);
#endif
  }
};

template <>
struct Lanes<double> {
  using Real = double;
  static constexpr double kMax = 1.7976931348623157e308;
  static PYGEN_HD double select(bool mask, double a, double b) { return mask ? a : b; }
  static PYGEN_HD double absolute(double x) { return ::fabs(x); }
  static PYGEN_HD double with_sign(double x, double sign) { return ::copysign(x, sign); }
  static PYGEN_HD double at_least(double x, double low) { return x < low ? low : x; }
  static PYGEN_HD double at_most(double x, double high) { return x > high ? high : x; }
  static PYGEN_HD double sqrt(double x) { return ::sqrt(x); }
};

// n / d for d from 1 to 4. On a GPU the same instructions as the division's, and so the same bits but of subnormal
// quotients, less the branch for other denominators, across which the compiler could not interleave several of them.
template <class V>
PYGEN_HD V divide_tame(V n, V d) {
  return n / d;
}
#if defined(__CUDA_ARCH__)
template <>
PYGEN_HD float divide_tame(float n, float d) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(d));
  inverse = ::fmaf(inverse, ::fmaf(-d, inverse, 1.0f), inverse);
  const float quotient = n * inverse;
  return ::fmaf(inverse, ::fmaf(-d, quotient, n), quotient);
}
#endif

}  // namespace pygen
