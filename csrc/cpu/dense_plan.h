// A dense network laid out: units in the order in which they become known, cut into panels of steps.
//
// Units are sorted by degree and inputs by their turn, so what a unit sees is a prefix of the layer before. A panel is
// `panel` steps. What its units take from before the panel is one matrix product over all images of a block; what
// they take from within it is added step by step, as each source becomes known. A weight is read once for a block of
// images, and dead ones are never read: where a register of the triangle reaches beyond the live ones, it holds zeros
// for units that are finished.
#pragma once

#include <numeric>

#include "cpu/dense_network.h"
#include "cpu/sampling_parts.h"

namespace pygen {
inline namespace PYGEN_ISA {

// Steps of a panel: fewer where each has many outputs, as each source passes over the sums of a panel's outputs.
constexpr int64_t kDensePanel = 32, kDensePanelOutputs = 128, kDenseLeastPanel = 4;

inline int64_t dense_panel(int64_t numbers) {
  return std::clamp(kDensePanelOutputs / numbers, kDenseLeastPanel, kDensePanel);
}

// The units of one layer that a panel's steps complete. They see the sources [0, before) and some of the `within` next.
struct DenseBlock {
  int64_t first = 0, count = 0, before = 0, within = 0;
  int64_t pitch = 0;     // units in whole registers
  int64_t triangle = 0;  // [within][pitch] in the packed numbers
  std::vector<SamplingTile> tiles;
};

template <class Real>
struct DensePlan {
  const DenseNetwork& p;
  int64_t steps, hidden, panel, panels, sources;     // panel: steps of one; sources: of each input
  std::vector<int64_t> turns;                        // which input comes when
  std::vector<std::vector<int64_t>> order, degrees;  // of each layer's sources: by degree; their degrees
  std::vector<std::vector<DenseBlock>> blocks;       // [panel][layer]
  std::vector<int64_t> act_pitch, sum_pitch;         // of sources; of a panel's sums, for each layer of weights
  int64_t packed = 0, act_size = 0, sum_size = 0;    // numbers: of all weights; of an image

  DensePlan(const DenseNetwork& p, int64_t images)
      : p(p),
        steps(p.inputs()),
        hidden(p.hidden()),
        panel(dense_panel(p.numbers)),
        panels((steps + panel - 1) / panel),
        sources(static_cast<int64_t>(p.degrees[0].size()) / steps),
        turns(by_degree(p.when)),
        blocks(panels),
        sum_pitch(p.layers.size()) {
    for (const std::vector<int64_t>& given : p.degrees) {
      std::vector<int64_t> units = by_degree(given), sorted;
      for (int64_t unit : units) sorted.push_back(given[unit]);
      act_pitch.push_back(whole(static_cast<int64_t>(units.size())));
      act_size += act_pitch.back();
      order.push_back(std::move(units));
      degrees.push_back(std::move(sorted));
    }
    const int most = sampling_columns(images);
    for (int64_t number = 0; number < panels; ++number)
      for (int64_t layer = 0; layer <= hidden; ++layer) blocks[number].push_back(make_block(number, layer, most));
    for (int64_t pitch : sum_pitch) sum_size += pitch;
  }

  int64_t begin(int64_t number) const { return number * panel; }
  int64_t end(int64_t number) const { return std::min(steps, begin(number) + panel); }
  // How many units of source layer `layer` have a degree below that.
  int64_t below(int64_t layer, int64_t degree) const {
    return std::lower_bound(degrees[layer].begin(), degrees[layer].end(), degree) - degrees[layer].begin();
  }
  // The row of the weight matrix of unit i, in order, that layer `layer` makes.
  int64_t row(int64_t layer, int64_t i) const {
    return layer < hidden ? order[layer + 1][i]
                          : turns[i / p.numbers] * p.input_stride + i % p.numbers * p.number_stride;
  }
  // Of that unit, how many sources it sees.
  int64_t seen(int64_t layer, int64_t i) const {
    return layer < hidden ? below(layer, degrees[layer + 1][i] + 1) : below(layer, i / p.numbers);
  }

 private:
  static std::vector<int64_t> by_degree(const std::vector<int64_t>& given) {
    std::vector<int64_t> units(given.size());
    std::iota(units.begin(), units.end(), 0);
    std::stable_sort(units.begin(), units.end(), [&](int64_t a, int64_t b) { return given[a] < given[b]; });
    return units;
  }

  static int64_t whole(int64_t n) { return (n + kRegLanes<Real> - 1) / kRegLanes<Real> * kRegLanes<Real>; }

  DenseBlock make_block(int64_t number, int64_t layer, int most) {
    DenseBlock block;
    const bool last = layer == hidden;
    block.first = last ? begin(number) * p.numbers : below(layer + 1, begin(number));
    block.count = (last ? end(number) * p.numbers : below(layer + 1, end(number))) - block.first;
    block.before = below(layer, begin(number));
    block.within = below(layer, end(number)) - block.before;
    block.pitch = whole(block.count);
    sum_pitch[layer] = std::max(sum_pitch[layer], block.pitch);
    const int64_t registers = block.pitch / kRegLanes<Real>, tiles = (registers + most - 1) / most;
    for (int64_t r = 0; r < registers; ++r) {
      if (r == registers * static_cast<int64_t>(block.tiles.size()) / tiles) block.tiles.emplace_back();
      SamplingTile& tile = block.tiles.back();
      tile.at[tile.columns++] = r * kRegLanes<Real>;
    }
    for (SamplingTile& tile : block.tiles) {
      tile.bias = packed;
      tile.weights = packed + tile.columns * kRegLanes<Real>;
      packed += (block.before + 1) * tile.columns * kRegLanes<Real>;
    }
    block.triangle = packed;
    packed += block.within * block.pitch;
    return block;
  }
};

// Of each tile the bias, then source after source the weights of its units; then the triangle.
template <class Real>
void pack_dense_block(const DensePlan<Real>& plan, int64_t layer, const DenseBlock& block, Real* packed) {
  constexpr int64_t kN = kRegLanes<Real>;
  const DenseNetwork::Layer& from = plan.p.layers[layer];
  const Real *weight = static_cast<const Real*>(from.weight), *bias = static_cast<const Real*>(from.bias);
  const int64_t* sources = plan.order[layer].data();
  const Real* rows[kSamplingColumns * kN];
  for (const SamplingTile& tile : block.tiles) {
    const int64_t columns = tile.columns * kN, units = std::min(columns, block.count - tile.at[0]);
    for (int64_t j = 0; j < units; ++j) {
      const int64_t row = plan.row(layer, block.first + tile.at[0] + j);
      rows[j] = weight + row * from.out_stride;
      packed[tile.bias + j] = bias[row];
    }
    std::fill(packed + tile.bias + units, packed + tile.bias + columns, Real(0));
    Real* out = packed + tile.weights;
    for (int64_t k = 0; k < block.before; ++k, out += columns) {
      const int64_t in = sources[k] * from.in_stride;
      for (int64_t j = 0; j < units; ++j) out[j] = rows[j][in];
      for (int64_t j = units; j < columns; ++j) out[j] = 0;
    }
  }
  Real* triangle = packed + block.triangle;
  std::fill_n(triangle, block.within * block.pitch, Real(0));
  for (int64_t i = 0; i < block.count; ++i) {
    const Real* row = weight + plan.row(layer, block.first + i) * from.out_stride;
    const int64_t live = plan.seen(layer, block.first + i) - block.before;
    for (int64_t k = 0; k < live; ++k) triangle[k * block.pitch + i] = row[sources[block.before + k] * from.in_stride];
  }
}

}  // namespace PYGEN_ISA
}  // namespace pygen
