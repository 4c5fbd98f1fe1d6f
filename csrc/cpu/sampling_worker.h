// One thread's work on a block of images: early passes over a row, the late units pixel by pixel, and the draw.
#pragma once

#include "cpu/sampling_decide.h"
#include "cpu/sampling_gate.h"
#include "cpu/sampling_mixture.h"
#include "cpu/sampling_places.h"

namespace pygen {
inline namespace PYGEN_ISA {

template <class Real>
class SamplingWorker : SamplingPlaces<Real> {
 public:
  // Images [first, first + images) in `shared` memory, which starts as zeros; `local` is this thread's own.
  SamplingWorker(const SamplingPlan<Real>& plan, const Real* weights, int64_t first, int64_t images, Real* shared,
                 Real* local)
      : SamplingPlaces<Real>(plan, weights, images, shared, local),
        first_(first),
        scratch_(plan.p.num_mixtures ? 0 : plan.p.num_levels),
        mixture_(plan.p),
        tameness_(images) {
    row_of_pass_.assign(plan.passes, -1);
  }

  // Columns [begin, end) of row y of the image, of an early pass; of one that scans all. Pixels of all images are
  // numbered column by column: m = x * images + image.
  void early(int pass, int64_t y, int64_t begin, int64_t end) {
    const int64_t stride = plan_.pass_strides[pass];
    if (y % stride) return;
    if (begin == 0) take_conditions(pass, y);
    if (row_of_pass_[pass] != y) bind_pass(pass, y);
    if (plan_.pass_scans[pass]) return scan(pass);
    const int64_t chunk = sampling_chunk(images_);
    const int64_t first = (begin + stride - 1) / stride * images_, last = (end + stride - 1) / stride * images_;
    for (int64_t m = first; m < last; m += chunk)
      for (size_t i = begin_of(pass); i < end_of(pass); ++i) run(bound_[i], 0, m, std::min(chunk, last - m));
  }
  // The row of the pixels to come.
  void enter_row(int64_t y) {
    y_ = y;
    take_conditions(plan_.passes, y);
    bind_pass(plan_.passes, y);
    logits_ = place(plan_.logits(), kRaw, y);
    for (int form = 0; form < kSamplingForms; ++form) image_[form] = place(0, form, y);
  }
  void pixel(int64_t x) {
    for (int group = 0; group < p_.groups; ++group) {
      for (size_t i = begin_of(plan_.passes); i < bound_.size(); ++i) {
        const Bound& b = bound_[i];
        if (b.stride == 1) {
          run(b, group, x * images_, images_);
        } else if (((x | y_) & (b.stride - 1)) == 0) {
          run(b, group, x / b.stride * images_, images_);
        }
      }
      draw(x, group);
    }
  }
  // Whether what this thread made of an image can be read in pairs.
  bool tame(int64_t image) const { return tameness_[image].tame(); }

 private:
  using Base = SamplingPlaces<Real>;
  using Base::place, Base::bind, Base::split_row;
  using Base::plan_, Base::p_, Base::weights_, Base::images_, Base::shared_, Base::local_, Base::bound_;
  using typename Base::Bound, typename Base::BoundPart, typename Base::Place;

  // Units of a pass; behind all passes the late ones.
  size_t begin_of(int pass) const { return pass == 0 ? 0 : plan_.pass_ends[pass - 1]; }
  size_t end_of(int pass) const { return pass == plan_.passes ? bound_.size() : plan_.pass_ends[pass]; }

  // y: of the image, here and below, until a stream's own row is meant.
  void take_conditions(int pass, int64_t y) {
    for (size_t i = begin_of(pass); i < end_of(pass); ++i) {
      const SamplingUnit& unit = plan_.units[i];
      const int64_t stride = bound_[i].stride;
      if (unit.cond >= 0 && y % stride == 0 && (y == 0 || p_.stages[unit.gate].cond_is_map))
        fill_cond(unit, y / stride);
    }
  }
  void bind_pass(int pass, int64_t y) {
    for (size_t i = begin_of(pass); i < end_of(pass); ++i)
      if (y % bound_[i].stride == 0) bind(bound_[i], y / bound_[i].stride);
    if (pass < plan_.passes) row_of_pass_[pass] = y;
  }
  // The LSTM of a pass, along the row.
  void scan(int pass) {
    const Bound& b = bound_[begin_of(pass)];
    const int64_t width = p_.width;
    const bool from_right = p_.stages[b.unit->gate].before.dx > 0;
    for (int64_t i = 0; i < width; ++i) run(b, 0, (from_right ? width - 1 - i : i) * images_, images_);
  }
  // Pixels [m, m + rows) of one unit.
  void run(const Bound& b, int group, int64_t m, int64_t rows) {
    if (b.idle) return;
    const SamplingPart& part = b.unit->parts[group];
    const BoundPart& bound = b.parts[group];
    if (b.is_matrix) {
      tiles(part, bound, m, rows);
    } else if (b.unit->in_pairs) {
      pairs(*b.unit, part, bound, m, rows);
    } else if (b.unit->reach == SamplingReach::Up) {
      for (int column = 0; column < 2; ++column) up(b, b.phase + column, m, rows);
    } else {
      for (int64_t done = 0; done < rows; done += images_) tiles(part, bound, m + done, images_);
    }
    if (b.has_elu) {
      const int64_t width = plan_.streams[b.unit->stream].layout.width();
      for (int64_t r = 0; r < rows; ++r)
        elu_run(SamplingForms<Real>(b.own, width, m, r), width, tameness_of(b.unit->stream, r));
    }
    if (plan_.is_lstm(*b.unit)) {
      lstm(b, group, m, rows);
    } else if (b.unit->gate >= 0) {
      gate(b, group, m, rows);
    }
  }
  void pairs(const SamplingUnit& unit, const SamplingPart& part, const BoundPart& bound, int64_t m, int64_t rows) {
    const int64_t width = plan_.streams[unit.source].layout_of(unit.form).width(), columns = rows / images_;
    for (size_t j = 0; j < bound.rows.size(); ++j)
      split_pairs(bound.rows[j] + m * width, (columns + 1) / 2, images_, width, split_row(unit, j));
    for (size_t t = 0; t < part.tiles.size(); ++t)
      sampling_pairs(bound.tiles[t], part.tiles[t].columns, m, columns, images_);
  }
  PYGEN_INLINE void tiles(const SamplingPart& part, const BoundPart& bound, int64_t m, int64_t rows) {
    for (size_t t = 0; t < part.tiles.size(); ++t) sampling_rows(bound.tiles[t], part.tiles[t].columns, m, rows);
  }
  // Of these pixels those in even, or odd, columns.
  void up(const Bound& b, int phase, int64_t m, int64_t rows) {
    const SamplingPart& part = b.unit->parts[phase];
    const BoundPart& bound = b.parts[phase];
    const int64_t x = m / images_, end = (m + rows) / images_, first = x + ((x ^ phase) & 1);
    if (images_ == 1) {
      if (first < end) tiles(part, bound, first, (end - first + 1) / 2);
      return;
    }
    for (int64_t column = first; column < end; column += 2) tiles(part, bound, column * images_, images_);
  }

  // Of pixel r at work, if the stream is watched.
  SamplingTameness<Real>* tameness_of(int stream, int64_t r) {
    return plan_.streams[stream].watched ? &tameness_[r % images_] : nullptr;
  }

  void gate(const Bound& b, int group, int64_t m, int64_t rows) {
    const SamplingUnit& unit = *b.unit;
    const ChannelLayout &from = plan_.streams[unit.stream].layout, &to = plan_.streams[unit.gate_stream()].layout;
    const int64_t parts = static_cast<int64_t>(unit.parts.size()), pairs = parts == 1 ? to.blocks : to.blocks / parts;
    const Real* in = b.own[kRaw].at(m, 0);
    const Real* cond = unit.cond < 0 ? nullptr : shared_ + unit.cond * images_;
    if (cond && !plan_.cond_is_constant(unit)) cond += m * from.width();
    const bool linear = p_.stages[unit.gate].linear;
    for (int64_t r = 0; r < rows; ++r) {
      const SamplingForms<Real> forms(b.gate, to.width(), m, r);
      const Real* added = unit.gate_add < 0 ? nullptr : b.gate_add.at(m, r);
      SamplingTameness<Real>* tameness = tameness_of(unit.gate_stream(), r);
      for (int64_t pair = group * pairs; pair < (group + 1) * pairs; ++pair) {
        const int64_t at = r * from.width() + 2 * pair * from.pitch, result = pair * to.pitch;
        const Real* here = cond ? cond + at : nullptr;
        if (linear) {
          gate_run<true>(in + at, here, added, from.pitch, forms, result, tameness);
        } else {
          gate_run<false>(in + at, here, added, from.pitch, forms, result, tameness);
        }
      }
    }
  }

  void lstm(const Bound& b, int group, int64_t m, int64_t rows) {
    const SamplingUnit& unit = *b.unit;
    const SamplingStage& stage = p_.stages[unit.gate];
    const ChannelLayout &from = plan_.streams[unit.stream].layout, &to = plan_.streams[unit.gate_stream()].layout;
    const int64_t blocks = to.blocks / static_cast<int64_t>(unit.parts.size());
    const bool along = stage.before.dy == 0;
    const bool first = along && m == (stage.before.dx > 0 ? (p_.width - 1) * images_ : 0);
    Real* c = along ? local_ + unit.cells : shared_ + unit.cells * images_ + m * to.width();
    for (int64_t r = 0; r < rows; ++r, c += to.width()) {
      const SamplingForms<Real> forms(b.gate, to.width(), m, r), sums(b.sum, to.width(), m, r);
      const Real *in = b.own[kRaw].at(m, r), *added = unit.gate_add < 0 ? nullptr : b.gate_add.at(m, r);
      for (int64_t block = group * blocks; block < (group + 1) * blocks; ++block)
        lstm_run(in + 4 * block * from.pitch, c + block * to.pitch, first, added, to.pitch, forms, sums,
                 block * to.pitch);
    }
  }

  // y: of the stream.
  void fill_cond(const SamplingUnit& unit, int64_t y) {
    const SamplingStage& stage = p_.stages[unit.gate];
    const SamplingStream& stream = plan_.streams[unit.stream];
    const ChannelLayout& layout = stream.layout;
    const int64_t channels = layout.channels(), plane = stage.cond_is_map ? stream.height * stream.columns : 1;
    const Real* cond = static_cast<const Real*>(stage.cond) + first_ * channels * plane;
    const int64_t columns = plan_.cond_is_constant(unit) ? 1 : stream.columns;
    Real* out = shared_ + unit.cond * images_;
    for (int64_t n = 0; n < images_; ++n) {
      for (int64_t c = 0; c < channels; ++c) {
        const Real* in = cond + (n * channels + c) * plane + (stage.cond_is_map ? y * stream.columns : 0);
        for (int64_t x = 0; x < columns; ++x)
          out[(x * images_ + n) * layout.width() + layout.at(c)] = in[stage.cond_is_map ? x : 0];
      }
    }
  }

  void draw(int64_t x, int group) {
    const int64_t channels = p_.in_channels, each = p_.groups == 1 ? channels : channels / p_.groups;
    const ChannelLayout &logits = plan_.streams[plan_.logits()].layout, &image = plan_.streams[0].layout;
    const Real *of_pixel = logits_.at(x * images_, 0), *scaled = static_cast<const Real*>(p_.scaled);
    for (int64_t n = 0; n < images_; ++n, of_pixel += logits.width()) {
      const int64_t pixel = y_ * p_.width + x, plane = p_.height * p_.width;
      const int64_t at = (first_ + n) * channels * plane + pixel, u_at = ((first_ + n) * plane + pixel) * channels;
      const SamplingForms<Real> forms(image_, image.width(), x * images_, n);
      if (p_.num_mixtures) mixture_.begin(of_pixel, logits);
      for (int64_t c = group * each; c < (group + 1) * each; ++c) {
        const int64_t of_value = at + c * plane;
        const int64_t level =
            p_.num_mixtures
                ? mixture_.level(c, of_value, u_at + c)
                : sampling_level(p_, of_value, u_at + c, of_pixel + logits.at(c * p_.num_levels), scratch_.data());
        forms.put(image.at(c), scaled[level]);
      }
      if (image.channels() > channels) forms.put(image.at(channels), Real(1));
    }
  }

  int64_t first_, y_ = 0;
  std::vector<int64_t> row_of_pass_;
  std::vector<double> scratch_;
  SamplingMixture<Real> mixture_;
  std::vector<SamplingTameness<Real>> tameness_;  // of each image
  Place logits_, image_[kSamplingForms];
};

}  // namespace PYGEN_ISA
}  // namespace pygen
