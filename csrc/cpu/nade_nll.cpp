// The logits of NADE on CPUs, of given inputs and of those that are drawn. Formula: common/nade_nll.h.
// A block of samples keeps its hidden units in the L1 cache, 2 KB a sample of 500, while each row of either weight
// comes by once: N D H multiply-adds; and as a changes only where x is not 0, so do the units: no sigmoid for a black
// pixel. Memory beside the tensors: 8 H bytes a sample of a block.
#include "cpu/nade_nll.h"

#include "cpu/nade_nll_rows.h"
#include "cpu/parallel.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kMostSamples = 16;  // of a block
constexpr int kAbreast = 4;           // samples that share a loaded vector of output_weight

template <class Real>
struct Samples {
  Real *a, *h;     // [kMostSamples, stride]
  int64_t stride;  // H in whole vectors
  int64_t hidden;
};

// logits[i] += row . h of kCount samples from `first` on.
template <int kCount, class Real>
PYGEN_INLINE void products(const Samples<Real>& s, int64_t first, const Real* row, Real* logits) {
  using V = Vector<Real>;
  V sum[kCount] = {};
  const Real* h = s.h + first * s.stride;
  for_each_vector_of_row(row, s.hidden, [&](int64_t j, V v) PYGEN_INLINE_LAMBDA {
    for (int i = 0; i < kCount; ++i) sum[i] = sum[i] + v * load<V>(h + i * s.stride + j);
  });
  Real sums[kCount];
  sum_each(sum, sums);
  for (int i = 0; i < kCount; ++i) logits[i] += sums[i];
}

// The units of one sample after x, which is not 0, was added.
template <class Real>
__attribute__((noinline)) void add_input(const Samples<Real>& s, int64_t sample, Real x, const Real* row) {
  using V = Vector<Real>;
  Real *a = s.a + sample * s.stride, *h = s.h + sample * s.stride;
  for_each_vector_of_row(row, s.hidden, [&](int64_t j, V w) PYGEN_INLINE_LAMBDA {
    const V sum = load<V>(a + j) + w * x;
    store(a + j, sum);
    store(h + j, units_of(sum));
  });
}

template <class Real>
PYGEN_INLINE void start(const Samples<Real>& s, int64_t count, const Real* hidden_bias) {
  using V = Vector<Real>;
  for_each_vector_of_row(hidden_bias, s.hidden, [&](int64_t j, V b) PYGEN_INLINE_LAMBDA {
    const V h = units_of(b);
    for (int64_t i = 0; i < count; ++i) {
      store(s.a + i * s.stride + j, b);
      store(s.h + i * s.stride + j, h);
    }
  });
}

// Samples [first, first + count): decide(sample, d, logit) is told each logit and gives x.
template <class Real, class Decide>
PYGEN_INLINE void block_of_samples(const NadeNll& p, int64_t first, int64_t count, const Decide& decide) {
  const int64_t stride = padded<Real>(p.hidden);
  Real* scratch = thread_scratch<Real, 0>(2 * kMostSamples * stride);
  const Samples<Real> s{scratch, scratch + kMostSamples * stride, stride, p.hidden};
  start(s, count, static_cast<const Real*>(p.hidden_bias));
  const Real* weight = static_cast<const Real*>(p.weight);
  const Real* output_weight = static_cast<const Real*>(p.output_weight);
  const Real* output_bias = static_cast<const Real*>(p.output_bias);
  for (int64_t d = 0; d < p.inputs && !(p.interrupt && p.interrupt->stop()); ++d) {
    Real logits[kMostSamples];
    std::fill_n(logits, count, output_bias[d]);
    int64_t i = 0;
    for (; i + kAbreast <= count; i += kAbreast) products<kAbreast>(s, i, output_weight + d * p.hidden, logits + i);
    for (; i < count; ++i) products<1>(s, i, output_weight + d * p.hidden, logits + i);
    for (i = 0; i < count; ++i) {
      const Real x = decide(first + i, d, logits[i]);
      if (x != 0 && d + 1 < p.inputs) add_input(s, i, x, weight + d * p.hidden);
    }
  }
}

// A sample's numbers do not depend on its block, so that may depend on the threads.
template <class Real, class Decide>
void run(const NadeNll& p, const Decide& decide) {
  const int64_t share = (p.images + p.threads - 1) / p.threads;
  const int64_t size = std::min(kMostSamples, (share + kAbreast - 1) / kAbreast * kAbreast);
  if (size == 0) return;
  const int64_t blocks = (p.images + size - 1) / size;
  const double work = static_cast<double>(size) * p.inputs * p.hidden;
  parallel_blocks(blocks, units_per_thread(4 * work), p.threads, [&](int64_t block) {
    const int64_t first = block * size;
    block_of_samples<Real>(p, first, std::min(size, p.images - first), decide);
  });
}

template <class Real>
void run_forward(const NadeNll& p) {
  const Real* x = static_cast<const Real*>(p.x);
  Real* logits = static_cast<Real*>(p.logits);
  run<Real>(p, [&](int64_t sample, int64_t d, Real logit) PYGEN_INLINE_LAMBDA {
    logits[sample * p.inputs + d] = logit;
    return x[sample * p.inputs + d];
  });
}

template <class Real>
void run_draws(const NadeNll& p, const NadeDraws& draws) {
  run<Real>(p, [&](int64_t sample, int64_t d, Real logit) PYGEN_INLINE_LAMBDA {
    const int64_t at = sample * p.inputs + d;
    const bool is_known = draws.known_mask && draws.known_mask[at];
    const uint8_t level = is_known ? draws.known[at] : -static_cast<double>(logit) < draws.thresholds[at];
    draws.levels[at] = level;
    return static_cast<Real>(level);
  });
}

}  // namespace

void nade_nll_forward(const NadeNll& p) { p.dtype == DType::Float64 ? run_forward<double>(p) : run_forward<float>(p); }
void nade_nll_draw(const NadeNll& p, const NadeDraws& draws) {
  p.dtype == DType::Float64 ? run_draws<double>(p, draws) : run_draws<float>(p, draws);
}

}  // namespace PYGEN_ISA
}  // namespace pygen
