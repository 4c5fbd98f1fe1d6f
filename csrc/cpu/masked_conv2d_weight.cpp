// masked_conv2d on CPUs, gradient of the weight and of the bias: which way they are computed.
#include "cpu/masked_conv2d_weight.h"

#include "cpu/masked_conv2d_pairs.h"

namespace pygen {
inline namespace PYGEN_ISA {

void masked_conv2d_grad_weight(const MaskedConv2d& p) {
#if PYGEN_PAIRS && defined(__AVX512F__)
  if (takes_pairs(p)) return avx512bf16::masked_conv2d_grad_weight(p);
#endif
  PYGEN_BY_DTYPE(p.dtype, (grad_weight<T, Single<Real>>(p)))
}

}  // namespace PYGEN_ISA
}  // namespace pygen
