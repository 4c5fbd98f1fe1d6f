// Sampling from MADE on CPUs: append-only. Each unit is computed once, when the last input that it sees is drawn, so
// a sample costs about one forward pass. Threads take blocks of images.
#include "cpu/parallel.h"
#include "cpu/sampling_decide.h"
#include "cpu/sampling_dense_plan.h"
#include "cpu/sampling_tile.h"

namespace pygen {
inline namespace PYGEN_ISA {
namespace {

constexpr int64_t kMostImages = 8 * kSamplingRows;  // of a block: their activations and a panel's weights fit a cache

// One thread's work on images [first, first + images).
template <class Real>
class DenseWorker {
 public:
  DenseWorker(const DensePlan<Real>& plan, const Real* weights, int64_t first, int64_t images, Real* memory)
      : plan_(plan), p_(plan.p), weights_(weights), first_(first), images_(images), scratch_(plan.p.num_levels) {
    for (int64_t pitch : plan.act_pitch) {
      acts_.push_back(memory);
      memory += pitch * images;
    }
    for (int64_t pitch : plan.sum_pitch) {
      sums_.push_back(memory);
      memory += pitch * images;
    }
  }

  void draw() {
    for (int64_t panel = 0; panel < plan_.panels && !p_.interrupt->stop(); ++panel) {
      const std::vector<DenseBlock>& blocks = plan_.blocks[panel];
      for (int64_t layer = 0; layer <= plan_.hidden; ++layer) take_what_is_known(layer, blocks[layer]);
      for (int64_t step = plan_.begin(panel); step < plan_.end(panel); ++step) {
        decide(step, blocks);
        for (int64_t layer = 0; layer < plan_.hidden; ++layer) enable(step, layer, blocks);
      }
    }
  }

 private:
  using V = Reg<Real>;
  static constexpr int64_t kN = kRegLanes<Real>;

  // The panel's sums of this layer, as far as sources before the panel go.
  void take_what_is_known(int64_t layer, const DenseBlock& block) {
    const SamplingRun run{0, 0, block.before};
    const Real* source = acts_[layer];
    SamplingTileArguments<Real> a{};
    a.runs = &source;
    a.lengths = &run;
    a.num_runs = 1;
    a.source_pitch = plan_.act_pitch[layer];
    a.out[0] = {sums_[layer], 0, plan_.sum_pitch[layer]};
    for (const SamplingTile& tile : block.tiles) {
      a.weights = weights_ + tile.weights;
      a.bias = weights_ + tile.bias;
      a.at = tile.at;
      sampling_rows(a, tile.columns, 0, images_);
    }
  }

  // Source `at` of the layer, now known, is added to the panel's units that see it.
  PYGEN_INLINE void push(int64_t layer, const DenseBlock& block, int64_t at, int64_t begin, int64_t image, Real value) {
    const Real* weights = weights_ + block.triangle + (at - block.before) * block.pitch;
    Real* sums = sums_[layer] + image * plan_.sum_pitch[layer];
    for (int64_t i = begin / kN * kN; i < block.pitch; i += kN)
      store(sums + i, load<V>(sums + i) + load<V>(weights + i) * value);
  }

  // The panel's first unit of the layer that sees sources of that degree.
  int64_t reached(int64_t layer, const DenseBlock& block, int64_t degree) const {
    const int64_t unit = layer < plan_.hidden ? plan_.below(layer + 1, degree) : (degree + 1) * p_.num_levels;
    return unit - block.first;
  }

  void decide(int64_t step, const std::vector<DenseBlock>& blocks) {
    const DenseBlock &logits = blocks[plan_.hidden], &next = blocks[0];
    const int64_t begin = reached(0, next, step), input = plan_.order[0][step];
    for (int64_t n = 0; n < images_; ++n) {
      const Real* of_step =
          sums_[plan_.hidden] + n * plan_.sum_pitch[plan_.hidden] + step * p_.num_levels - logits.first;
      const int64_t at = (first_ + n) * plan_.steps + input;
      const int64_t level = sampling_level(p_, at, at, of_step, scratch_.data());
      const Real value = static_cast<const Real*>(p_.scaled)[level];
      acts_[0][n * plan_.act_pitch[0] + step] = value;
      push(0, next, step, begin, n, value);
    }
  }

  // The units made by layer `layer` that have seen all they see.
  void enable(int64_t step, int64_t layer, const std::vector<DenseBlock>& blocks) {
    const DenseBlock &made = blocks[layer], &next = blocks[layer + 1];
    const int64_t from = plan_.below(layer + 1, step), to = plan_.below(layer + 1, step + 1);
    if (from == to) return;
    const int64_t begin = reached(layer + 1, next, step);
    for (int64_t n = 0; n < images_; ++n) {
      for (int64_t unit = from; unit < to; ++unit) {
        const Real sum = sums_[layer][n * plan_.sum_pitch[layer] + unit - made.first];
        const Real value = sum < 0 ? Real(0) : sum;
        acts_[layer + 1][n * plan_.act_pitch[layer + 1] + unit] = value;
        push(layer + 1, next, unit, begin, n, value);
      }
    }
  }

  const DensePlan<Real>& plan_;
  const DenseSampling& p_;
  const Real* weights_;
  int64_t first_, images_;
  std::vector<Real*> acts_, sums_;
  std::vector<double> scratch_;
};

template <class Real>
void draw(const DenseSampling& p) {
  if (p.batch == 0) return;
  const int64_t threads = std::max(p.threads, 1), per_thread = (p.batch + threads - 1) / threads;
  const int64_t blocks_each = (per_thread + kMostImages - 1) / kMostImages;
  const int64_t images = (per_thread + blocks_each - 1) / blocks_each, blocks = (p.batch + images - 1) / images;
  const DensePlan<Real> plan(p, images);
  Real* weights = thread_scratch<Real, 8>(plan.packed);
  const int64_t layers = plan.hidden + 1, units = plan.panels * layers;
  parallel_blocks(units, 1 + units * (1 << 16) / std::max<int64_t>(plan.packed, 1), p.threads,
                  [&](int64_t u) { pack_dense_block(plan, u % layers, plan.blocks[u / layers][u % layers], weights); });
  parallel_blocks(blocks, 1, p.threads, [&](int64_t b) {
    const int64_t first = b * images, some = std::min(images, p.batch - first);
    Real* memory = thread_scratch<Real, 9>((plan.act_size + plan.sum_size) * some);
    DenseWorker<Real>(plan, weights, first, some, memory).draw();
  });
}

}  // namespace

void sampling_dense_draw(const DenseSampling& p) {
  if (p.dtype == DType::Float64) return draw<double>(p);
  draw<float>(p);
}

}  // namespace PYGEN_ISA
}  // namespace pygen
