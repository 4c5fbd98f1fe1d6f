// One decision: the first level whose cumulated probability reaches u times the total. In double, like
// pygen/models/_sampling.py: the levels' logits over the temperature, softmax, running sum. NaN gives level 0, as
// there.
#pragma once

#include <cmath>
#include <cstdint>

#include "cpu/sampling.h"
#include "cpu/simd.h"

namespace pygen {
inline namespace PYGEN_ISA {

template <class Real>
int64_t sampling_decide(const Real* logits, int64_t levels, double temperature, float u, double* scratch) {
  double most = static_cast<double>(logits[0]) / temperature;
  scratch[0] = most;
  for (int64_t l = 1; l < levels; ++l) {
    scratch[l] = static_cast<double>(logits[l]) / temperature;
    if (scratch[l] > most) most = scratch[l];
  }
  double total = 0;
  for (int64_t l = 0; l < levels; ++l) {
    const double below = scratch[l] - most;
    total += below == 0 ? 1.0 : ::exp(below);
    scratch[l] = total;
  }
  const double wanted = static_cast<double>(u) * total;
  int64_t level = 0;
  while (level < levels && scratch[level] < wanted) ++level;
  return level;
}

// Decides level `at`, or takes it over where it is known, and stores it; `u_at`: where its noise lies.
template <class Real>
int64_t sampling_level(const SamplingDraws& p, int64_t at, int64_t u_at, const Real* logits, double* scratch) {
  const int64_t level = p.known_mask && p.known_mask[at]
                            ? p.level_of(p.known, at)
                            : sampling_decide(logits, p.num_levels, p.temperature, p.u[u_at], scratch);
  p.set_level(at, level);
  return level;
}

}  // namespace PYGEN_ISA
}  // namespace pygen
