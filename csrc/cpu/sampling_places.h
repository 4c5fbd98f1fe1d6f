// Where a block's units read and write in one row.
#pragma once

#include "cpu/sampling_pairs.h"

namespace pygen {
inline namespace PYGEN_ISA {

template <class Real>
class SamplingPlaces {
 protected:
  // Images [first, first + images) in `shared` memory, which starts as zeros; `local` is this thread's own.
  SamplingPlaces(const SamplingPlan<Real>& plan, const Real* weights, int64_t images, Real* shared, Real* local)
      : plan_(plan), p_(plan.p), weights_(weights), images_(images), shared_(shared), local_(local) {
    bound_.resize(plan.units.size());
    for (size_t i = 0; i < bound_.size(); ++i) {
      bound_[i].unit = &plan.units[i];
      bound_[i].stride = plan.streams[plan.units[i].stream].stride;
      for (const SamplingPart& part : plan.units[i].parts) {
        bound_[i].parts.emplace_back();
        bound_[i].parts.back().runs.resize(part.runs.size());
        bound_[i].parts.back().tiles.resize(part.tiles.size());
      }
    }
  }

  using Place = SamplingPlace<Real>;
  struct BoundPart {
    std::vector<const Real*> rows;  // of the source, to be split into pairs
    std::vector<const Real*> runs;
    std::vector<SamplingTileArguments<Real>> tiles;
  };
  struct Bound {
    const SamplingUnit* unit;
    int64_t stride;
    std::vector<BoundPart> parts;
    Place own[kSamplingForms], gate[kSamplingForms], gate_add, sum[kSamplingForms];
    bool is_matrix;  // its pixels are rows of one matrix, and what they read of another
    bool has_elu;    // of its own
    bool idle;       // in rows that its LSTM leaves zero
    int phase = 0;   // of Up in this row, at even columns
  };

  Real* row(const SamplingStream& stream, int form, int64_t y) const {
    const SamplingBuffer& buffer = stream.forms[form];
    if (buffer.local) return local_ + buffer.at;
    const int64_t slot = (y + stream.rows) % stream.rows;
    return shared_ + (buffer.at + slot * buffer.row + stream.left * stream.layout_of(form).width()) * images_;
  }
  Place place(int s, int form, int64_t y) const {
    const SamplingStream& stream = plan_.streams[s];
    const SamplingBuffer& buffer = stream.forms[form];
    if (!buffer.present) return {};
    const int64_t width = stream.layout_of(form).width();
    return {row(stream, form, y), buffer.local ? 0 : width, width};
  }

  // y: of the unit's stream.
  void bind(Bound& b, int64_t y) {
    const SamplingUnit& unit = *b.unit;
    const SamplingStream& made = plan_.streams[unit.stream];
    for (int form = 0; form < kSamplingForms; ++form) {
      b.own[form] = place(unit.stream, form, y);
      if (unit.gate >= 0) b.gate[form] = place(unit.gate_stream(), form, y);
      if (unit.sum >= 0) b.sum[form] = place(unit.sum_stream(), form, y);
    }
    b.idle = unit.gate >= 0 && y < p_.stages[unit.gate].first_row;
    if (unit.gate_add >= 0) b.gate_add = place(unit.gate_add, kRaw, y);
    b.has_elu = made.forms[kElu].present || made.forms[kConcatElu].present;
    b.is_matrix =
        !unit.in_pairs && (unit.reach == SamplingReach::Same || (unit.reach == SamplingReach::Down && images_ == 1));
    b.phase = unit.reach == SamplingReach::Up ? static_cast<int>(2 * (y % 2)) : 0;
    for (size_t i = 0; i < unit.parts.size(); ++i) {
      const SamplingPart& part = unit.parts[i];
      BoundPart& bound = b.parts[i];
      SamplingTileArguments<Real> a = bind_source(unit, part, bound, y);
      a.runs = bound.runs.data();
      a.lengths = part.runs.data();
      a.num_runs = static_cast<int64_t>(part.runs.size());
      if (unit.add >= 0) a.add = place(unit.add, kRaw, y);
      a.out[0] = b.own[made.form_of_sums()];
      a.out[1] = b.own[kRectified];
      if (unit.reach == SamplingReach::Up && images_ == 1)  // every second pixel
        for (Place* to : {&a.add, &a.out[0], &a.out[1]}) to->pitch *= 2;
      for (size_t t = 0; t < part.tiles.size(); ++t) {
        const SamplingTile& tile = part.tiles[t];
        a.weights = weights_ + tile.weights;
        a.bias = weights_ + tile.bias;
        a.at = tile.at;
        a.add_at = tile.add.empty() ? nullptr : tile.add.data();
        bound.tiles[t] = a;
      }
    }
  }
  SamplingTileArguments<Real> bind_source(const SamplingUnit& unit, const SamplingPart& part, BoundPart& bound,
                                          int64_t y) const {
    SamplingTileArguments<Real> a{};
    bound.rows.clear();
    if (unit.source < 0) return a;
    const SamplingStream& source = plan_.streams[unit.source];
    const int64_t width = source.layout_of(unit.form).width();
    const bool up = unit.reach == SamplingReach::Up, down = unit.reach == SamplingReach::Down;
    const int64_t from = up ? y / 2 : down ? 2 * y : y;
    // Of Up columns are numbered as those that are made, of which two read the same one.
    const int64_t begin = up && part.phase % 2 ? images_ * width / 2 : 0;
    a.source_step = source.forms[unit.form].local ? 0 : up ? width / 2 : down ? 2 * width : width;
    a.source_pitch = down && images_ == 1 ? 2 * width : width;
    const std::vector<SamplingStage::Tap>& taps = p_.stages[unit.conv].phases[part.phase].taps;
    for (size_t j = 0; j < part.runs.size(); ++j) {
      const SamplingStage::Tap& tap = taps[part.runs[j].tap];
      const Real* of_row = row(source, unit.form, from + tap.dy);
      if (!unit.in_pairs) {
        bound.runs[j] = of_row + tap.dx * images_ * width + part.runs[j].at - begin;
        continue;
      }
      if (part.runs[j].at == 0) bound.rows.push_back(of_row);
      bound.runs[j] = split_row(unit, bound.rows.size() - 1) + part.runs[j].at;
    }
    if (unit.in_pairs) a.source_pitch *= kSamplingProducts;
    return a;
  }

  // The sums and differences of a row of taps.
  Real* split_row(const SamplingUnit& unit, size_t i) const {
    return local_ + unit.split + static_cast<int64_t>(i) * plan_.split_size(unit);
  }

  const SamplingPlan<Real>& plan_;
  const Sampling& p_;
  const Real* weights_;
  int64_t images_;
  Real *shared_, *local_;
  std::vector<Bound> bound_;
};

}  // namespace PYGEN_ISA
}  // namespace pygen
