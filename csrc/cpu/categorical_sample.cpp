// categorical_sample on CPUs. Formula: pygen/reference/categorical_sample.py.
// Traffic: logits are read once (L T bytes a draw), more of them than a tile holds three times. In cache they become
// the running sums of their exponentials, and a level is how many of these do not reach the uniform number.
#include "cpu/categorical_sample.h"

#include <limits>

#include "cpu/draw_blocks.h"
#include "cpu/draw_stripe.h"
#include "cpu/parallel.h"
#include "cpu/thread_memory.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kDraws = 1024, kFewDraws = 64;  // of a block; few, where each has many levels
constexpr int64_t kManyLevels = 1024;
constexpr int64_t kLogitsPerThread = 16 << 10;  // about 10 us
constexpr int64_t kLeastAlong = 32;             // levels side by side; fewer are turned
constexpr int64_t kMostChunks = (int64_t{1} << 24) / kTile;

template <class Real>
struct Scratch : StripeScratch<Real> {
  alignas(64) float u[DrawBlocks::room(kDraws)];
  Real group[kTile / kChain], chunk[kMostChunks];
};
template <class Real>
Scratch<Real>& scratch() {
  return of_thread<Scratch<Real>>();
}

// The level of one draw whose logits lie side by side: the group of levels whose sums reach the number, then in it.
template <class T, class Real>
__attribute__((noinline)) int64_t along(const CategoricalSample& p, const T* in, float u, Scratch<Real>& s) {
  using V = Vector<Real>;
  constexpr int64_t kW = kWidth<Real>;
  static_assert(kChain % (2 * kW) == 0);
  const int64_t chunks = (p.levels + kTile - 1) / kTile;
  const Real inverse = static_cast<Real>(p.inverse_temperature);
  const auto size = [&](int64_t chunk) { return std::min(kTile, p.levels - chunk * kTile); };
  const auto read = [&](int64_t chunk) PYGEN_INLINE_LAMBDA {
    const T* from = in + chunk * kTile;
    return fill_tile<Real>(
        s.tile, size(chunk), [&](int64_t j) PYGEN_INLINE_LAMBDA { return load_as<V>(from + j); },
        [&](int64_t j) PYGEN_INLINE_LAMBDA { return widen(from[j]); });
  };
  Real top = -Lanes<Real>::kMax;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) top = std::max(top, read(chunk));
  const auto exponentials = [&](int64_t chunk) PYGEN_INLINE_LAMBDA {  // and the groups' sums; returns the chunk's
    Real total = 0;
    for (int64_t first = 0; first < size(chunk); first += kChain) {
      V sum[2] = {};
      for (int64_t j = first; j < std::min(first + kChain, size(chunk)); j += 2 * kW) {
        for (int v = 0; v < 2; ++v) {
          const V e = exp_minus(V((top - load<V>(s.tile + j + v * kW)) * inverse));
          store(s.tile + j + v * kW, e);
          sum[v] = sum[v] + e;
        }
      }
      total += s.group[first / kChain] = static_cast<Real>(sum_lanes(V(sum[0] + sum[1])));
    }
    return total;
  };
  Real total = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    if (chunks > 1) read(chunk);
    total += s.chunk[chunk] = exponentials(chunk);
  }
  const Real wanted = static_cast<Real>(u) * total;
  if (!(wanted > 0)) return 0;
  // The first that reaches it; rounding may leave the last one above 0 short of it.
  const auto first_of = [&](const Real* sums, int64_t count, Real& before) {
    int64_t last = 0;
    Real before_last = before;
    for (int64_t i = 0; i < count; ++i) {
      const Real sum = before + sums[i];
      if (sums[i] > 0) {
        last = i;
        before_last = before;
        if (sum >= wanted) break;
      }
      before = sum;
    }
    before = before_last;
    return last;
  };
  Real before = 0;
  const int64_t chunk = first_of(s.chunk, chunks, before);
  if (chunks > 1) {
    read(chunk);
    exponentials(chunk);
  }
  const int64_t group = first_of(s.group, (size(chunk) + kChain - 1) / kChain, before);
  const int64_t start = group * kChain, count = std::min(kChain, size(chunk) - start);
  return chunk * kTile + start + first_of(s.tile + start, count, before);
}

template <class T, class Real>
PYGEN_INLINE void draw_block(const CategoricalSample& p, const DrawBlocks& blocks, const DrawBlock& b,
                             Scratch<Real>& s) {
  constexpr int64_t kWide = 4 * kWidth<Real>, kOne = kWidth<Real>;
  const float* u = fill_draws(blocks, b, p.seed, NoiseDomain::CategoricalSample, s.u);
  const DrawAxes axes(blocks, b, p.logits, p.levels * p.logits.channel, p.x);
  const DrawAxis& inner = axes.inner;
  const StripeChoice<Real> choice{p.levels, p.logits.channel, static_cast<Real>(p.inverse_temperature)};
  const bool is_along = p.logits.channel == 1 && inner.params != 1 && p.levels >= kLeastAlong;
  axes.for_each_row([&](int64_t params, int64_t x, int64_t draw) {
    const T* row = static_cast<const T*>(p.logits.data) + axes.params + params;
    for (int64_t i = 0; i < inner.size;) {
      const int64_t left = inner.size - i;
      const bool wide = left > kOne && p.levels <= kWideTileLevels;
      const int64_t count = is_along ? 1 : std::min(left, wide ? kWide : kOne);
      const T* from = row + i * inner.params;
      const float* numbers = u + draw + i * inner.draw;
      if (is_along) {
        s.level[0] = static_cast<Real>(along<T, Real>(p, from, *numbers, s));
      } else if (wide) {
        draw_stripe<T, Real, 4>(choice, from, inner.params, numbers, inner.draw, count, s);
      } else {
        draw_stripe<T, Real, 1>(choice, from, inner.params, numbers, inner.draw, count, s);
      }
      store_levels(s.level, count, p.wide_levels, p.x.data, axes.x + x + i * inner.x, inner.x);
      i += count;
    }
  });
}

template <class T, class Real>
void run(const CategoricalSample& p) {
  const int64_t most = p.levels >= kManyLevels ? kFewDraws : kDraws;
  const DrawBlocks blocks(p.images, p.positions, p.channels, most);
  const int64_t per_thread = std::max<int64_t>(1, kLogitsPerThread / (most * p.levels));
  parallel_blocks(blocks.count(), per_thread, p.threads,
                  [&](int64_t block) { draw_block<T, Real>(p, blocks, blocks.at(block), scratch<Real>()); });
}

}  // namespace

void categorical_sample(const CategoricalSample& p) { PYGEN_BY_DTYPE(p.dtype, (run<T, Real>(p))) }

}  // namespace PYGEN_ISA
}  // namespace pygen
