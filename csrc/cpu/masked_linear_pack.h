// Panels for the tiles of masked_linear, packed from matrices in any layout.
#pragma once

#include <algorithm>

#include "cpu/block_io.h"
#include "cpu/registers.h"

namespace pygen {
inline namespace PYGEN_ISA {

typedef float Quad __attribute__((vector_size(16)));

template <int i>
PYGEN_INLINE Quad quarter(RegF x) {
#if defined(__AVX512F__)
  return _mm512_extractf32x4_ps(x, i);
#elif defined(__AVX2__)
  return _mm256_extractf128_ps(x, i);
#else
  return x;
#endif
}

PYGEN_INLINE RegF widen_register(const float* p) { return load<RegF>(p); }

template <int i = 0>
PYGEN_INLINE void store_quarters(const RegF (&x)[4], float* out, int64_t pitch) {
  if constexpr (i < kRegLanes<float> / 4) {
    PYGEN_UNROLL
    for (int j = 0; j < 4; ++j) store(out + (4 * i + j) * pitch, quarter<i>(x[j]));
    store_quarters<i + 1>(x, out, pitch);
  }
}

// out[j * pitch + 0 .. 3] = a[j], b[j], c[j], d[j], of a register of j.
template <class T>
PYGEN_INLINE void turn(const T* a, const T* b, const T* c, const T* d, float* out, int64_t pitch) {
  const RegF x[] = {widen_register(a), widen_register(b), widen_register(c), widen_register(d)};
  const RegF even = interleave_low_register(x[0], x[2]), odd = interleave_low_register(x[1], x[3]);
  const RegF even2 = interleave_high_register(x[0], x[2]), odd2 = interleave_high_register(x[1], x[3]);
  store_quarters({interleave_low_register(even, odd), interleave_high_register(even, odd),
                  interleave_low_register(even2, odd2), interleave_high_register(even2, odd2)},
                 out, pitch);
}

// An order of indices: nullptr as they are. direction: 1 or -1 where they rise or fall one by one, else 0.
struct Along {
  const int64_t* order;
  int64_t direction;
};
inline int64_t direction(const int64_t* order, int64_t n) {
  if (n < 2) return 1;
  const int64_t step = order[1] - order[0];
  bool steady = step == 1 || step == -1;
  for (int64_t i = 2; steady && i < n; ++i) steady = order[i] - order[i - 1] == step;
  return steady ? step : 0;
}
template <int64_t wide>
PYGEN_INLINE bool side_by_side(const int64_t* at) {
  bool all = true;
  for (int64_t k = 1; k < wide; ++k) all &= at[k] == at[0] + k;
  return all;
}

// out[i * wide + k] = data[step * along(i) + at[k]] for i < n.
template <int64_t wide, class T, class Real>
void pack(const void* memory, int64_t n, const Along& along, int64_t step, const int64_t* at, Real* out) {
  const T* data = static_cast<const T*>(memory);
  const auto place = [&](int64_t i) { return data + (along.order ? along.order[i] : i) * step; };
  int64_t i = 0;
  if ((sizeof(T) == sizeof(Real) || wide % kRegLanes<Real> == 0) && side_by_side<wide>(at)) {
    for (; i < n; ++i) {
      const T* in = place(i) + at[0];
      Real row[wide];  // not straight to `out`, which the compiler cannot tell from `in`
      for (int64_t k = 0; k < wide; ++k) row[k] = widen(in[k]);
      std::copy_n(row, wide, out + i * wide);
    }
    return;
  }
  if constexpr (std::is_same_v<Real, float>) {
    // From the last four columns to the first, as those may write over what is next; so it ends before the last i.
    constexpr int64_t lanes = kRegLanes<float>;
    if (step * along.direction == 1 || step * along.direction == -1) {
      const bool falls = step * along.direction < 0;
      for (; i + lanes < n; i += lanes) {
        const T* in = place(falls ? i + lanes - 1 : i);
        float* to = out + (falls ? i + lanes - 1 : i) * wide;
#pragma GCC unroll 1
        for (int64_t k = (wide - 1) / 4 * 4; k >= 0; k -= 4)
          turn(in + at[k], in + at[k + 1], in + at[std::min(k + 2, wide - 1)], in + at[std::min(k + 3, wide - 1)],
               to + k, falls ? -wide : wide);
      }
    }
  }
  for (; i < n; ++i)
#pragma GCC unroll 2
    for (int64_t k = 0; k < wide; ++k) out[i * wide + k] = widen(place(i)[at[k]]);
}

// out[offset + step * order[k]] = in[k] for k < n; order == nullptr: k.
template <class T, class Real>
void unpack(const Real* in, int64_t n, void* memory, int64_t offset, const int64_t* order, int64_t step) {
  T* out = static_cast<T*>(memory) + offset;
  if (!order) return narrow_run(in, out, n);
  for (int64_t k = 0; k < n; ++k) narrow(in[k], out + order[k] * step);
}

// out[offset + at[k]] = in[k] for k < n, where quads lie side by side.
template <class T, class Real>
void unpack_quads(const Real* in, int64_t n, void* memory, int64_t offset, const int64_t* at) {
  T* out = static_cast<T*>(memory) + offset;
  for (int64_t k = 0; k < n; k += 4) {
    T quad[4];
    for (int64_t j = 0; j < 4; ++j) narrow(in[k + j], quad + j);
    std::copy_n(quad, 4, out + at[k]);
  }
}

// What of a kernel depends on the dtype in memory: by address, so that the rest is compiled once for each Real.
template <class Real>
struct Stored {
  decltype(&pack<1, Real, Real>) pack_rows, pack_wide;
  decltype(&unpack<Real, Real>) store;
  decltype(&unpack_quads<Real, Real>) store_quads;
};

}  // namespace PYGEN_ISA
}  // namespace pygen
