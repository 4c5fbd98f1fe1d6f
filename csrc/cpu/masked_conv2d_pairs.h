// masked_conv2d in bfloat16 on processors that multiply it themselves: compiled for those alone.
#pragma once

#include "cpu/isa.h"
#include "cpu/masked_conv2d.h"
#include "cpu/simd.h"

namespace pygen {

#if PYGEN_PAIRS
namespace avx512bf16 {
void masked_conv2d_correlate(const MaskedConv2d& p, bool flip);
void masked_conv2d_grad_weight(const MaskedConv2d& p);
}  // namespace avx512bf16
#endif

inline namespace PYGEN_ISA {

inline bool takes_pairs([[maybe_unused]] const MaskedConv2d& p) {
#if PYGEN_PAIRS && defined(__AVX512F__)
  return p.dtype == DType::BFloat16 && bf16_products_in_use();
#else
  return false;
#endif
}

}  // namespace PYGEN_ISA
}  // namespace pygen
