// Functions of a GPU's special units: one instruction each instead of a dozen, and errors of 2 ulp and more instead of
// 1. The bounds given here are what these units are taken to keep; not yet shown on a GPU. Where the kernels of a GPU
// are executed on the host they err there as much, so that tests see what comes of it.
#pragma once

#include "common/lanes.h"

#if defined(__CUDA_ARCH__) || defined(PYGEN_CUDA_HOST)
#define PYGEN_SPECIAL 1  // what runs on a GPU, or in its place, is compiled
#endif

#if defined(__CUDACC__) || defined(PYGEN_CUDA_HOST)
namespace pygen {

#if !defined(__CUDA_ARCH__)
// x, wrong by `error` of itself, up or down.
inline float erring(float x, float error) { return x * ((Lanes<float>::bits(x) & 1) != 0 ? 1 + error : 1 - error); }
#endif

// 2^x, within 2^-22 of itself; below 2^-126 zero.
PYGEN_HD float special_ex2(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  const float y = ::exp2f(x);
  return y < 0x1p-126f ? 0.0f : y == 1.0f ? y : erring(y, 0x1p-22f);
#endif
}

// 1 / x of a normal number, within 2^-23 of itself.
PYGEN_HD float special_rcp(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return erring(1.0f / x, 0x1p-23f);
#endif
}

// log2(x): within 2^-22 between 1/2 and 2, elsewhere within 2^-22 of itself.
PYGEN_HD float special_lg2(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  const float y = ::log2f(x);
  return x > 0.5f && x < 2.0f ? y + (Lanes<float>::bits(y) & 1 ? 0x1p-22f : -0x1p-22f) : erring(y, 0x1p-22f);
#endif
}

// sin(x) and cos(x), 0 <= x <= 2 pi, within 2^-20.5.
PYGEN_HD void special_sincos(float x, float& sine, float& cosine) {
#if defined(__CUDA_ARCH__)
  asm("sin.approx.ftz.f32 %0, %1;" : "=f"(sine) : "f"(x));
  asm("cos.approx.ftz.f32 %0, %1;" : "=f"(cosine) : "f"(x));
#else
  constexpr float kError = 6.7e-7f;
  sine = ::sinf(x) + (Lanes<float>::bits(x) & 1 ? kError : -kError);
  cosine = ::cosf(x) + (Lanes<float>::bits(x) & 2 ? kError : -kError);
#endif
}

}  // namespace pygen
#endif
