// Tags drawn from the linear-chain CRF on CPUs. Formulas: pygen/reference/crf.py.
// Forward has kept its states; from the last step on a tag's weights are those of the step times (in logarithms plus)
// the transitions to the tag drawn after it: of each step K multiplications or exponentials a draw, K additions, K
// comparisons. 16 draws side by side, of as many sequences as a block has and of their samples.
#include <array>
#include <cstring>

#include "cpu/crf.h"
#include "cpu/crf_tile.h"
#include "cpu/noise.h"
#include "cpu/parallel.h"
#include "cpu/running_sums.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kNumbers = 64;  // steps whose uniform numbers are made at once
static_assert(kNumbers % (4 * kLanes) == 0, "fill_uniforms writes whole groups");
constexpr int64_t kTogether = 8;  // groups of 16 draws that go along a block's states together: these are read once
constexpr double kWork = 8;       // of a tag, in multiply-adds

// A lane's draw: its sequence in the block and in the call, what its next tag's states are multiplied with.
template <class Real>
struct Lane {
  int64_t member, sequence, sample, length;
  const Real* weights;
  int64_t* out;  // [T]
};
template <class Real>
struct Group {
  Lane<Real> lanes[kS];
  int64_t count, most;          // lanes in use, and the longest of their sequences
  float numbers[kS][kNumbers];  // of steps that are side by side
};

// Of 4 lanes' rows of k numbers to columns of the tile, 4 x 4 turned in registers.
template <class Real>
PYGEN_INLINE void turn_rows(const Real* const (&rows)[4], int64_t k, Real* tile) {
  typedef Real Quad __attribute__((vector_size(4 * sizeof(Real))));
  typedef std::conditional_t<sizeof(Real) == 8, int64_t, int32_t> Index __attribute__((vector_size(4 * sizeof(Real))));
  int64_t j = 0;
  for (; j + 4 <= k; j += 4) {
    Quad x[4];
    for (int i = 0; i < 4; ++i) std::memcpy(&x[i], rows[i] + j, sizeof x[i]);
    const Quad low01 = __builtin_shuffle(x[0], x[1], Index{0, 4, 1, 5});
    const Quad high01 = __builtin_shuffle(x[0], x[1], Index{2, 6, 3, 7});
    const Quad low23 = __builtin_shuffle(x[2], x[3], Index{0, 4, 1, 5});
    const Quad high23 = __builtin_shuffle(x[2], x[3], Index{2, 6, 3, 7});
    x[0] = __builtin_shuffle(low01, low23, Index{0, 1, 4, 5});
    x[1] = __builtin_shuffle(low01, low23, Index{2, 3, 6, 7});
    x[2] = __builtin_shuffle(high01, high23, Index{0, 1, 4, 5});
    x[3] = __builtin_shuffle(high01, high23, Index{2, 3, 6, 7});
    for (int i = 0; i < 4; ++i) std::memcpy(tile + (j + i) * kS, &x[i], sizeof x[i]);
  }
  for (; j < k; ++j)
    for (int i = 0; i < 4; ++i) tile[j * kS + i] = rows[i][j];
}

// The tags that numbers u draw, of states and what they are multiplied with, in logarithms added to: the tile, which
// becomes running sums.
template <class Real>
__attribute__((noinline)) void draw_row(bool logarithms, int64_t k, const Real* states, const Real* u, Real* tile,
                                        Real* tags) {
  using V = Vector<Real>;
  along_row<Real>([&](int64_t v) PYGEN_INLINE_LAMBDA {
    const auto state = [states, v](int64_t j) PYGEN_INLINE_LAMBDA { return load<V>(states + j * kS + v); };
    V sum[1] = {}, below[1] = {}, most = V{} - Lanes<V>::kMax;
    if (logarithms) {
      for (int64_t j = 0; j < k; ++j) most = larger(V(state(j) + load<V>(tile + j * kS + v)), most);
      add_up<1, kS>(tile + v, k, sum, [&](int) PYGEN_INLINE_LAMBDA {
        return [&](V x, int64_t j) PYGEN_INLINE_LAMBDA { return exp_minus(V(most - (state(j) + x))); };
      });
    } else {
      add_up<1, kS>(tile + v, k, sum, [&](int) PYGEN_INLINE_LAMBDA {
        return [&](V x, int64_t j) PYGEN_INLINE_LAMBDA { return V(state(j) * x); };
      });
    }
    const V wanted[1] = {load<V>(u + v) * sum[0]};
    count_below<1, kS>(tile + v, k, wanted, below);
    store(tags + v, below[0]);
  });
}

template <class Real>
void start_group(const CrfSample& p, const CrfMatrices<Real>& m, const CrfBlock& b, int64_t number, Group<Real>& g) {
  g.count = std::min(kS, b.count * p.samples - number * kS);
  g.most = 0;
  for (int64_t i = 0; i < kS; ++i) {
    Lane<Real>& lane = g.lanes[i];
    lane = {};
    lane.weights = m.last.data();
    if (i >= g.count) continue;
    const int64_t pair = number * kS + i;
    lane.member = pair % b.count;
    lane.sample = pair / b.count;
    lane.sequence = b.first + lane.member;
    lane.length = b.wrong[lane.member] ? 0 : b.length[lane.member];
    lane.out = p.drawn + (lane.sample * p.sequences + lane.sequence) * p.steps;
    g.most = std::max(g.most, lane.length);
    std::fill(lane.out + lane.length, lane.out + p.steps, -1);
  }
}

