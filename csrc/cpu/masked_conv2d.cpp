// masked_conv2d on CPUs, forward and gradient of the input: which way they are computed. Where channels suffice,
// masked_conv2d_winograd.cpp does with fewer multiplications; bfloat16 has products of its own on some processors.
#include "cpu/masked_conv2d_direct.h"
#include "cpu/masked_conv2d_pairs.h"
#include "cpu/masked_conv2d_winograd.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

bool filters(const MaskedConv2d& p, const Plan& plan) { return !takes_pairs(p) && winograd_pays(p, plan); }

void correlate(const MaskedConv2d& p, bool flip) {
  const Plan plan(p, flip);
  if (filters(p, plan) && correlate_winograd(p, plan)) return;
#if PYGEN_PAIRS && defined(__AVX512F__)
  if (takes_pairs(p)) return avx512bf16::masked_conv2d_correlate(p, flip);
#endif
  PYGEN_BY_DTYPE(p.dtype, (correlate_direct<T, Single<Real>>(p, plan)))
}

}  // namespace

void masked_conv2d_forward(const MaskedConv2d& p) { correlate(p, false); }
void masked_conv2d_grad_input(const MaskedConv2d& p) { correlate(p, true); }
bool masked_conv2d_filters(const MaskedConv2d& p) { return filters(p, Plan(p, false)); }

}  // namespace PYGEN_ISA
}  // namespace pygen
