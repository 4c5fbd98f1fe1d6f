// The likeliest tags of the linear-chain CRF on CPUs (Viterbi).
// Forwards, K^2 additions and maxima of 16 sequences side by side; no way back is kept, as on the way back itself K
// additions a step and sequence find it again, from the same numbers.
// All backends round alike: a sum of two numbers, their maximum, another sum of two, less the largest of these.
#include <cmath>

#include "cpu/crf.h"
#include "cpu/crf_tile.h"
#include "cpu/parallel.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

PYGEN_INLINE RegF most_of(RegF x, RegF y) { return at_least_register(x, y); }
PYGEN_INLINE Reg<double> most_of(Reg<double> x, Reg<double> y) { return x > y ? x : y; }

// out[j] = max_i in[i] + a[i, j] for C columns j.
template <int C, class Real>
PYGEN_INLINE void best_columns(const Real* a, int64_t k, const Real* in, Real* out) {
  using R = Reg<Real>;
  R best[C][kRegs<Real>];
  for (auto& row : best)
    for (R& one : row) one = R{} - std::numeric_limits<Real>::infinity();
  for (int64_t i = 0; i < k; ++i) {
    PYGEN_UNROLL
    for (int r = 0; r < kRegs<Real>; ++r) {
      const R x = load<R>(in + i * kS + r * kRegLanes<Real>);
      PYGEN_UNROLL
      for (int c = 0; c < C; ++c) best[c][r] = most_of(R(x + a[i * k + c]), best[c][r]);
    }
  }
  for (int c = 0; c < C; ++c)
    for (int r = 0; r < kRegs<Real>; ++r) store(out + c * kS + r * kRegLanes<Real>, best[c][r]);
}
template <class Real>
__attribute__((noinline)) void best_product(const Real* a, int64_t k, const Real* in, Real* out) {
  by_columns<8 / kRegs<Real>>(
      k, [&](int64_t j, auto c) PYGEN_INLINE_LAMBDA { best_columns<c()>(a + j, k, in, out + j * kS); });
}

// s of step t into `states`, in place of kept; all backends round alike: sums of two numbers, and maxima.
template <class Real>
void decode_block(const CrfDecode& p, const CrfMatrices<Real>& m, int64_t block) {
  const CrfBlock b(p, block);
  const int64_t k = p.tags, tile = k * kS;
  const Real* a = static_cast<const Real*>(p.transitions);
  Real* emissions = thread_scratch<Real, 0>(2 * p.pitch() + kS);
  Real *q = emissions + p.pitch(), *live = q + tile;
  Real* states = static_cast<Real*>(p.kept) + block * p.steps * p.pitch();
  std::fill_n(emissions, tile, Real(0));
  double total[kS] = {};
  for (int64_t t = 0; t < b.most; ++t) {
    read_step(p, b, t, emissions);
    b.live_at(t, live);
    const Real* before = states + (t - 1) * p.pitch();
    if (t) best_product(a, k, before, q);
    Real* now = states + t * p.pitch();
    const Step<Real> step{t ? before : emissions, emissions, live, t < b.least, now, now + tile};
    shift_state(step, k, t ? q : nullptr, m.start.data());
    for (int64_t i = 0; i < kS; ++i) total[i] += t < b.length[i] ? static_cast<double>(now[tile + i]) : 0.0;
  }
  for (int64_t i = 0; i < b.count; ++i) {
    int64_t* out = p.decoded + (b.first + i) * p.steps;
    std::fill(out + b.length[i], out + p.steps, -1);
    const Real* plus = m.end.data();
    int64_t stride = 1;
    for (int64_t t = b.length[i] - 1; t >= 0; --t) {
      const Real* s = states + t * p.pitch() + i;
      int64_t tag = 0;
      Real best = s[0] + plus[0];
      for (int64_t j = 1; j < k; ++j) {
        const Real x = s[j * kS] + plus[j * stride];
        if (x > best) {
          best = x;
          tag = j;
        }
      }
      if (t == b.length[i] - 1) total[i] += static_cast<double>(best);
      out[t] = tag;
      plus = a + tag;
      stride = k;
    }
    static_cast<Real*>(p.scores)[b.first + i] =
        b.wrong[i] ? std::numeric_limits<Real>::quiet_NaN() : static_cast<Real>(b.length[i] ? total[i] : 0);
  }
}

template <class Real>
void run_decode(const CrfDecode& p) {
  const CrfMatrices<Real> m(p);
  const double work = static_cast<double>(kS * p.steps * p.tags * p.tags);
  parallel_blocks(p.blocks(), units_per_thread(work), p.threads,
                  [&](int64_t block) { decode_block<Real>(p, m, block); });
}

}  // namespace

void crf_decode(const CrfDecode& p) { p.dtype == DType::Float64 ? run_decode<double>(p) : run_decode<float>(p); }

}  // namespace PYGEN_ISA
}  // namespace pygen
