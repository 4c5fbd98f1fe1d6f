// logistic_mixture_sample on CPUs. Formula: common/logistic_mixture_sample.h.
// Traffic: of a pixel K logits of T bytes, and the drawn component's other numbers, wherever they lie. K exponentials
// and, for each channel, one more, a logarithm and, for a coefficient, a tanh.
#include "cpu/logistic_mixture_sample.h"

#include "common/logistic_mixture_sample.h"
#include "cpu/draw_blocks.h"
#include "cpu/draw_stripe.h"
#include "cpu/parallel.h"
#include "cpu/thread_memory.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kNumbers = 2048;  // of a block: a pixel has one for its component and one for each channel
constexpr int64_t kParamsPerThread = 16 << 10;  // about 10 us

template <class Real>
struct Scratch : StripeScratch<Real> {
  alignas(64) float u[DrawBlocks::room(kNumbers)];
  alignas(64) Real number[64], own[9][64], scaled[3][64];  // own: of a channel mean, log scale and coefficient
};

// Pixels side by side, at most kVectors vectors of them.
template <class T, class Real, int kVectors>
__attribute__((noinline)) void draw_pixels(const LogisticMixtureSample& p, const T* params, int64_t step,
                                           const float* u, int64_t u_step, int64_t count, int64_t x, int64_t x_step,
                                           Scratch<Real>& s) {
  using V = Vector<Real>;
  constexpr int64_t kW = kWidth<Real>, kRow = kVectors * kW;
  const StripeChoice<Real> choice{p.components, p.params.channel, static_cast<Real>(p.inverse_temperature)};
  draw_stripe<T, Real, kVectors>(choice, params, step, u, u_step, count, s);
  const int64_t parts = p.channels == 1 ? 2 : 3, kinds = parts * p.channels;
  for (int64_t i = 0; i < count; ++i) {
    const T* own = params + i * step + static_cast<int64_t>(s.level[i]) * p.params.channel;
    for (int64_t kind = 0; kind < kinds; ++kind)
      s.own[kind][i] = widen(own[(1 + kind) * p.components * p.params.channel]);
  }
  const Real last = static_cast<Real>(p.num_levels - 1), least = static_cast<Real>(p.min_log_scale);
  const Real log_temperature = static_cast<Real>(p.log_temperature);
  for (int64_t c = 0; c < p.channels; ++c) {
    for (int64_t i = 0; i < count; ++i) s.number[i] = static_cast<Real>(u[i * u_step + 1 + c]);
    for (int64_t at = 0; at < kRow; at += kW) {
      V mean = load<V>(s.own[parts * c] + at), slope;
      // Green's coefficient lies with red, blue's with green and blue.
      for (int64_t before = 0; before < c; ++before)
        mean =
            mean + tanh_of(load<V>(s.own[parts * (c - 1 + before) + 2] + at), slope) * load<V>(s.scaled[before] + at);
      const V log_scale = Lanes<V>::at_least(load<V>(s.own[parts * c + 1] + at), least) + log_temperature;
      const V drawn = logistic_level(mean, log_scale, load<V>(s.number + at), last);
      const V level = Lanes<V>::select(load<V>(s.sum + at) > Real(0), drawn, V{});
      store(s.level + at, level);
      store(s.scaled[c] + at, scaled_level_of(level, last));
    }
    store_levels(s.level, count, p.wide_levels, p.x.data, x + c * p.x.channel, x_step);
  }
}

template <class T, class Real>
void run(const LogisticMixtureSample& p) {
  constexpr int64_t kWide = 4 * kWidth<Real>, kOne = kWidth<Real>;
  const DrawBlocks blocks(p.images, p.positions, 1 + p.channels, kNumbers);
  const int64_t per_thread = std::max<int64_t>(1, kParamsPerThread / (kNumbers * p.components));
  parallel_blocks(blocks.count(), per_thread, p.threads, [&](int64_t block) {
    Scratch<Real>& s = of_thread<Scratch<Real>>();
    DrawBlock b = blocks.at(block);
    const float* u = fill_draws(blocks, b, p.seed, NoiseDomain::LogisticMixtureSample, s.u);
    b.channels = 1;  // the pixel
    const DrawAxes axes(blocks, b, p.params, 0, p.x);
    const DrawAxis& inner = axes.inner;
    axes.for_each_row([&](int64_t params, int64_t x, int64_t draw) {
      const T* row = static_cast<const T*>(p.params.data) + axes.params + params;
      for (int64_t i = 0; i < inner.size;) {
        const int64_t left = inner.size - i;
        const bool wide = left > kOne && p.components <= kWideTileLevels;
        const int64_t count = std::min(left, wide ? kWide : kOne), at = axes.x + x + i * inner.x;
        const float* numbers = u + draw + i * inner.draw;
        const T* from = row + i * inner.params;
        if (wide) {
          draw_pixels<T, Real, 4>(p, from, inner.params, numbers, inner.draw, count, at, inner.x, s);
        } else {
          draw_pixels<T, Real, 1>(p, from, inner.params, numbers, inner.draw, count, at, inner.x, s);
        }
        i += count;
      }
    });
  });
}

}  // namespace

void logistic_mixture_sample(const LogisticMixtureSample& p) { PYGEN_BY_DTYPE(p.dtype, (run<T, Real>(p))) }

}  // namespace PYGEN_ISA
}  // namespace pygen
