// bernoulli_sample on CPUs. Formula: common/bernoulli_sample.h. Traffic: T + 1 bytes a draw, T of a logit.
#include "cpu/bernoulli_sample.h"

#include "common/bernoulli_sample.h"
#include "cpu/block_io.h"
#include "cpu/draw_blocks.h"
#include "cpu/parallel.h"
#include "cpu/thread_memory.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kDraws = 1024;               // of a block
constexpr int64_t kDrawsPerThread = 16 << 10;  // about 20 us

template <class Real>
struct Scratch {
  alignas(64) Real logit[kDraws], number[kDraws];
  alignas(64) float u[DrawBlocks::room(kDraws)];
};

template <class T, class Real>
__attribute__((noinline)) void draw_row(const T* logits, int64_t step, const float* u, int64_t u_step, int64_t count,
                                        Real inverse, uint8_t* x, int64_t x_step, Scratch<Real>& s) {
  if (step == 1) {
    widen_run(logits, s.logit, count);
  } else {
    for (int64_t i = 0; i < count; ++i) s.logit[i] = widen(logits[i * step]);
  }
  for (int64_t i = 0; i < count; ++i) s.number[i] = static_cast<Real>(u[i * u_step]);
  for_each_vector<Real>(count, [&](int64_t i, auto zero) PYGEN_INLINE_LAMBDA {
    using V = decltype(zero);
    store(s.logit + i, bernoulli_draw(V(load<V>(s.logit + i) * inverse), load<V>(s.number + i)));
  });
  store_levels(s.logit, count, false, x, 0, x_step);
}

template <class T, class Real>
void run(const BernoulliSample& p) {
  const DrawBlocks blocks(p.images, p.positions, p.channels, kDraws);
  const Real inverse = static_cast<Real>(p.inverse_temperature);
  parallel_blocks(blocks.count(), kDrawsPerThread / kDraws, p.threads, [&](int64_t block) {
    Scratch<Real>& s = of_thread<Scratch<Real>>();
    const DrawBlock b = blocks.at(block);
    const float* u = fill_draws(blocks, b, p.seed, NoiseDomain::BernoulliSample, s.u);
    const DrawAxes axes(blocks, b, p.logits, p.logits.channel, p.x);
    const T* in = static_cast<const T*>(p.logits.data) + axes.params;
    axes.for_each_row([&](int64_t params, int64_t x, int64_t draw) {
      draw_row<T, Real>(in + params, axes.inner.params, u + draw, axes.inner.draw, axes.inner.size, inverse,
                        static_cast<uint8_t*>(p.x.data) + axes.x + x, axes.inner.x, s);
    });
  });
}

}  // namespace

void bernoulli_sample(const BernoulliSample& p) { PYGEN_BY_DTYPE(p.dtype, (run<T, Real>(p))) }

}  // namespace PYGEN_ISA
}  // namespace pygen
