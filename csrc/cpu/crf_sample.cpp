// Tags drawn from the linear-chain CRF on CPUs. Formulas: pygen/reference/crf.py.
// Forward has kept its states; from the last step on a tag's weights are those of the step times (in logarithms plus)
// the transitions to the tag drawn after it: of each step K multiplications or exponentials a draw, K additions, K
// comparisons. 16 draws side by side, of as many sequences as a block has and of their samples.
#include "cpu/crf.h"
#include "cpu/crf_tile.h"
#include "cpu/noise.h"
#include "cpu/parallel.h"
#include "cpu/running_sums.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kNumbers = 64;  // steps whose uniform numbers are made at once
constexpr int64_t kPitch = kNumbers + kNoisePadding;
constexpr double kWork = 8;  // of a tag, in multiply-adds

// A lane's draw: its sequence in the block and in the call, what its next tag's weights are states times of.
template <class Real>
struct Lane {
  int64_t member, sequence, sample, length;
  const Real* weights;
  int64_t* out;  // [T]
};

// The tags that numbers u draw of weights [K, kS], or of their logarithms.
template <class Real>
__attribute__((noinline)) void draw_row(bool logarithms, int64_t k, const Real* u, Real* tile, Real* tags) {
  using V = Vector<Real>;
  along_row<Real>([&](int64_t v) PYGEN_INLINE_LAMBDA {
    V sum[1] = {}, below[1] = {}, most = V{} - Lanes<V>::kMax;
    if (logarithms) {
      for (int64_t j = 0; j < k; ++j) most = larger(load<V>(tile + j * kS + v), most);
      add_up<1, kS>(tile + v, k, sum, [&](int) PYGEN_INLINE_LAMBDA {
        return [most](V x) PYGEN_INLINE_LAMBDA { return exp_minus(V(most - x)); };
      });
    } else {
      add_up<1, kS>(tile + v, k, sum,
                    [](int) PYGEN_INLINE_LAMBDA { return [](V x) PYGEN_INLINE_LAMBDA { return x; }; });
    }
    const V wanted[1] = {load<V>(u + v) * sum[0]};
    count_below<1, kS>(tile + v, k, wanted, below);
    store(tags + v, below[0]);
  });
}

template <class Real>
void draw_lanes(const CrfSample& p, const CrfMatrices<Real>& m, int64_t block, int64_t group) {
  const CrfBlock b(p, block);
  const int64_t k = p.tags, pairs = b.count * p.samples;
  Real* tile = thread_scratch<Real, 0>(k * kS + 2 * kS);
  Real *u = tile + k * kS, *tags = u + kS;
  float* numbers = thread_scratch<float, 1>(kS * kPitch);
  std::fill_n(tile, k * kS + 2 * kS, Real(0));
  Lane<Real> lanes[kS];
  const int64_t count = std::min(kS, pairs - group * kS);
  int64_t most = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t pair = group * kS + i, member = pair % b.count, sample = pair / b.count, n = b.first + member;
    int64_t* out = p.drawn + (sample * p.sequences + n) * p.steps;
    lanes[i] = {member, n, sample, b.wrong[member] ? 0 : b.length[member], m.last.data(), out};
    most = std::max(most, lanes[i].length);
    std::fill(out + lanes[i].length, out + p.steps, -1);
  }
  const Real* states = static_cast<const Real*>(p.kept) + block * p.steps * p.pitch();
  for (int64_t t = most - 1; t >= 0; --t) {
    const int64_t first = t / kNumbers * kNumbers;
    const bool fresh = t == most - 1 || t - first == kNumbers - 1;
    const Real* state = states + t * p.pitch();
    for (int64_t i = 0; i < count; ++i) {
      const Lane<Real>& lane = lanes[i];
      if (fresh && first < lane.length)
        fill_uniforms(numbers + i * kPitch, p.seed, (static_cast<uint64_t>(lane.sample) << 32) + first / 4,
                      (t - first) / 4 + 1, static_cast<uint32_t>(lane.sequence), NoiseDomain::CrfSample);
      if (t >= lane.length) continue;
      u[i] = static_cast<Real>(numbers[i * kPitch + t - first]);
      const Real *from = state + lane.member, *weights = lane.weights;
      if (m.logarithms) {
        for (int64_t j = 0; j < k; ++j) tile[j * kS + i] = from[j * kS] + weights[j];
      } else {
        for (int64_t j = 0; j < k; ++j) tile[j * kS + i] = from[j * kS] * weights[j];
      }
    }
    draw_row(m.logarithms, k, u, tile, tags);
    for (int64_t i = 0; i < count; ++i) {
      if (t >= lanes[i].length) continue;
      const int64_t tag = static_cast<int64_t>(tags[i]);
      lanes[i].out[t] = tag;
      lanes[i].weights = m.from.data() + tag * k;
    }
  }
}

template <class Real>
void run_sample(const CrfSample& p) {
  const CrfMatrices<Real> m(p);
  const int64_t full = p.blocks() - 1, left = p.sequences - full * kS;
  const int64_t units = full * p.samples + (left * p.samples + kS - 1) / kS;
  const double work = kWork * static_cast<double>(kS * p.steps * p.tags) * (m.logarithms ? 2 : 1);
  parallel_blocks(units, units_per_thread(work), p.threads, [&](int64_t unit) {
    const int64_t block = std::min(unit / p.samples, full);
    draw_lanes<Real>(p, m, block, unit - block * p.samples);
  });
}

}  // namespace

void crf_sample(const CrfSample& p) { p.dtype == DType::Float64 ? run_sample<double>(p) : run_sample<float>(p); }

}  // namespace PYGEN_ISA
}  // namespace pygen
