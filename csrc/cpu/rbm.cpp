// Restricted Boltzmann machines on CPUs: free energies and block Gibbs sampling. Formula: pygen/reference/rbm.py.
// A block of images is worked on to its end by one thread: images do not see each other, so a chain of any length has
// no barrier; weights are packed once, both ways round, and stay in the L2 and L3 caches; states and sums of a block
// stay in the L2 cache. No image's numbers depend on its block.
#include "cpu/rbm.h"

#include "common/rbm.h"
#include "cpu/block_io.h"
#include "cpu/noise.h"
#include "cpu/rbm_layer.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kMostTiles = 6;   // of a block
constexpr int64_t kChunk = 256;     // units whose uniforms are made at once
constexpr double kUnitWork = 16.0;  // multiply-adds that a unit's softplus costs, about
constexpr double kDrawWork = 48.0;  // and its noise and decision

template <class Real>
using Vector = std::conditional_t<std::is_same_v<Real, float>, VecF, Real>;
template <class Real>
constexpr int64_t kWidth = sizeof(Vector<Real>) / sizeof(Real);

// body(j, V) for each vector of n units, then each unit.
template <class Real, class Body>
PYGEN_INLINE void for_each_vector(int64_t n, const Body& body) {
  int64_t j = 0;
  for (; j + kWidth<Real> <= n; j += kWidth<Real>) body(j, Vector<Real>{});
  if constexpr (kWidth<Real> != 1)
    for (; j < n; ++j) body(j, Real(0));
}

// Images [first, first + count) of each block, with its workspace; pitches of the larger layer.
template <class Real, class Block>
void for_each_block(const Rbm& p, double work, const Block& block) {
  const int64_t tiles = (p.images + kRows - 1) / kRows;
  if (tiles == 0) return;
  const int64_t turns = (tiles + p.threads * kMostTiles - 1) / (p.threads * kMostTiles);
  const int64_t size = (tiles + p.threads * turns - 1) / (p.threads * turns) * kRows;
  const int64_t blocks = (p.images + size - 1) / size, units = std::max(whole<Real>(p.visible), whole<Real>(p.hidden));
  parallel_blocks(blocks, units_per_thread(work * static_cast<double>(size)), p.threads, [&](int64_t b) {
    Real* memory = thread_scratch<Real, 1>(units * (kRows + size));
    int32_t* places = thread_scratch<int32_t, 2>(units);
    const int64_t first = b * size;
    block(first, std::min(size, p.images - first), Workspace<Real>{memory, places, memory + units * kRows});
  });
}

// Energies

template <class Real>
PYGEN_INLINE Real softplus_sum(const Real* a, int64_t n, Real* units) {
  using V = Vector<Real>;
  V positive{};
  Log1pSum<V> run;
  Real rest = 0;
  double total = 0;
  int64_t added = 0;
  for_each_vector<Real>(n, [&](int64_t j, auto zero) PYGEN_INLINE_LAMBDA {
    using W = decltype(zero);
    const W y = load<W>(a + j), e = exp_minus_abs(y);
    if (units) store(units + j, W(sigmoid_of(y, e)));
    if constexpr (std::is_same_v<W, V>) {
      positive = positive + positive_part(y);
      run.add(e);
      if (++added % Log1pSum<V>::kRun == 0) total += sum_lanes(run.take());
    } else {
      rest += positive_part(y) + log1p_positive(e);
    }
  });
  total += sum_lanes(V(run.take() + positive));
  return static_cast<Real>(total + static_cast<double>(rest));
}

template <class Real>
PYGEN_INLINE Real dot(const Real* x, const Real* y, int64_t n) {
  using V = Vector<Real>;
  V sums{};
  Real rest = 0;
  for_each_vector<Real>(n, [&](int64_t j, auto zero) PYGEN_INLINE_LAMBDA {
    using W = decltype(zero);
    if constexpr (std::is_same_v<W, V>) {
      sums = sums + load<V>(x + j) * load<V>(y + j);
    } else {
      rest += x[j] * y[j];
    }
  });
  return static_cast<Real>(sum_lanes(sums)) + rest;
}

template <class Real, class Pack>
void run_energy(const Rbm& p, const RbmEnergy& out, Pack pack) {
  Real* packed = thread_scratch<Real, 0>(panels_size<Real>(p.hidden, p.visible));
  const Panels<Real> hidden = pack_panels<Real>(p.weight, static_cast<const Real*>(p.hidden_bias), p.hidden, p.visible,
                                                pack, packed, p.threads);
  const int64_t pitch = whole<Real>(p.hidden);
  const auto block = [&](int64_t first, int64_t count, const Workspace<Real>& work) {
    const Real* v = static_cast<const Real*>(p.v) + first * p.visible;
    sum_layer<false>(hidden, v, p.visible, count, work);  // 0 times infinity is NaN, as in any product
    for (int64_t i = 0; i < count; ++i) {
      Real* units = out.units ? static_cast<Real*>(out.units) + (first + i) * p.hidden : nullptr;
      const Real free = softplus_sum(work.sums + i * pitch, p.hidden, units);
      static_cast<Real*>(out.energy)[first + i] =
          -dot(v + i * p.visible, static_cast<const Real*>(p.visible_bias), p.visible) - free;
    }
  };
  for_each_block<Real>(p, static_cast<double>(p.hidden) * (static_cast<double>(p.visible) + kUnitWork), block);
}

