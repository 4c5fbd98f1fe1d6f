// masked_conv2d in bfloat16 by the processor's products of pairs: twice the multiply-adds of float32 in a register, and
// half the bytes in the caches.
#include "cpu/masked_conv2d_pairs.h"

#include "cpu/masked_conv2d_direct.h"
#include "cpu/masked_conv2d_weight.h"

namespace pygen {
inline namespace PYGEN_ISA {

void masked_conv2d_correlate(const MaskedConv2d& p, bool flip) {
  correlate_direct<BFloat16, Bf16Pair>(p, Plan(p, flip));
}
void masked_conv2d_grad_weight(const MaskedConv2d& p) { grad_weight<BFloat16, Bf16Pair>(p); }

}  // namespace PYGEN_ISA
}  // namespace pygen
