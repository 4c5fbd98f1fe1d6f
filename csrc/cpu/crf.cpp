// The linear-chain CRF on CPUs, forwards. Formulas: pygen/reference/crf.py, common/crf.h.
// Traffic of a step and sequence, K tags of T bytes: K T are read, and for backward 4 K (8 K) written. Work: K^2
// multiply-adds, or with logarithms K^2 exponentials, of 16 sequences side by side; the matrix, K^2 numbers, stays in
// the first caches up to K = 64.
#include "cpu/crf.h"

#include <cmath>

#include "cpu/crf_tile.h"
#include "cpu/parallel.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

// q of scaled sums -> the state, and M.
template <class Real>
PYGEN_INLINE void scale_state(const Step<Real>& s, int64_t k, const Real* q, const Real* start) {
  using V = Vector<Real>;
  along_row<Real>([&](int64_t v) PYGEN_INLINE_LAMBDA {
    V most = V{} - Lanes<V>::kMax;
    for (int64_t j = 0; j < k; ++j) {
      const V e = load<V>(s.emissions + j * kS + v);
      most = larger(q ? V(e + rough_log(load<V>(q + j * kS + v))) : V(e + start[j]), most);
    }
    store(s.m + v, most);
    for (int64_t j = 0; j < k; ++j) {
      const V e = load<V>(s.emissions + j * kS + v);
      V p = q ? V(load<V>(q + j * kS + v) * crf_factor(V(most - e))) : crf_factor(V(most - (e + start[j])));
      if (!s.all) p = Lanes<V>::select(load<V>(s.live + v) == Real(1), p, load<V>(s.before + j * kS + v));
      store(s.now + j * kS + v, p);
    }
  });
}

// Of one sequence's tags; NaN where one is none.
template <class Real>
double score(const Crf& p, const CrfMatrices<Real>& m, int64_t n, int64_t length) {
  const int64_t* labels = p.labels + n * p.steps;
  const Real* a = static_cast<const Real*>(p.transitions);
  double sum = 0;
  by_stored<Real>(p.dtype, [&](auto zero) PYGEN_INLINE_LAMBDA {
    using T = decltype(zero);
    const T* in = static_cast<const T*>(p.emissions.data) + n * p.emissions.image;
    for (int64_t t = 0, before = 0; t < length; ++t) {
      const int64_t y = labels[t];
      if (y < 0 || y >= p.tags) {
        sum = std::numeric_limits<double>::quiet_NaN();
        return;
      }
      sum += static_cast<double>(widen(in[t * p.emissions.channel + y * p.emissions.position]));
      sum += static_cast<double>(t ? a[before * p.tags + y] : m.start[static_cast<size_t>(y)]);
      before = y;
      if (t + 1 == length) sum += static_cast<double>(m.end[static_cast<size_t>(y)]);
    }
  });
  return sum;
}

template <class Real>
void forward_block(const CrfForward& p, const CrfMatrices<Real>& m, int64_t block, double* nll) {
  const CrfBlock b(p, block);
  const int64_t k = p.tags, tile = k * kS;
  Real* scratch = thread_scratch<Real, 0>(3 * p.pitch() + 4 * kS);
  Real *q = scratch, *emissions = q + p.pitch(), *state = emissions + p.pitch(), *live = state + tile,
       *scale = live + kS;
  Real* kept = p.kept ? static_cast<Real*>(p.kept) + block * p.steps * p.pitch() : nullptr;
  std::fill_n(emissions, tile, Real(0));
  std::fill_n(state, tile, Real(0));
  double total[kS] = {};
  for (int64_t t = 0; t < b.most; ++t) {
    read_step(p, b, t, emissions);
    b.live_at(t, live);
    Real* now = kept ? kept + t * p.pitch() : state;
    const Step<Real> step{state, emissions, live, t < b.least, now, kept ? now + tile : scale};
    if (t) along_chain(m, k, state, q);
    (m.logarithms ? shift_state<Real> : scale_state<Real>)(step, k, t ? q : nullptr, m.start.data());
    for (int64_t i = 0; i < kS; ++i)
      total[i] += t < b.length[i] ? static_cast<double>(step.m[i]) + static_cast<double>(t ? m.shift : 0) : 0.0;
    state = now;
  }
  if (!nll) return;
  finish_chain(m, k, state, q);
  for (int64_t i = 0; i < b.count; ++i) {
    const double sum = static_cast<double>(q[i]);
    double z = total[i] + (m.logarithms ? sum : static_cast<double>(m.last_shift) + std::log(sum));
    if (b.length[i] == 0) z = 0;
    if (p.labels) {
      const double own = score(p, m, b.first + i, b.length[i]);
      z = own == -std::numeric_limits<double>::infinity() && z == own ? -own : z - own;
    }
    nll[b.first + i] = b.wrong[i] ? std::numeric_limits<double>::quiet_NaN() : z;
  }
}

template <class Real>
void run_forward(const CrfForward& p) {
  std::vector<double> nll(p.nll ? static_cast<size_t>(p.sequences) : 0);
  if (p.sequences > 0 && p.steps > 0) {
    const CrfMatrices<Real> m(p);
    const double work = static_cast<double>(kS * p.steps * p.tags * p.tags) * (m.logarithms ? 16 : 1);
    parallel_blocks(p.blocks(), units_per_thread(work), p.threads,
                    [&](int64_t block) { forward_block<Real>(p, m, block, p.nll ? nll.data() : nullptr); });
  } else if (p.lengths) {
    for (int64_t n = 0; n < p.sequences && p.nll; ++n)
      if (p.lengths[n] != 0) nll[static_cast<size_t>(n)] = std::numeric_limits<double>::quiet_NaN();
  }
  if (!p.nll) return;
  Real* out = static_cast<Real*>(p.nll);
  if (!p.reduce) {
    for (int64_t n = 0; n < p.sequences; ++n) out[n] = static_cast<Real>(nll[static_cast<size_t>(n)]);
    return;
  }
  double sum = 0;
  for (const double one : nll) sum += one;
  *out = static_cast<Real>(sum * p.scale);
}

}  // namespace

void crf_forward(const CrfForward& p) { p.dtype == DType::Float64 ? run_forward<double>(p) : run_forward<float>(p); }

}  // namespace PYGEN_ISA
}  // namespace pygen
