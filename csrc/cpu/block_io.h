// Between memory in any dtype and layout, and contiguous blocks of float (double) in cache: kernels compute on the latter.
// A block is a range [start, start + n) of row-major logical indices.
#pragma once

#include "cpu/simd.h"
#include "cpu/view.h"

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
PYGEN_INLINE float widen(BFloat16 x) { return Lanes<float>::from_bits(static_cast<int32_t>(static_cast<uint32_t>(x.bits) << 16)); }
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
  out->bits = static_cast<uint16_t>(x != x ? 0x7fc0u : rounded);
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

template <class T, class Real>
PYGEN_INLINE void widen_run(const T* in, Real* out, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  if constexpr (sizeof(T) == 2 && __is_same(T, Float16)) {
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i))));
  }
#endif
  for (; i < n; ++i) out[i] = widen(in[i]);
}
template <class T, class Real>
PYGEN_INLINE void narrow_run(const Real* in, T* out, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  if constexpr (sizeof(T) == 2 && __is_same(T, Float16)) {
    for (; i + 8 <= n; i += 8)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
  }
#endif
  for (; i < n; ++i) narrow(in[i], out + i);
}

// Calls run(offset, stride, at, count) for each innermost run of the block; `at` counts from the block's start.
template <class Run>
PYGEN_INLINE void for_each_run(const View& view, int64_t start, int64_t n, Run run) {
  const int inner = view.ndim - 1;
  int64_t index[kMaxDims];
  int64_t offset = 0;
  for (int d = inner; d >= 0; --d) {
    index[d] = start % view.sizes[d];
    start /= view.sizes[d];
    offset += index[d] * view.strides[d];
  }
  for (int64_t at = 0; at < n;) {
    const int64_t left = view.sizes[inner] - index[inner];
    const int64_t count = left < n - at ? left : n - at;
    run(offset, view.strides[inner], at, count);
    at += count;
    offset += count * view.strides[inner];
    index[inner] += count;
    for (int d = inner; d > 0 && index[d] == view.sizes[d]; --d) {
      offset += view.strides[d - 1] - index[d] * view.strides[d];
      index[d] = 0;
      ++index[d - 1];
    }
  }
}

// The block's values in `scratch`, or where they lie if that is already contiguous Real.
template <class T, class Real>
PYGEN_INLINE const Real* read_block(const View& view, int64_t start, int64_t n, Real* scratch) {
  const T* data = static_cast<const T*>(view.data);
  if (view.contiguous()) {
    if constexpr (__is_same(T, Real)) return data + start;
    widen_run(data + start, scratch, n);
    return scratch;
  }
  for_each_run(view, start, n, [&](int64_t offset, int64_t stride, int64_t at, int64_t count) PYGEN_INLINE_LAMBDA {
    const T* in = data + offset;
    Real* out = scratch + at;
    if (stride == 1) {
      widen_run(in, out, count);
    } else if (stride == 0) {
      const Real x = widen(*in);
      for (int64_t i = 0; i < count; ++i) out[i] = x;
    } else {
      for (int64_t i = 0; i < count; ++i) out[i] = widen(in[i * stride]);
    }
  });
  return scratch;
}

// Where to compute the block: the tensor itself if it is contiguous Real, else `scratch`, which write_block then stores.
template <class T, class Real>
PYGEN_INLINE Real* block_target(const View& view, int64_t start, Real* scratch) {
  if constexpr (__is_same(T, Real)) {
    if (view.contiguous()) return static_cast<Real*>(view.data) + start;
  }
  return scratch;
}
template <class T, class Real>
PYGEN_INLINE void write_block(const View& view, int64_t start, int64_t n, const Real* block) {
  T* data = static_cast<T*>(view.data);
  if (view.contiguous()) {
    if constexpr (!__is_same(T, Real)) narrow_run(block, data + start, n);
    return;
  }
  for_each_run(view, start, n, [&](int64_t offset, int64_t stride, int64_t at, int64_t count) PYGEN_INLINE_LAMBDA {
    for (int64_t i = 0; i < count; ++i) narrow(block[at + i], data + offset + i * stride);
  });
}

// Sum by a tree that depends on n alone.
template <class Real>
PYGEN_INLINE double sum_block(const Real* x, int64_t n) {
  constexpr int kWays = 16;
  Real lane[kWays] = {};
  int64_t i = 0;
  for (; i + kWays <= n; i += kWays)
    for (int w = 0; w < kWays; ++w) lane[w] += x[i + w];
  double total = 0;
  for (; i < n; ++i) total += static_cast<double>(x[i]);
  for (int w = 0; w < kWays; ++w) total += static_cast<double>(lane[w]);
  return total;
}

}  // namespace PYGEN_ISA
}  // namespace pygen
