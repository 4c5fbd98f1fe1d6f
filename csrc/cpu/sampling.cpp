// Sampling from pixel models on CPUs: the whole loop over pixels. What does not change is never computed twice: early
// streams a row at a time, late ones at each pixel, so an image costs about one forward pass. Threads take blocks of
// images; where there are fewer images than threads, a team shares the early rows of one.
#include "cpu/parallel.h"
#include "cpu/sampling_pack.h"
#include "cpu/sampling_worker.h"
#include "cpu/team.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kBlockBytes = 1 << 20;  // of streams, for a block of images: what a core's L2 cache holds
constexpr int64_t kLeastBlock = 2 * kSamplingRows;

template <class Real>
void draw_block(const SamplingPlan<Real>& plan, const Real* weights, int64_t first, int64_t images, Real* shared,
                Real* local, int member, int members, Barrier* barrier) {
  const Sampling& p = plan.p;
  const int64_t pixels = p.width * images;
  SamplingWorker<Real> worker(plan, weights, first, images, shared, local);
  for (int64_t y = 0; y < p.height; ++y) {
    if (member == 0) worker.prepare_row(y);
    worker.enter_row(y);
    if (barrier) barrier->wait();
    for (int pass = 0; pass < plan.passes; ++pass) {
      worker.early(pass, pixels * member / members, pixels * (member + 1) / members);
      if (barrier) barrier->wait();
    }
    for (int64_t x = 0; x < p.width && member == 0; ++x) worker.pixel(x);
  }
}

template <class Real>
void draw(const Sampling& p) {
  if (p.batch == 0 || p.height == 0 || p.width == 0) return;
  const int64_t threads = std::max(p.threads, 1);
  const int64_t per_thread = (p.batch + threads - 1) / threads;
  const int64_t bytes = SamplingPlan<Real>(p, 1).shared * static_cast<int64_t>(sizeof(Real));
  const int64_t most = std::max(kLeastBlock, kBlockBytes / std::max<int64_t>(bytes, 1));
  const int64_t blocks_each = (per_thread + most - 1) / most;
  const int64_t block = (per_thread + blocks_each - 1) / blocks_each, blocks = (p.batch + block - 1) / block;

  const SamplingPlan<Real> plan(p, block);
  Real* weights = thread_scratch<Real, 8>(plan.packed);
  const int64_t num_units = static_cast<int64_t>(plan.units.size());
  parallel_blocks(num_units, 1 + num_units * (1 << 16) / std::max<int64_t>(plan.packed, 1), p.threads,
                  [&](int64_t u) { pack_sampling_unit(plan, plan.units[u], weights); });

  const int members =
      static_cast<int>(std::min(threads / blocks, (p.width * block + kSamplingRows - 1) / kSamplingRows));
  if (members <= 1) {
    parallel_blocks(blocks, 1, p.threads, [&](int64_t b) {
      const int64_t first = b * block, images = std::min(block, p.batch - first);
      Real* memory = thread_scratch<Real, 9>(plan.shared * images + plan.local);
      std::fill_n(memory, plan.shared * images + plan.local, Real(0));
      draw_block(plan, weights, first, images, memory, memory + plan.shared * images, 0, 1, nullptr);
    });
    return;
  }
  // One image to a team: of block b's members the first draws, all compute early rows.
  Real* memory = thread_scratch<Real, 9>(blocks * (plan.shared + members * plan.local));
  std::fill_n(memory, blocks * (plan.shared + members * plan.local), Real(0));
  std::vector<Barrier> barriers(blocks);
#pragma omp parallel num_threads(static_cast<int>(blocks) * members)
  {
    const int64_t got = omp_get_num_threads(), me = omp_get_thread_num();
    const int64_t size = std::max<int64_t>(1, std::min<int64_t>(members, got / blocks)), teams = got / size;
    if (me == 0)
      for (Barrier& barrier : barriers) barrier.resize(static_cast<int>(size));
#pragma omp barrier
    for (int64_t b = me / size; b < blocks && me / size < teams; b += teams) {
      Real* shared = memory + b * (plan.shared + members * plan.local);
      Real* local = shared + plan.shared + me % size * plan.local;
      draw_block(plan, weights, b * block, block, shared, local, static_cast<int>(me % size), static_cast<int>(size),
                 size > 1 ? &barriers[b] : nullptr);
    }
  }
}

}  // namespace

void sampling_draw(const Sampling& p) {
  if (p.dtype == DType::Float64) return draw<double>(p);
  draw<float>(p);
}

}  // namespace PYGEN_ISA
}  // namespace pygen
