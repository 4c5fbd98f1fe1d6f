// Sampling from MADE on CPUs.
#include "cpu/dense_worker.h"
#include "cpu/sampling_decide.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

template <class Real>
struct LevelRule {
  const DenseSampling& p;
  const DensePlan<Real>& plan;
  std::vector<double> scratch;

  PYGEN_INLINE void decide(const DenseStep<Real>& step) {
    for_each_image(step, [&](int64_t image, const Real* logits, Real* value) PYGEN_INLINE_LAMBDA {
      const int64_t at = image * plan.steps + plan.turns[step.step];
      *value = static_cast<const Real*>(p.scaled)[sampling_level(p, at, at, logits, scratch.data())];
    });
  }
  PYGEN_INLINE void activate(const DenseUnits<Real>& units) const { activate_units<Activation::Relu>(units); }
};

template <class Real>
void draw(const DenseSampling& p) {
  run_dense_network<Real>(p.network, p.threads, *p.interrupt, [&](const DensePlan<Real>& plan) {
    return LevelRule<Real>{p, plan, std::vector<double>(p.num_levels)};
  });
}

}  // namespace

void sampling_dense_draw(const DenseSampling& p) {
  if (p.dtype == DType::Float64) return draw<double>(p);
  draw<float>(p);
}

}  // namespace PYGEN_ISA
}  // namespace pygen
