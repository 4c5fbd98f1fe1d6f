// One thread's work on a block of images: early passes over a row, the late units pixel by pixel, and the draw.
#pragma once

#include "common/gated_activation.h"
#include "cpu/sampling_decide.h"
#include "cpu/sampling_pairs.h"

namespace pygen {
inline namespace PYGEN_ISA {

template <class Real>
class SamplingWorker {
 public:
  // Images [first, first + images) in `shared` memory, which starts as zeros; `local` is this thread's own.
  SamplingWorker(const SamplingPlan<Real>& plan, const Real* weights, int64_t first, int64_t images, Real* shared,
                 Real* local)
      : plan_(plan), p_(plan.p), weights_(weights), first_(first), images_(images), shared_(shared), local_(local) {
    bound_.resize(plan.units.size());
    for (size_t i = 0; i < bound_.size(); ++i) {
      bound_[i].unit = &plan.units[i];
      if (plan.units[i].pass >= 0) first_late_ = i + 1;
      for (const SamplingPart& part : plan.units[i].parts) {
        bound_[i].parts.emplace_back();
        bound_[i].parts.back().runs.resize(part.runs.size());
        bound_[i].parts.back().tiles.resize(part.tiles.size());
      }
    }
    row_of_pass_.assign(plan.passes, -1);
    scratch_.resize(p_.num_levels);
  }

  // Columns [begin, end) of row y of an early pass. Pixels of all images are numbered column by column: m = x * images
  // + image.
  void early(int pass, int64_t y, int64_t begin, int64_t end) {
    if (begin == 0) take_conditions(pass, y);
    if (row_of_pass_[pass] != y) bind_pass(pass, y);
    const int64_t chunk = sampling_chunk(images_);
    for (int64_t m = begin * images_; m < end * images_; m += chunk)
      for (const Bound& b : bound_)
        if (b.unit->pass == pass) run(b, 0, m, std::min(chunk, end * images_ - m));
  }
  // The row of the pixels to come.
  void enter_row(int64_t y) {
    y_ = y;
    take_conditions(-1, y);
    bind_pass(-1, y);
    logits_ = place(plan_.logits(), 0, y);
    for (int form = 0; form < 2; ++form) image_[form] = place(0, form, y);
  }
  void pixel(int64_t x) {
    for (int group = 0; group < p_.groups; ++group) {
      for (size_t i = first_late_; i < bound_.size(); ++i) run(bound_[i], group, x * images_, images_);
      draw(x, group);
    }
  }

 private:
  using Place = SamplingPlace<Real>;
  struct BoundPart {
    std::vector<const Real*> rows;  // of the source, to be split into pairs
    std::vector<const Real*> runs;
    std::vector<SamplingTileArguments<Real>> tiles;
  };
  struct Bound {
    const SamplingUnit* unit;
    std::vector<BoundPart> parts;
    Place in, gate[2];  // of the gate
  };

  Real* row(const SamplingStream& stream, const SamplingBuffer& form, int64_t y) const {
    if (form.local) return local_ + form.at;
    const int64_t slot = (y + stream.rows) % stream.rows;
    return shared_ + (form.at + slot * form.row + stream.left * stream.layout.width()) * images_;
  }
  Place place(int s, int form, int64_t y) const {
    const SamplingStream& stream = plan_.streams[s];
    const SamplingBuffer& buffer = stream.forms[form];
    if (!buffer.present) return {};
    return {row(stream, buffer, y), buffer.local ? 0 : stream.layout.width(), stream.layout.width()};
  }

  // Pass -1: the late units.
  void take_conditions(int pass, int64_t y) {
    for (const SamplingUnit& unit : plan_.units)
      if (unit.cond >= 0 && unit.pass == pass && (y == 0 || p_.stages[unit.gate].cond_is_map)) fill_cond(unit, y);
  }
  void bind_pass(int pass, int64_t y) {
    for (Bound& b : bound_)
      if (b.unit->pass == pass) bind(b, y);
    if (pass >= 0) row_of_pass_[pass] = y;
  }
  void bind(Bound& b, int64_t y) {
    const SamplingUnit& unit = *b.unit;
    b.in = place(unit.stream, 0, y);
    for (int form = 0; form < 2 && unit.gate >= 0; ++form) b.gate[form] = place(unit.gate_stream(), form, y);
    for (size_t i = 0; i < unit.parts.size(); ++i) {
      const SamplingPart& part = unit.parts[i];
      BoundPart& bound = b.parts[i];
      SamplingTileArguments<Real> a{};
      bound.rows.clear();
      if (unit.source >= 0) {
        const SamplingStream& source = plan_.streams[unit.source];
        const SamplingBuffer& form = source.forms[unit.relu];
        a.source_pitch = source.layout.width();
        a.source_step = form.local ? 0 : a.source_pitch;
        for (size_t j = 0; j < part.runs.size(); ++j) {
          const SamplingStage::Tap& tap = p_.stages[unit.conv].taps[part.runs[j].tap];
          if (!unit.in_pairs) {
            bound.runs[j] = row(source, form, y + tap.dy) + tap.dx * images_ * a.source_pitch + part.runs[j].at;
            continue;
          }
          bound.rows.push_back(row(source, form, y + tap.dy));
          bound.runs[j] = local_ + unit.split + static_cast<int64_t>(j) * plan_.split_size(unit);
        }
        if (unit.in_pairs) a.source_pitch *= kSamplingProducts;
      }
      a.runs = bound.runs.data();
      a.lengths = part.runs.data();
      a.num_runs = static_cast<int64_t>(part.runs.size());
      if (unit.add >= 0) a.add = place(unit.add, 0, y);
      for (int form = 0; form < 2; ++form) a.out[form] = place(unit.stream, form, y);
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

  // Pixels [m, m + rows) of one unit.
  void run(const Bound& b, int group, int64_t m, int64_t rows) {
    const SamplingPart& part = b.unit->parts[group];
    const BoundPart& bound = b.parts[group];
    if (b.unit->in_pairs) {
      const int64_t width = plan_.streams[b.unit->source].layout.width(), columns = rows / images_;
      for (size_t j = 0; j < bound.rows.size(); ++j)
        split_pairs(bound.rows[j] + m * width, (columns + 1) / 2, images_, width, const_cast<Real*>(bound.runs[j]));
      for (size_t t = 0; t < part.tiles.size(); ++t)
        sampling_pairs(bound.tiles[t], part.tiles[t].columns, m, columns, images_);
    } else {
      for (size_t t = 0; t < part.tiles.size(); ++t) sampling_rows(bound.tiles[t], part.tiles[t].columns, m, rows);
    }
    if (b.unit->gate >= 0) gate(b, group, m, rows);
  }

  void gate(const Bound& b, int group, int64_t m, int64_t rows) {
    const SamplingUnit& unit = *b.unit;
    const ChannelLayout &from = plan_.streams[unit.stream].layout, &to = plan_.streams[unit.gate_stream()].layout;
    const int64_t parts = static_cast<int64_t>(unit.parts.size()), pairs = parts == 1 ? to.blocks : to.blocks / parts;
    const Real* in = b.in.at(m, 0);
    const Real* cond = unit.cond < 0 ? nullptr : shared_ + unit.cond * images_;
    if (cond && !plan_.cond_is_constant(unit)) cond += m * from.width();
    Real* out = b.gate[0].base ? b.gate[0].at(m, 0) : nullptr;
    Real* rectified = b.gate[1].base ? b.gate[1].at(m, 0) : nullptr;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t pair = group * pairs; pair < (group + 1) * pairs; ++pair) {
        const int64_t at = r * from.width() + 2 * pair * from.pitch, result = r * to.width() + pair * to.pitch;
        gate_run(in + at, cond ? cond + at : nullptr, from.pitch, out ? out + result : nullptr,
                 rectified ? rectified + result : nullptr);
      }
    }
  }
  // `pitch` numbers a, as many b behind them.
  static PYGEN_INLINE void gate_run(const Real* in, const Real* cond, int64_t pitch, Real* out, Real* rectified) {
    using V = std::conditional_t<std::is_same_v<Real, float>, VecF, double>;
    constexpr int64_t kStep = sizeof(V) / sizeof(Real);
    for (int64_t i = 0; i < pitch; i += kStep) {
      V a = load<V>(in + i), b = load<V>(in + pitch + i);
      if (cond) {
        a += load<V>(cond + i);
        b += load<V>(cond + pitch + i);
      }
      const V value = gate_value(a, b);
      if (out) store(out + i, value);
      if (rectified) store(rectified + i, Lanes<V>::at_least(value, 0));
    }
  }

  void fill_cond(const SamplingUnit& unit, int64_t y) {
    const SamplingStage& stage = p_.stages[unit.gate];
    const ChannelLayout& layout = plan_.streams[unit.stream].layout;
    const int64_t channels = layout.channels(), plane = stage.cond_is_map ? p_.height * p_.width : 1;
    const Real* cond = static_cast<const Real*>(stage.cond) + first_ * channels * plane;
    const int64_t columns = plan_.cond_is_constant(unit) ? 1 : p_.width;
    Real* out = shared_ + unit.cond * images_;
    for (int64_t n = 0; n < images_; ++n) {
      for (int64_t c = 0; c < channels; ++c) {
        const Real* in = cond + (n * channels + c) * plane + (stage.cond_is_map ? y * p_.width : 0);
        for (int64_t x = 0; x < columns; ++x)
          out[(x * images_ + n) * layout.width() + layout.at(c)] = in[stage.cond_is_map ? x : 0];
      }
    }
  }

  void draw(int64_t x, int group) {
    const int64_t channels = p_.image_channels(), each = p_.groups == 1 ? channels : channels / p_.groups;
    const ChannelLayout &logits = plan_.streams[plan_.logits()].layout, &image = plan_.streams[0].layout;
    const Real* of_pixel = logits_.at(x * images_, 0);
    for (int64_t n = 0; n < images_; ++n) {
      for (int64_t c = group * each; c < (group + 1) * each; ++c) {
        const int64_t at = (((first_ + n) * channels + c) * p_.height + y_) * p_.width + x;
        const int64_t u_at = (((first_ + n) * p_.height + y_) * p_.width + x) * channels + c;
        const Real* of_value = of_pixel + n * logits.width() + logits.at(c * p_.num_levels);
        const int64_t level = sampling_level(p_, at, u_at, of_value, scratch_.data());
        const Real value = static_cast<const Real*>(p_.scaled)[level];
        const int64_t m = (x * images_ + n) * image.width() + image.at(c);
        if (image_[0].base) image_[0].base[m] = value;
        if (image_[1].base) image_[1].base[m] = value < 0 ? 0 : value;
      }
    }
  }

  const SamplingPlan<Real>& plan_;
  const Sampling& p_;
  const Real* weights_;
  int64_t first_, images_, y_ = 0;
  Real *shared_, *local_;
  std::vector<Bound> bound_;
  std::vector<int64_t> row_of_pass_;
  size_t first_late_ = 0;
  std::vector<double> scratch_;
  Place logits_, image_[2];
};

}  // namespace PYGEN_ISA
}  // namespace pygen
