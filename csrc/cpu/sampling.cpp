// Sampling from pixel models on CPUs: the whole loop over pixels. What does not change is never computed twice: early
// streams a row at a time, late ones at each pixel, so an image costs about one forward pass. Threads take blocks of
// images; where there are fewer images than threads, a team works on one.
#include <deque>
#include <optional>

#include "common/philox.h"
#include "cpu/parallel.h"
#include "cpu/sampling_pack.h"
#include "cpu/sampling_team.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kBlockBytes = 1 << 20;  // of streams, for a block of images: what a core's L2 cache holds
constexpr int64_t kLeastBlock = 2 * kSamplingRows;

// The program laid out and its weights packed; not filtered either if they are not tame.
template <class Real>
SamplingPlan<Real> lower(const Sampling& p, int64_t block, bool ahead, bool filtering, Real*& weights) {
  SamplingPlan<Real> plan(p, block, ahead, filtering);
  weights = thread_scratch<Real, 8>(plan.packed);
  const int64_t num_units = static_cast<int64_t>(plan.units.size());
  std::atomic<bool> tame{true};
  parallel_blocks(num_units, 1 + num_units * (1 << 16) / std::max<int64_t>(plan.packed, 1), p.threads, [&](int64_t u) {
    if (!pack_sampling_unit(plan, plan.units[u], weights)) tame = false;
  });
  if (!tame) return lower(p, block, ahead, false, weights);
  return plan;
}

// Images that cannot be read in pairs.
using Wild = std::vector<std::atomic<bool>>;

template <class Real>
void note_wild(const SamplingWorker<Real>& worker, int64_t first, int64_t images, Wild& wild) {
  for (int64_t n = 0; n < images; ++n)
    if (!worker.tame(n)) wild[first + n] = true;
}

template <class Real>
void draw_block(const SamplingPlan<Real>& plan, const Real* weights, int64_t first, int64_t images, Wild& wild) {
  const Sampling& p = plan.p;
  Real* memory = thread_scratch<Real, 9>(plan.shared * images + plan.local);
  std::fill_n(memory, plan.shared * images + plan.local, Real(0));
  SamplingWorker<Real> worker(plan, weights, first, images, memory, memory + plan.shared * images);
  for (int64_t y = 0; y < p.height && !p.interrupt->stop(); ++y) {
    for (int pass = 0; pass < plan.passes; ++pass) worker.early(pass, y, 0, p.width);
    worker.enter_row(y);
    for (int64_t x = 0; x < p.width; ++x) worker.pixel(x);
  }
  note_wild(worker, first, images, wild);
}

// More threads than images: a team for each.
template <class Real>
void draw_by_teams(const SamplingPlan<Real>& plan, const Real* weights, int members, Wild& wild) {
  const int64_t images = plan.p.batch, of_team = plan.shared + members * plan.local;
  Real* memory = thread_scratch<Real, 9>(images * of_team);
  std::fill_n(memory, images * of_team, Real(0));
  std::atomic<bool> given_up{false};
  std::deque<SamplingTeam<Real>> teams;
  for (int64_t b = 0; b < images; ++b) teams.emplace_back(plan, given_up);
  // A block for each member, of which a thread takes several where it finds fewer threads: the first member, which
  // waits for nobody, comes before the others.
  parallel_blocks(images * members, 1, static_cast<int>(images) * members, [&](int64_t i) {
    const int64_t b = i / members, member = i % members;
    try {
      Real* shared = memory + b * of_team;
      SamplingWorker<Real> worker(plan, weights, b, 1, shared, shared + plan.shared + member * plan.local);
      teams[b].work(member, worker);
      note_wild(worker, b, 1, wild);
    } catch (...) {
      given_up = true;  // the others would wait for this one
      throw;
    }
  });
}

template <class Real>
void draw(const Sampling& p) {
  if (p.batch == 0 || p.height == 0 || p.width == 0) return;
  const int64_t threads = std::max(p.threads, 1);
  const int64_t per_thread = (p.batch + threads - 1) / threads;
  const int64_t bytes = SamplingPlan<Real>(p, 1, false, true).shared * static_cast<int64_t>(sizeof(Real));
  const int64_t most = std::clamp(kBlockBytes / std::max<int64_t>(bytes, 1), kLeastBlock, kSamplingImages);
  const int64_t blocks_each = (per_thread + most - 1) / most;
  const int64_t block = (per_thread + blocks_each - 1) / blocks_each, blocks = (p.batch + block - 1) / block;

  const int members = static_cast<int>(std::min(threads / blocks, p.width / 2));
  Real* weights = nullptr;
  Wild wild(p.batch);
  const SamplingPlan<Real> plan = lower(p, block, members > 1, true, weights);
  if (members > 1) {
    draw_by_teams(plan, weights, members, wild);
  } else {
    parallel_blocks(blocks, 1, p.threads, [&](int64_t b) {
      draw_block(plan, weights, b * block, std::min(block, p.batch - b * block), wild);
    });
  }
  if (p.interrupt->stop() || std::none_of(wild.begin(), wild.end(), [](bool is) { return is; })) return;
  const SamplingPlan<Real> by_taps = lower(p, 1, false, false, weights);
  Wild ignored(p.batch);
  parallel_blocks(p.batch, 1, p.threads, [&](int64_t image) {
    if (wild[image]) draw_block(by_taps, weights, image, 1, ignored);
  });
}

}  // namespace

void sampling_draw(const Sampling& p) {
  if (p.dtype == DType::Float64) return draw<double>(p);
  draw<float>(p);
}

void sampling_uniforms(const SamplingUniforms& p) {
  constexpr int64_t kWorthAThread = 1 << 13;  // numbers
  parallel_blocks(p.images, 1 + kWorthAThread / std::max<int64_t>(p.draws, 1), p.threads, [&](int64_t image) {
    float* out = p.out + image * p.draws;
    for (int64_t j = 0; j < p.draws; j += 4) {
      uint32_t c[4];
      philox_words(p.seed, static_cast<uint64_t>(j) / 4, static_cast<uint32_t>(image), NoiseDomain::Sampling, c);
      for (int64_t lane = 0; lane < std::min<int64_t>(4, p.draws - j); ++lane) out[j + lane] = uniform_of_word(c[lane]);
    }
  });
}

}  // namespace PYGEN_ISA
}  // namespace pygen
