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
  const Real* rows[kSamplingColumns * kRegLanes<Real>];  // of each lane's channel; nullptr where there is none
  for (int64_t j = 0; j < columns; ++j) {
    const int64_t at = tile.at[j / lanes] + j % lanes, block = at / layout.pitch, inside = at % layout.pitch;
    const int64_t channel = inside < layout.count ? block * layout.count + inside : -1;
    packed[tile.bias + j] = bias && channel >= 0 ? bias[channel] : Real(0);
    rows[j] = conv && channel >= 0 ? static_cast<const Real*>(read->weight) + channel * read->out_stride : nullptr;
  }
  Real* out = packed + tile.weights;
  bool tame = true;
  for (const std::array<int, 2>& products : {std::array<int, 2>{1, 2}, {0, 3}}) {
    for (const SamplingRun& run : part.runs) {
      const int64_t first = run.at / from.pitch * from.count + run.at % from.pitch, tap = read->tap_stride;
      int64_t in = static_cast<int64_t>(run.tap) * tap + first * read->in_stride;
      for (int64_t k = 0; k < run.count; ++k, in += read->in_stride) {
        if (!unit.in_pairs) {
          for (int64_t j = 0; j < columns; ++j) *out++ = rows[j] ? rows[j][in] : Real(0);
          continue;
        }
        for (int product : products) {
          for (int64_t j = 0; j < columns; ++j, ++out) {
            const Real* w = rows[j] ? rows[j] + in : nullptr;
            *out = w ? sampling_product_weight(product, w[0], w[tap], w[2 * tap]) : Real(0);
            tame = tame && std::abs(*out) <= Real(kTameWeight);
          }
        }
      }
    }
    if (!unit.in_pairs) break;
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