// Samples

// states[j] = whether unit j is 1, of an image's half step.
template <class Real>
__attribute__((noinline)) void decide(const RbmDraws& draws, const Real* sums, int64_t units, uint32_t half,
                                      int64_t image, Real* states) {
  alignas(64) float u[kChunk];
  static_assert(kChunk % (4 * kLanes) == 0);  // whole groups
  const Real inverse = static_cast<Real>(draws.inverse_temperature);
  for (int64_t start = 0; start < units; start += kChunk) {
    const int64_t n = std::min(kChunk, units - start);
    fill_uniforms(u, draws.seed, rbm_counter(start, half), (n + 3) / 4, static_cast<uint32_t>(image), NoiseDomain::Rbm);
    for_each_vector<Real>(n, [&](int64_t j, auto zero) PYGEN_INLINE_LAMBDA {
      using W = decltype(zero);
      const W y = load<W>(sums + start + j) * inverse;
      if constexpr (std::is_same_v<Real, float>) {
        store(states + start + j, W(Lanes<W>::select(rbm_unit(y, load<W>(u + j)), W{} + 1.0f, W{})));
      } else {
        states[start + j] = rbm_unit(y, static_cast<double>(u[j])) ? 1.0 : 0.0;
      }
    });
  }
}

template <class Real>
void chain(const RbmDraws& draws, const Rbm& p, const Panels<Real>& hidden, const Panels<Real>& visible, int64_t first,
           int64_t count, const Workspace<Real>& work) {
  Real* h = thread_scratch<Real, 3>(count * (p.hidden + p.visible));
  Real* state = h + count * p.hidden;
  const Real* v = static_cast<const Real*>(p.v) + first * p.visible;
  std::copy_n(v, count * p.visible, state);
  const uint8_t* known = draws.known_mask ? draws.known_mask + first * p.visible : nullptr;
  const auto half_step = [&](const Panels<Real>& layer, const Real* from, Real* to, int64_t half) {
    sum_layer<true>(layer, from, layer.sources, count, work);
    for (int64_t i = 0; i < count; ++i)
      decide(draws, work.sums + i * whole<Real>(layer.targets), layer.targets, static_cast<uint32_t>(half), first + i,
             to + i * layer.targets);
  };
  for (int64_t step = 0; step < draws.steps && !draws.interrupt->stop(); ++step) {
    half_step(hidden, state, h, 2 * step);
    half_step(visible, h, state, 2 * step + 1);
    if (known)
      for (int64_t i = 0; i < count * p.visible; ++i) state[i] = known[i] ? v[i] : state[i];
  }
  for (int64_t i = 0; i < count * p.visible; ++i) draws.state[first * p.visible + i] = state[i] != 0;
  for (int64_t i = 0; i < count * p.hidden; ++i) draws.units[first * p.hidden + i] = h[i] != 0;
}

template <class Real, class Pack>
void run_draws(const Rbm& p, const RbmDraws& draws, Pack pack) {
  const int64_t to_hidden = panels_size<Real>(p.hidden, p.visible);
  Real* packed = thread_scratch<Real, 0>(to_hidden + panels_size<Real>(p.visible, p.hidden));
  const Panels<Real> hidden = pack_panels<Real>(p.weight, static_cast<const Real*>(p.hidden_bias), p.hidden, p.visible,
                                                pack, packed, p.threads);
  const Matrix turned{p.weight.data, {p.weight.strides[1], p.weight.strides[0]}};
  const Panels<Real> visible = pack_panels<Real>(turned, static_cast<const Real*>(p.visible_bias), p.visible, p.hidden,
                                                 pack, packed + to_hidden, p.threads);
  const double sums = static_cast<double>(p.hidden) * static_cast<double>(p.visible);
  const double work =
      (2 * sums + kDrawWork * static_cast<double>(p.hidden + p.visible)) * static_cast<double>(draws.steps);
  for_each_block<Real>(p, work, [&](int64_t first, int64_t count, const Workspace<Real>& space) {
    chain(draws, p, hidden, visible, first, count, space);
  });
}

}  // namespace

void rbm_free_energy(const Rbm& p, const RbmEnergy& out) {
  PYGEN_BY_DTYPE(p.dtype, (run_energy<Real>(p, out, pack<kWide<Real>, T, Real>)))
}
void rbm_gibbs(const Rbm& p, const RbmDraws& draws) {
  PYGEN_BY_DTYPE(p.dtype, (run_draws<Real>(p, draws, pack<kWide<Real>, T, Real>)))
}

}  // namespace PYGEN_ISA
}  // namespace pygen