// Of steps first .. last.
template <class Real>
void make_numbers(const CrfSample& p, int64_t first, int64_t last, Group<Real>& g) {
  for (int64_t i = 0; i < g.count; ++i) {
    const Lane<Real>& lane = g.lanes[i];
    const uint64_t quad = (static_cast<uint64_t>(lane.sample) << 32) + static_cast<uint64_t>(first) / 4;
    if (first < lane.length)
      fill_uniforms(g.numbers[i], p.seed, quad, (last - first) / 4 + 1, static_cast<uint32_t>(lane.sequence),
                    NoiseDomain::CrfSample);
  }
}

// A tag of each lane at step t. scratch: [2 K + 2, kS]. straight: a lane's sequence is the one that its states are of.
template <class Real>
void draw_tags(const CrfMatrices<Real>& m, int64_t k, int64_t t, const Real* state, bool straight, Group<Real>& g,
               Real* scratch) {
  Real *tile = scratch, *turned = tile + k * kS, *u = turned + k * kS, *tags = u + kS;
  const Lane<Real>* lane = g.lanes;
  for (int64_t i = 0; i < kS; i += 4)
    turn_rows<Real>({lane[i].weights, lane[i + 1].weights, lane[i + 2].weights, lane[i + 3].weights}, k, tile + i);
  for (int64_t j = 0; j < k && !straight; ++j)
    for (int64_t i = 0; i < kS; ++i) turned[j * kS + i] = state[j * kS + lane[i].member];
  for (int64_t i = 0; i < g.count; ++i)
    if (t < lane[i].length) u[i] = static_cast<Real>(g.numbers[i][t % kNumbers]);
  draw_row(m.logarithms, k, straight ? state : turned, u, tile, tags);
  for (int64_t i = 0; i < g.count; ++i) {
    if (t >= lane[i].length) continue;
    g.numbers[i][t % kNumbers] = static_cast<float>(tags[i]);
    g.lanes[i].weights = m.from.data() + static_cast<int64_t>(tags[i]) * k;
  }
}

// Of steps from `first` on, whose tags have taken the place of their numbers: lanes' memory, a step after the other,
// would often lie in the same set of a cache.
template <class Real>
void write_tags(int64_t first, const Group<Real>& g) {
  for (int64_t i = 0; i < g.count; ++i)
    for (int64_t t = first; t < std::min(first + kNumbers, g.lanes[i].length); ++t)
      g.lanes[i].out[t] = static_cast<int64_t>(g.numbers[i][t - first]);
}

// Some of a block's groups.
template <class Real>
void draw_groups(const CrfSample& p, const CrfMatrices<Real>& m, const CrfBlock& b, int64_t block, int64_t begin,
                 int64_t end) {
  Group<Real>* each = of_thread<std::array<Group<Real>, kTogether>>().data();
  Real* scratch = thread_scratch<Real, 0>((2 * p.tags + 2) * kS);
  std::fill_n(scratch + 2 * p.tags * kS, 2 * kS, Real(0));
  for (int64_t i = begin; i < end; ++i) start_group(p, m, b, i, each[i - begin]);
  const bool straight = b.count == kS || p.samples == 1;
  const Real* states = static_cast<const Real*>(p.kept) + block * p.steps * p.pitch();
  for (int64_t t = b.most - 1; t >= 0; --t) {
    for (Group<Real>* g = each; g < each + (end - begin); ++g) {
      if (t >= g->most) continue;
      if (t == g->most - 1 || t % kNumbers == kNumbers - 1) make_numbers(p, t - t % kNumbers, t, *g);
      draw_tags(m, p.tags, t, states + t * p.pitch(), straight, *g, scratch);
      if (t % kNumbers == 0) write_tags(t, *g);
    }
  }
}

template <class Real>
void run_sample(const CrfSample& p) {
  const CrfMatrices<Real> m(p);
  const int64_t last = p.blocks() - 1, left = p.sequences - last * kS;
  const auto groups_of = [&](int64_t block) { return block < last ? p.samples : (left * p.samples + kS - 1) / kS; };
  const int64_t each = std::clamp<int64_t>((last * p.samples + groups_of(last)) / p.threads, 1, kTogether);
  const auto units_of = [&](int64_t block) { return (groups_of(block) + each - 1) / each; };
  const double work = kWork * static_cast<double>(each * kS * p.steps * p.tags) * (m.logarithms ? 2 : 1);
  parallel_blocks(last * units_of(0) + units_of(last), units_per_thread(work), p.threads, [&](int64_t unit) {
    const int64_t block = std::min(unit / units_of(0), last), first = (unit - block * units_of(0)) * each;
    draw_groups<Real>(p, m, CrfBlock(p, block), block, first, std::min(first + each, groups_of(block)));
  });
}

}  // namespace

void crf_sample(const CrfSample& p) { p.dtype == DType::Float64 ? run_sample<double>(p) : run_sample<float>(p); }

}  // namespace PYGEN_ISA
}  // namespace pygen
