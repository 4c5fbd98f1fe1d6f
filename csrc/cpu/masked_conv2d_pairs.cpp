// masked_conv2d in bfloat16 by the processor's products of pairs: twice the multiply-adds of float32 in a register, and
// half the bytes in the caches.
#include "cpu/masked_conv2d_pairs.h"

#include "cpu/masked_conv2d_lanes.h"
#include "cpu/masked_conv2d_weight.h"

namespace pygen {
inline namespace PYGEN_ISA {

void masked_conv2d_correlate(const MaskedConv2d& p, bool flip) {
  const Plan plan(p, flip);
  if (!correlate_lanes<Bf16Pair>(p, plan)) correlate_direct<BFloat16, Bf16Pair>(p, plan);
}
void masked_conv2d_grad_weight(const MaskedConv2d& p) { grad_weight<BFloat16, Bf16Pair>(p); }

}  // namespace PYGEN_ISA
}  // namespace pygen
