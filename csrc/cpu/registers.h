// One register of float or double, how many sums fit the register file, and memory that stays with its thread: what the
// kernels that tile their sums share.
#pragma once

#include <cstdint>
#include <memory>

#include "cpu/simd.h"

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

// Memory that grows and stays with its thread: fresh pages would cost more than the work on them.
template <class Real, int kUse>
__attribute__((noinline)) Real* thread_scratch(int64_t n) {
  static thread_local std::unique_ptr<Real[]> memory;
  static thread_local int64_t size = 0;
  if (n > size) {
    size = 0;  // where there is no more memory
    memory.reset();
    memory.reset(new Real[n + 64 / sizeof(Real)]);
    size = n;
  }
  const uintptr_t address = reinterpret_cast<uintptr_t>(memory.get());
  return reinterpret_cast<Real*>((address + 63) / 64 * 64);
}

}  // namespace PYGEN_ISA
}  // namespace pygen
