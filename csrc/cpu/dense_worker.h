// Runs a dense network input after input: append-only. Each unit is computed once, when the last input that it sees is
// known, so all of it costs about one forward pass. Threads take blocks of images.
#pragma once

#include <type_traits>

#include "common/activation.h"
#include "cpu/dense_plan.h"
#include "cpu/interrupt.h"
#include "cpu/parallel.h"
#include "cpu/registers.h"
#include "cpu/sampling_tile.h"

namespace pygen {
inline namespace PYGEN_ISA {

// Of a block: their activations and a panel's weights fit a cache.
constexpr int64_t kMostDenseImages = 8 * kSamplingRows;

// Of images from `first` on, what a step is decided by and what it gives: image i's are i pitches from these on.
template <class Real>
struct DenseStep {
  int64_t first, images, step;
  const Real* outputs;
  int64_t outputs_pitch;
  Real* sources;
  int64_t sources_pitch;
};

// Units, by degree, that a layer makes of an image.
template <class Real>
struct DenseUnits {
  int64_t image, layer, first, count;
  const Real* sums;
  Real* values;
};

// One thread's work on images [first, first + images). A rule says what an input gives to the first layer, and what
// becomes of a hidden unit's sum:
//   decide(step)    from the step's outputs to the numbers that its input gives, of all images
//   activate(units) from their sums to their values
template <class Real, class Rule>
class DenseWorker {
 public:
  DenseWorker(const DensePlan<Real>& plan, Rule& rule, Interrupt& interrupt, const Real* weights, int64_t first,
              int64_t images, Real* memory)
      : plan_(plan), rule_(rule), interrupt_(interrupt), weights_(weights), first_(first), images_(images) {
    for (int64_t pitch : plan.act_pitch) {
      acts_.push_back(memory);
      memory += pitch * images;
    }
    for (int64_t pitch : plan.sum_pitch) {
      sums_.push_back(memory);
      memory += pitch * images;
    }
  }

  void run() {
    for (int64_t panel = 0; panel < plan_.panels && !interrupt_.stop(); ++panel) {
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
    const DenseNetwork::Layer& given = plan_.p.layers[layer];
    if (given.added) {
      const Real* const added = static_cast<const Real*>(given.added) + first_ * given.added_pitch + block.first;
      a.add = {const_cast<Real*>(added), 0, given.added_pitch};
    }
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
    const int64_t unit = layer < plan_.hidden ? plan_.below(layer + 1, degree) : (degree + 1) * plan_.p.numbers;
    return unit - block.first;
  }

  void decide(int64_t step, const std::vector<DenseBlock>& blocks) {
    const DenseBlock &outputs = blocks[plan_.hidden], &next = blocks[0];
    const int64_t begin = reached(0, next, step), at = step * plan_.sources;
    const DenseStep<Real> given{first_,
                                images_,
                                step,
                                sums_[plan_.hidden] + step * plan_.p.numbers - outputs.first,
                                plan_.sum_pitch[plan_.hidden],
                                acts_[0] + at,
                                plan_.act_pitch[0]};
    rule_.decide(given);
    for (int64_t n = 0; n < images_; ++n) {
      const Real* sources = given.sources + n * given.sources_pitch;
      for (int64_t k = 0; k < plan_.sources; ++k) push(0, next, at + k, begin, n, sources[k]);
    }
  }

  // The units made by layer `layer` that have seen all they see.
  void enable(int64_t step, int64_t layer, const std::vector<DenseBlock>& blocks) {
    const DenseBlock &made = blocks[layer], &next = blocks[layer + 1];
    const int64_t from = plan_.below(layer + 1, step), to = plan_.below(layer + 1, step + 1);
    if (from == to) return;
    const int64_t begin = reached(layer + 1, next, step);
    for (int64_t n = 0; n < images_; ++n) {
      const Real* const sums = sums_[layer] + n * plan_.sum_pitch[layer] + from - made.first;
      Real* const values = acts_[layer + 1] + n * plan_.act_pitch[layer + 1] + from;
      rule_.activate(DenseUnits<Real>{first_ + n, layer, from, to - from, sums, values});
      for (int64_t unit = from; unit < to; ++unit) push(layer + 1, next, unit, begin, n, values[unit - from]);
    }
  }

  const DensePlan<Real>& plan_;
  Rule& rule_;
  Interrupt& interrupt_;
  const Real* weights_;
  int64_t first_, images_;
  std::vector<Real*> acts_, sums_;
};

// f(image, its outputs, its sources) for each.
template <class Real, class F>
PYGEN_INLINE void for_each_image(const DenseStep<Real>& step, F f) {
  for (int64_t i = 0; i < step.images; ++i)
    f(step.first + i, step.outputs + i * step.outputs_pitch, step.sources + i * step.sources_pitch);
}

template <Activation kOf, class Real>
PYGEN_INLINE void activate_units(const DenseUnits<Real>& units) {
  using V = std::conditional_t<std::is_same_v<Real, float>, VecF, Real>;
  constexpr int64_t kWidth = sizeof(V) / sizeof(Real);
  int64_t i = 0;
  if constexpr (kOf == Activation::Relu) {  // often of a unit or two
    for (; i < units.count; ++i) units.values[i] = activated<kOf>(units.sums[i]);
  }
  for (; i + kWidth <= units.count; i += kWidth) store(units.values + i, activated<kOf>(load<V>(units.sums + i)));
  if (i == units.count) return;
  Real some[kWidth] = {};  // the last ones by a whole vector too: a unit's bits do not depend on where it stands
  std::copy(units.sums + i, units.sums + units.count, some);
  store(some, activated<kOf>(load<V>(some)));
  std::copy_n(some, units.count - i, units.values + i);
}

// Runs the network for all images: make_rule(plan) gives each block's rule.
template <class Real, class MakeRule>
void run_dense_network(const DenseNetwork& p, int most_threads, Interrupt& interrupt, const MakeRule& make_rule) {
  if (p.batch == 0) return;
  const int64_t threads = std::max(most_threads, 1), per_thread = (p.batch + threads - 1) / threads;
  const int64_t blocks_each = (per_thread + kMostDenseImages - 1) / kMostDenseImages;
  const int64_t images = (per_thread + blocks_each - 1) / blocks_each, blocks = (p.batch + images - 1) / images;
  const DensePlan<Real> plan(p, images);
  Real* weights = thread_scratch<Real, 8>(plan.packed);
  const int64_t layers = plan.hidden + 1, units = plan.panels * layers;
  parallel_blocks(units, 1 + units * (1 << 16) / std::max<int64_t>(plan.packed, 1), most_threads,
                  [&](int64_t u) { pack_dense_block(plan, u % layers, plan.blocks[u / layers][u % layers], weights); });
  parallel_blocks(blocks, 1, most_threads, [&](int64_t b) {
    const int64_t first = b * images, some = std::min(images, p.batch - first);
    Real* memory = thread_scratch<Real, 9>((plan.act_size + plan.sum_size) * some);
    auto rule = make_rule(plan);
    DenseWorker<Real, decltype(rule)>(plan, rule, interrupt, weights, first, some, memory).run();
  });
}

}  // namespace PYGEN_ISA
}  // namespace pygen
