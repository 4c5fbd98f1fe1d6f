// The inverse of a masked autoregressive layer on CPUs, and its gradient: number after number, each unit computed once.
#include "cpu/autoregressive_inverse.h"

#include "cpu/dense_worker.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

template <class Real>
struct InverseRule {
  const AutoregressiveInverse& p;
  const DensePlan<Real>& plan;

  template <CouplingScale kScale>
  PYGEN_INLINE void solve(int64_t image, int64_t at, const Real* outputs, Real* value) const {
    const Real s = kScale == CouplingScale::None ? Real(0) : outputs[1];
    const CouplingFactor<Real> f = coupling_factor<kScale, true>(s, static_cast<Real>(p.bound));
    *value = coupling_value<kScale, true>(static_cast<const Real*>(p.y)[at], outputs[0], f);
    p.log_det[image] -= f.log;
  }

  PYGEN_INLINE void decide(int64_t image, int64_t step, const Real* outputs, Real* value) const {
    using Scale = CouplingScale;
    const int64_t at = image * plan.steps + plan.turns[step];
    if (step == 0) p.log_det[image] = 0;
    switch (p.scale) {
      case Scale::None:
        solve<Scale::None>(image, at, outputs, value);
        break;
      case Scale::Exp:
        solve<Scale::Exp>(image, at, outputs, value);
        break;
      case Scale::Sigmoid:
        solve<Scale::Sigmoid>(image, at, outputs, value);
        break;
      default:
        solve<Scale::Tanh>(image, at, outputs, value);
    }
    static_cast<Real*>(p.x)[at] = *value;
  }
  PYGEN_INLINE Real activate(int64_t, int64_t, int64_t, Real sum) const { return sum < 0 ? Real(0) : sum; }
};

template <class Real>
struct SolveRule {
  const AutoregressiveInverseSolve& p;
  const DensePlan<Real>& plan;

  static Real number(const void* from, int64_t at) { return static_cast<const Real*>(from)[at]; }
  PYGEN_INLINE void decide(int64_t image, int64_t step, const Real* outputs, Real* values) const {
    const int64_t at = image * plan.steps + plan.turns[step];
    Real solved = number(p.grad, at) - outputs[0];
    if (p.root) {
      solved = solved * number(p.root, at) * number(p.root, at);
      values[1] = number(p.slope, at) * solved + number(p.offset, at);
    }
    static_cast<Real*>(p.solved)[at] = values[0] = solved;
  }
  PYGEN_INLINE Real activate(int64_t image, int64_t layer, int64_t unit, Real sum) const {
    const int64_t units = static_cast<int64_t>(plan.order[layer + 1].size());
    const Real* const values = static_cast<const Real*>(p.hidden[layer]) + image * units;
    return values[plan.order[layer + 1][unit]] > 0 ? sum : Real(0);
  }
};

template <template <class> class Rule, class Real, class Params>
void run(const Params& p) {
  run_dense_network<Real>(p.network, p.threads, *p.interrupt,
                          [&](const DensePlan<Real>& plan) { return Rule<Real>{p, plan}; });
}

}  // namespace

void autoregressive_inverse(const AutoregressiveInverse& p) {
  if (p.dtype == DType::Float64) return run<InverseRule, double>(p);
  run<InverseRule, float>(p);
}

void autoregressive_inverse_solve(const AutoregressiveInverseSolve& p) {
  if (p.dtype == DType::Float64) return run<SolveRule, double>(p);
  run<SolveRule, float>(p);
}

}  // namespace PYGEN_ISA
}  // namespace pygen
