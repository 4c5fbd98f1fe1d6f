// The gradients of the linear-chain CRF on CPUs, from the states that forward kept. Formulas: common/crf.h.
// Traffic of a step and sequence: 4 K for the state and K T for the emissions are read, K T written. Work: K^2
// multiply-adds for v and K^2 for the transitions' gradient, which takes some steps at once, sums in registers.
#include <cmath>

#include "cpu/crf.h"
#include "cpu/crf_pairs.h"
#include "cpu/parallel.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kChunkRows = 1024;  // of u, steps times tags: 64 KB in float
constexpr int64_t kMostSteps = 64;    // of a chunk

// What a group of blocks adds up. `pairs` is still to be multiplied by the matrix of scaled sums; `counts`, `start` and
// `end` hold what the tags take off.
template <class Real>
struct Sums {
  Real *pairs, *counts, *start, *end;  // [K, K], [K, K], [K], [K]

  Sums(const CrfBackward& p, int64_t group) {
    const int64_t k = p.tags, size = (2 * k + 2) * k;
    pairs = p.sums ? static_cast<Real*>(p.sums) + group * size : nullptr;
    counts = pairs ? pairs + k * k : nullptr;
    start = pairs ? counts + k * k : nullptr;
    end = pairs ? start + k : nullptr;
    if (pairs) std::fill_n(pairs, size, Real(0));
  }
};

template <class Real>
struct Work {
  Real *v, *u, *emissions, *chance, *live, *g, *one, *chunk;
  int64_t chunk_steps;

  explicit Work(int64_t k) : chunk_steps(std::clamp<int64_t>(kChunkRows / k, 4, kMostSteps)) {
    const int64_t tile = k * kS, apart = tile + kS;  // not by powers of two, which share sets of the caches
    v = thread_scratch<Real, 1>((4 + chunk_steps) * apart + 3 * kS);
    u = v + apart;
    emissions = u + apart;
    chance = emissions + apart;
    live = chance + apart;
    g = live + kS;
    one = g + kS;
    chunk = one + kS;
    std::fill_n(emissions, tile, Real(0));
  }
};

// v of each sequence's last step: by what its last state comes to.
template <class Real>
PYGEN_INLINE void last_step(const CrfMatrices<Real>& m, int64_t k, const Real* a, Work<Real>& w) {
  using V = Vector<Real>;
  constexpr Real kNone = -std::numeric_limits<Real>::infinity();
  finish_chain(m, k, a, w.one);
  along_row<Real>([&](int64_t v) PYGEN_INLINE_LAMBDA {
    const V sum = load<V>(w.one + v);
    for (int64_t j = 0; j < k; ++j) {
      const Real end = m.last[static_cast<size_t>(j)];
      const V of = m.logarithms ? Lanes<V>::select(sum == kNone, V{} + kNone, V(end - sum))
                                : Lanes<V>::select(sum == Real(0), V{}, V((V{} + end) / sum));
      store(w.v + j * kS + v, of);
    }
  });
}

// The chances of the step's tags, 0 of sequences that have ended, and u for the step before. They sum to 1, but for the
// rounding of all steps so far, which is taken off here.
template <class Real>
PYGEN_INLINE void step_back(const CrfMatrices<Real>& m, int64_t k, const Real* a, bool all, Real* chunk,
                            Work<Real>& w) {
  using V = Vector<Real>;
  constexpr Real kNone = -std::numeric_limits<Real>::infinity();
  along_row<Real>([&](int64_t v) PYGEN_INLINE_LAMBDA {
    const V scale = load<V>(a + k * kS + v), g = load<V>(w.g + v);
    const auto on = load<V>(w.live + v) == Real(1);
    V sum{};
    for (int64_t j = 0; j < k; ++j) {
      const V state = load<V>(a + j * kS + v), x = load<V>(w.v + j * kS + v);
      const V chance = m.logarithms ? exp_minus(V(-(state + x))) : V(state * x);
      sum = sum + chance;
      store(w.chance + j * kS + v, chance);
    }
    sum = Lanes<V>::select(sum == Real(0), V{} + Real(1), sum);
    const V inverse = Real(1) / sum;
    const V offset = m.logarithms ? V(scale + crf_log(sum)) : scale;
    for (int64_t j = 0; j < k; ++j) {
      const V x = load<V>(w.v + j * kS + v), e = load<V>(w.emissions + j * kS + v);
      V chance = load<V>(w.chance + j * kS + v) * inverse;
      V u = m.logarithms ? V(x + (e - offset)) : V(x * inverse * crf_factor(V(offset - e)));
      if (!all) {
        chance = Lanes<V>::select(on, chance, V{});
        u = Lanes<V>::select(on, u, V{} + (m.logarithms ? kNone : Real(0)));
      }
      store(w.chance + j * kS + v, chance);
      store(w.u + j * kS + v, u);
      if (chunk) store(chunk + j * kS + v, m.logarithms ? u : V(u * g));
    }
  });
}

