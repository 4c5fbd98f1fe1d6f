// The inverse of a masked autoregressive layer on CPUs, and its gradient: number after number, each unit computed once.
#include "cpu/autoregressive_inverse.h"

#include <algorithm>

#include "cpu/dense_worker.h"
#include "cpu/rational_quadratic_spline_compute.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

template <class Real>
PYGEN_INLINE void activate_by(Activation activation, const DenseUnits<Real>& units) {
  switch (activation) {
    case Activation::Relu:
      return activate_units<Activation::Relu>(units);
    case Activation::Tanh:
      return activate_units<Activation::Tanh>(units);
    case Activation::Elu:
      return activate_units<Activation::Elu>(units);
    default:
      activate_units<Activation::Silu>(units);
  }
}

template <class Real>
struct AffineRule {
  const AutoregressiveAffineInverse& p;
  const DensePlan<Real>& plan;

  template <CouplingScale kScale>
  PYGEN_INLINE void solve(const DenseStep<Real>& step) const {
    for_each_image(step, [&](int64_t image, const Real* outputs, Real* value) PYGEN_INLINE_LAMBDA {
      const int64_t at = image * plan.steps + plan.turns[step.step];
      const Real s = kScale == CouplingScale::None ? Real(0) : outputs[1];
      const CouplingFactor<Real> f = coupling_factor<kScale, true>(s, static_cast<Real>(p.bound));
      *value = coupling_value<kScale, true>(static_cast<const Real*>(p.y)[at], outputs[0], f);
      p.log_det[image] -= f.log;
      static_cast<Real*>(p.x)[at] = *value;
    });
  }

  void decide(const DenseStep<Real>& step) const {
    using Scale = CouplingScale;
    switch (p.scale) {
      case Scale::None:
        return solve<Scale::None>(step);
      case Scale::Exp:
        return solve<Scale::Exp>(step);
      case Scale::Sigmoid:
        return solve<Scale::Sigmoid>(step);
      default:
        solve<Scale::Tanh>(step);
    }
  }
  PYGEN_INLINE void activate(const DenseUnits<Real>& units) const { activate_by(p.activation, units); }
};

// Tiles of images: all of a vector's are computed, those beyond the last among numbers that stand for nothing.
template <class Real>
struct SplineRule {
  const AutoregressiveSplineInverse& p;
  const DensePlan<Real>& plan;
  const SplineConstants<Real> constants;
  Real *v, *params, *out, *log, *e;

  SplineRule(const AutoregressiveSplineInverse& p, const DensePlan<Real>& plan)
      : p(p), plan(plan), constants(spline_constants<Real>(p.options)) {
    const int64_t numbers = constants.numbers();
    v = thread_scratch<Real, 110>((3 + numbers) * kTile + 2 * p.options.bins * kLanes);
    out = v + kTile;
    log = out + kTile;
    params = log + kTile;
    e = params + numbers * kTile;
  }

  void decide(const DenseStep<Real>& step) const {
    for (int64_t i = 0; i < step.images; i += kTile) decide_tile(step, i, std::min(kTile, step.images - i));
  }

  void decide_tile(const DenseStep<Real>& step, int64_t first, int64_t count) const {
    const int64_t at = (step.first + first) * plan.steps + plan.turns[step.step];
    const Real* const y = static_cast<const Real*>(p.y) + at;
    Real* const x = static_cast<Real*>(p.x) + at;
    View outputs{};
    outputs.data = const_cast<Real*>(step.outputs + first * step.outputs_pitch);
    outputs.append(count, step.outputs_pitch);
    outputs.finish();
    read_tile<Real>(outputs, 1, constants.numbers(), 0, count, params);
    const int64_t whole = (count + kLanes - 1) / kLanes * kLanes;
    for (int64_t k = 0; k < constants.numbers(); ++k)
      std::fill(params + k * kTile + count, params + k * kTile + whole, Real(0));
    for (int64_t i = 0; i < whole; ++i) v[i] = i < count ? y[i * plan.steps] : Real(0);
    SplineTile<Real> tile{};
    tile.v = v;
    tile.params = params;
    tile.stride = kTile;
    tile.out = out;
    tile.log = log;
    tile.e = e;
    spline_tile<true, false>(tile, constants, count);
    Real* const sources = step.sources + first * step.sources_pitch;
    for (int64_t i = 0; i < count; ++i) {
      x[i * plan.steps] = sources[i * step.sources_pitch] = out[i];
      p.log_det[step.first + first + i] += log[i];
    }
  }
  PYGEN_INLINE void activate(const DenseUnits<Real>& units) const { activate_by(p.activation, units); }
};

template <class Real>
struct SolveRule {
  const AutoregressiveInverseSolve& p;
  const DensePlan<Real>& plan;

  static const Real* numbers(const void* from) { return static_cast<const Real*>(from); }
  PYGEN_INLINE void decide(const DenseStep<Real>& step) const {
    const bool first = plan.sources > p.factors;
    for_each_image(step, [&](int64_t image, const Real* outputs, Real* values) PYGEN_INLINE_LAMBDA {
      const int64_t at = image * plan.steps + plan.turns[step.step];
      Real solved = numbers(p.grad)[at] - outputs[0];
      if (p.root) solved = solved * numbers(p.root)[at] * numbers(p.root)[at];
      static_cast<Real*>(p.solved)[at] = solved;
      if (first) *values++ = solved;
      const Real *slope = numbers(p.slope) + at * p.factors, *offset = numbers(p.offset) + at * p.factors;
      for (int64_t k = 0; k < p.factors; ++k) values[k] = slope[k] * solved + offset[k];
    });
  }
  PYGEN_INLINE void activate(const DenseUnits<Real>& units) const {
    const std::vector<int64_t>& order = plan.order[units.layer + 1];
    const Real* const slopes = numbers(p.hidden[units.layer]) + units.image * static_cast<int64_t>(order.size());
    for (int64_t i = 0; i < units.count; ++i) {
      const Real slope = slopes[order[units.first + i]];
      units.values[i] = slope == 0 ? Real(0) : units.sums[i] * slope;
    }
  }
};

template <template <class> class Rule, class Params>
void run_in_dtype(const Params& p) {
  const auto run = [&](auto zero) {
    using Real = decltype(zero);
    run_dense_network<Real>(p.network, p.threads, *p.interrupt,
                            [&](const DensePlan<Real>& plan) { return Rule<Real>{p, plan}; });
  };
  if (p.dtype == DType::Float64) return run(0.0);
  run(0.0f);
}

template <template <class> class Rule, class Params>
void invert(const Params& p) {
  std::fill_n(p.log_det, p.network.batch, 0.0);
  run_in_dtype<Rule>(p);
}

}  // namespace

void autoregressive_inverse(const AutoregressiveAffineInverse& p) { invert<AffineRule>(p); }
void autoregressive_spline_inverse(const AutoregressiveSplineInverse& p) { invert<SplineRule>(p); }
void autoregressive_inverse_solve(const AutoregressiveInverseSolve& p) { run_in_dtype<SolveRule>(p); }

}  // namespace PYGEN_ISA
}  // namespace pygen
