// One register of float or double, and how many sums fit the register file: what the kernels that tile their sums
// share.
#pragma once

#include <cstdint>

#include "cpu/simd.h"
#include "cpu/thread_memory.h"

namespace pygen {
inline namespace PYGEN_ISA {

// Tiles are counted in registers, so the twin vectors of simd.h would not fit.
template <class Real>
struct Register;
template <>
struct Register<float> {
  using Type = RegF;
};
template <>
struct Register<double> {
  typedef double Type __attribute__((vector_size(4 * PYGEN_REGISTER_LANES)));
};
template <class Real>
using Reg = typename Register<Real>::Type;
template <class Real>
constexpr int kRegLanes = sizeof(Reg<Real>) / sizeof(Real);

// Sums in registers at once: 12 of AVX2's 16 registers, 24 of AVX-512's 32; the rest holds the operands.
#if defined(__AVX512F__)
constexpr int kAccumulators = 24;
#else
constexpr int kAccumulators = 12;
#endif

}  // namespace PYGEN_ISA
}  // namespace pygen
