// The weights of a sampling program in the order in which the tiles read them.
#pragma once

#include <cmath>

#include "cpu/sampling_pairs.h"

namespace pygen {
inline namespace PYGEN_ISA {

// Bias, then for each step (tap after tap, the tap's source channels in turn) the weights of the tile's channels. Of
// pairs a step is two products of a row of taps, and whether their weights are tame is returned.
template <class Real>
bool pack_sampling_tile(const SamplingPlan<Real>& plan, const SamplingUnit& unit, const SamplingPart& part,
                        const SamplingTile& tile, Real* packed) {
  const ChannelLayout& layout = plan.streams[unit.stream].layout;
  const ChannelLayout from = plan.streams[std::max(unit.source, 0)].layout_of(unit.form);
  const int64_t lanes = kRegLanes<Real>, columns = tile.columns * lanes;
  const SamplingStage* conv = unit.conv < 0 ? nullptr : &plan.p.stages[unit.conv];
  const SamplingStage::Phase* read = conv ? &conv->phases[part.phase] : nullptr;
  const Real* bias = conv ? static_cast<const Real*>(conv->bias) : nullptr;
  bool tame = true;
  for (int64_t j = 0; j < columns; ++j) {
    const int64_t at = tile.at[j / lanes] + j % lanes, block = at / layout.pitch, inside = at % layout.pitch;
    const int64_t channel = inside < layout.count ? block * layout.count + inside : -1;
    packed[tile.bias + j] = bias && channel >= 0 ? bias[channel] : Real(0);
    Real* out = packed + tile.weights + j;
    const auto weights_of = [&](const SamplingRun& run, int64_t tap) {
      const int64_t first = run.at / from.pitch * from.count + run.at % from.pitch;
      const int64_t start = (static_cast<int64_t>(run.tap) + tap) * read->tap_stride + channel * read->out_stride;
      return static_cast<const Real*>(read->weight) + start + first * read->in_stride;
    };
    for (const std::array<int, 2>& products : {std::array<int, 2>{1, 2}, {0, 3}}) {
      for (const SamplingRun& run : part.runs) {
        const Real* in = weights_of(run, 0);
        if (!unit.in_pairs) {
          for (int64_t k = 0; k < run.count; ++k, out += columns)
            *out = channel < 0 ? Real(0) : in[k * read->in_stride];
          continue;
        }
        const Real *middle = weights_of(run, 1), *right = weights_of(run, 2);
        for (int64_t k = 0; k < run.count * read->in_stride; k += read->in_stride) {
          for (int product : products) {
            *out = channel < 0 ? Real(0) : sampling_product_weight(product, in[k], middle[k], right[k]);
            tame = tame && std::abs(*out) <= Real(kTameWeight);
            out += columns;
          }
        }
      }
      if (!unit.in_pairs) break;
    }
  }
  return tame;
}

template <class Real>
bool pack_sampling_unit(const SamplingPlan<Real>& plan, const SamplingUnit& unit, Real* packed) {
  bool tame = true;
  for (const SamplingPart& part : unit.parts)
    for (const SamplingTile& tile : part.tiles) tame &= pack_sampling_tile(plan, unit, part, tile, packed);
  return tame;
}

}  // namespace PYGEN_ISA
}  // namespace pygen