// g times the chances less the tags' own, into the emissions' gradient; and what the tags take off the other sums.
template <class Real>
__attribute__((noinline)) void write_step(const CrfBackward& p, const CrfBlock& b, int64_t t, Work<Real>& w,
                                          const Sums<Real>& s) {
  const int64_t k = p.tags;
  for (int64_t i = 0; i < b.count; ++i) {
    const bool inside = t < b.length[i];
    const Real g = w.g[i];
    const int64_t* labels = p.labels ? p.labels + (b.first + i) * p.steps + t : nullptr;
    const auto valid = [&](int64_t y) { return y >= 0 && y < k; };
    if (inside && labels && valid(*labels)) {
      w.chance[*labels * kS + i] -= Real(1);
      if (s.pairs && t > 0 && valid(labels[-1])) s.counts[labels[-1] * k + *labels] -= g;
    }
    if (inside && s.pairs && t == 0)
      for (int64_t j = 0; j < k; ++j) s.start[j] += g * w.chance[j * kS + i];
    if (inside && s.pairs && t + 1 == b.length[i])
      for (int64_t j = 0; j < k; ++j) s.end[j] += g * w.chance[j * kS + i];
    if (!p.grad_emissions.data) continue;
    const Positions& to = p.grad_emissions;
    by_stored<Real>(p.dtype, [&](auto zero) PYGEN_INLINE_LAMBDA {
      using T = decltype(zero);
      T* out = static_cast<T*>(to.data) + (b.first + i) * to.image + t * to.channel;
      for (int64_t j = 0; j < k; ++j) narrow(inside ? g * w.chance[j * kS + i] : Real(0), out + j * to.position);
    });
  }
}

PYGEN_INLINE bool has_wrong_tag(const Crf& p, const CrfBlock& b, int64_t i) {
  bool wrong = false;
  for (int64_t t = 0; p.labels && i < b.count && t < b.length[i]; ++t) {
    const int64_t y = p.labels[(b.first + i) * p.steps + t];
    wrong |= y < 0 || y >= p.tags;
  }
  return wrong;
}

template <class Real>
void backward_block(const CrfBackward& p, const CrfMatrices<Real>& m, int64_t block, const Sums<Real>& s) {
  using V = Vector<Real>;
  const CrfBlock b(p, block);
  const int64_t k = p.tags, tile = k * kS;
  Work<Real> w(k);
  for (int64_t i = 0; i < kS; ++i) {
    const auto at = [&]() { return static_cast<const Real*>(p.grad)[(b.first + i) * p.grad_stride]; };
    w.g[i] = i < b.count ? at() * static_cast<Real>(p.scale) : Real(0);
    if (b.wrong[i] || has_wrong_tag(p, b, i)) w.g[i] = std::numeric_limits<Real>::quiet_NaN();
  }
  const Real* states = static_cast<const Real*>(p.kept) + block * p.steps * p.pitch();
  std::fill_n(w.chance, tile, Real(0));
  for (int64_t t = p.steps - 1; t >= b.most && p.grad_emissions.data; --t) write_step(p, b, t, w, s);
  if (b.most == 0) return;
  last_step(m, k, states + (b.most - 1) * p.pitch(), w);
  int64_t held = 0;  // steps in the chunk
  for (int64_t t = b.most - 1; t >= 0; --t) {
    const bool all = t < b.least;
    read_step(p, b, t, w.emissions);
    b.live_at(t, w.live);
    step_back(m, k, states + t * p.pitch(), all, s.pairs ? w.chunk + held * p.pitch() : nullptr, w);
    write_step(p, b, t, w, s);
    if (t == 0) break;
    if (s.pairs && (++held == w.chunk_steps || t == 1)) {
      const Real* before = states + (t + held - 2) * p.pitch();  // of the chunk's first step
      if (m.logarithms) {
        add_log_pairs(before, p.pitch(), w.chunk, held, k, m.to.data(), w.g, s.pairs);
      } else {
        add_pairs(before, p.pitch(), w.chunk, held, k, s.pairs);
      }
      held = 0;
    }
    against_chain(m, k, w.u, w.chance);
    if (all) {
      std::swap(w.v, w.chance);
      continue;
    }
    along_row<Real>([&](int64_t v) PYGEN_INLINE_LAMBDA {
      const auto on = load<V>(w.live + v) == Real(1);
      for (int64_t at = v; at < tile; at += kS)
        store(w.v + at, V(Lanes<V>::select(on, load<V>(w.chance + at), load<V>(w.v + at))));
    });
  }
}

template <class Real>
void finish_sums(const CrfBackward& p, const CrfMatrices<Real>& m, int64_t groups) {
  const int64_t k = p.tags, size = (2 * k + 2) * k;
  const Real* sums = static_cast<const Real*>(p.sums);
  const auto total = [&](int64_t at) {
    double sum = 0;
    for (int64_t group = 0; group < groups; ++group) sum += static_cast<double>(sums[group * size + at]);
    return sum;
  };
  for (int64_t i = 0; i < k * k; ++i) {
    const double factor = m.logarithms ? 1.0 : static_cast<double>(m.to[static_cast<size_t>(i)]);
    static_cast<Real*>(p.grad_transitions)[i] = static_cast<Real>(factor * total(i) + total(k * k + i));
  }
  for (int64_t j = 0; j < k; ++j) {
    static_cast<Real*>(p.grad_start)[j] = static_cast<Real>(total(2 * k * k + j));
    static_cast<Real*>(p.grad_end)[j] = static_cast<Real>(total(2 * k * k + k + j));
  }
}

template <class Real>
void run_backward(const CrfBackward& p) {
  const CrfMatrices<Real> m(p);
  const int64_t groups = p.steps ? p.groups() : 0, blocks = p.blocks();
  const double work = static_cast<double>(2 * kS * p.steps * p.tags * p.tags) * (m.logarithms ? 16 : 1);
  parallel_blocks(groups, units_per_thread(work), p.threads, [&](int64_t group) {
    const Sums<Real> sums(p, group);
    for (int64_t block = group * blocks / groups; block < (group + 1) * blocks / groups; ++block)
      backward_block<Real>(p, m, block, sums);
  });
  if (p.sums) finish_sums<Real>(p, m, groups);
}

}  // namespace

void crf_backward(const CrfBackward& p) {
  p.dtype == DType::Float64 ? run_backward<double>(p) : run_backward<float>(p);
}

}  // namespace PYGEN_ISA
}  // namespace pygen
