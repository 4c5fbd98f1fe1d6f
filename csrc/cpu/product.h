// What a tile of sums multiplies: elements of a packed source by packed weights, kTerms products in each.
#pragma once

#include "cpu/registers.h"
#include "cpu/stored.h"

namespace pygen {
inline namespace PYGEN_ISA {

// One number each.
template <class R>
struct Single {
  using Real = R;     // of the sums
  using Element = R;  // of what is multiplied, as large as a sum
  using Term = R;     // one of an element's
  static constexpr int kTerms = 1;

  static PYGEN_INLINE Reg<R> multiply_add(Reg<R> x, R w, Reg<R> sum) { return sum + x * w; }
  static PYGEN_INLINE Reg<R> add(Reg<R> x, Reg<R> sum) { return sum + x; }
  static PYGEN_INLINE R at(const R* p) { return *p; }
  static PYGEN_INLINE R first_at(const R* p) { return *p; }
};

#if defined(__AVX512BF16__)
// Two bfloat16 numbers, the first in the lower half. Each product is exact and each addition rounded once to float32,
// to nearest; subnormal numbers count as zeros.
struct Bf16Pair {
  using Real = float;
  using Element = uint32_t;
  using Term = BFloat16;
  static constexpr int kTerms = 2;

  static PYGEN_INLINE RegF multiply_add(RegF x, uint32_t w, RegF sum) {
    const auto both = [](auto bits) PYGEN_INLINE_LAMBDA { return reinterpret_cast<__m512bh>(bits); };
    return _mm512_dpbf16_ps(sum, both(x), both(_mm512_set1_epi32(static_cast<int>(w))));
  }
  static PYGEN_INLINE RegF add(RegF x, RegF sum) { return multiply_add(x, 0x3f803f80u, sum); }
  // Two neighbours in memory; the first alone, as zero times what lies behind might be NaN.
  static PYGEN_INLINE uint32_t at(const BFloat16* p) { return load<uint32_t>(p); }
  static PYGEN_INLINE uint32_t first_at(const BFloat16* p) { return p->bits; }
  static PYGEN_INLINE uint32_t of(BFloat16 first, BFloat16 second) {
    return first.bits | static_cast<uint32_t>(second.bits) << 16;
  }
};
#endif

}  // namespace PYGEN_ISA
}  // namespace pygen
