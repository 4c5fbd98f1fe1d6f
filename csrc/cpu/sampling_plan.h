// A sampling program lowered for one size of image: what is computed together, and where each stream lies.
//
// A stream lies in memory as [row][column][image][channel], so that a row of a block of images, and one pixel of them,
// are both rows of one matrix, and a tap is an offset. It keeps as many rows as are still read, with zeros at both
// ends; what only its own pass reads is kept for the rows of that pass alone, in the cache.
#pragma once

#include <algorithm>

#include "cpu/sampling_units.h"

namespace pygen {
inline namespace PYGEN_ISA {

template <class Real>
struct SamplingPlan : SamplingUnits {
  int64_t images;                                // of a block
  bool ahead;                                    // the next row's early passes run beside this row's late units
  std::vector<std::vector<SamplingNeed>> needs;  // of each pass
  int64_t late_right = 0;  // how far right of a pixel its late units read early streams, in columns of the image
  int64_t shared = 0, local = 0, packed = 0;  // numbers: of an image, of a thread, of all weights

  SamplingPlan(const Sampling& p, int64_t images, bool ahead, bool filtering)
      : SamplingUnits(p), images(images), ahead(ahead) {
    for (SamplingUnit& unit : units) unit.in_pairs = filtering && can_filter(unit);
    trace_uses();
    place();
    for (SamplingUnit& unit : units) {
      const bool up = unit.reach == SamplingReach::Up;
      const int parts = up ? 4 : streams[unit.stream].early ? 1 : static_cast<int>(p.groups);
      for (int i = 0; i < parts; ++i) unit.parts.push_back(up ? make_part(unit, 0, i) : make_part(unit, i, 0));
    }
  }

  // Shared memory of the unit's condition: rows of pixels; of a late gate with one vector per image, that alone.
  bool cond_is_constant(const SamplingUnit& unit) const {
    return !p.stages[unit.gate].cond_is_map && !streams[unit.stream].early;
  }

  // Most rows of a chunk, of these images or fewer.
  int64_t chunk_rows() const { return std::max(kSamplingChunk, 2 * images); }
  // Of one row of taps.
  int64_t split_size(const SamplingUnit& unit) const {
    return chunk_rows() / 2 * kSamplingProducts * streams[unit.source].layout_of(unit.form).width();
  }

 private:
  // Whether the tap ever reads inside the source.
  static bool reaches(const SamplingStage::Tap& tap, const SamplingStream& source) {
    return -tap.dy < source.height && std::abs(tap.dx) < source.columns;
  }

  // Rows of three taps side by side, one of them the present row, over a gate's result or elu.
  bool can_filter(const SamplingUnit& unit) const {
    if (unit.pass < 0 || unit.conv < 0 || unit.reach != SamplingReach::Same) return false;
    if (unit.form <= kRectified && !is_bounded(unit)) return false;
    if (unit.add >= 0 && !streams[unit.stream].layout.same_places(streams[unit.add].layout)) return false;
    const std::vector<SamplingStage::Tap> taps = taps_of(unit);
    bool present = false;
    for (size_t t = 0; t < taps.size(); ++t) {
      if (taps[t].dx != static_cast<int64_t>(t % 3) - 1 || taps[t].dy != taps[t / 3 * 3].dy) return false;
      present = present || taps[t].dy == 0;
    }
    return present && taps.size() % 3 == 0 && streams[unit.source].columns > 1;
  }
  bool is_bounded(const SamplingUnit& unit) const {
    if (unit.source == 0) return false;
    const SamplingStage& maker = p.stages[unit.source - 1];
    return maker.kind == SamplingStage::Kind::Gate && !maker.linear && maker.add < 0;
  }

  void trace_uses() {
    needs.resize(passes);
    streams[0].local = false;
    streams[logits()].forms[kRaw].present = true;
    streams[logits()].read_late = true;
    if (streams[logits()].early) streams[logits()].local = false;
    for (const SamplingUnit& unit : units) {
      const int pass = streams[unit.stream].pass;
      const bool same = unit.reach == SamplingReach::Same;
      if (!same) streams[unit.stream].local = false;
      if (unit.gate >= 0) streams[unit.stream].forms[kRaw].present = true;
      for (int s : {unit.add, unit.gate_add}) {
        if (s < 0) continue;
        streams[s].forms[kRaw].present = true;
        if (streams[s].pass != pass || !same) streams[s].local = false;
        trace_need(pass, s, {0, 0});
      }
      if (unit.source < 0) continue;
      SamplingStream& source = streams[unit.source];
      source.forms[unit.form].present = true;
      source.watched = source.watched || (unit.in_pairs && unit.form > kRectified);
      if (source.pass != pass || !same) source.local = false;
      for (const SamplingStage::Tap& tap : taps_of(unit)) {
        if (!reaches(tap, source)) continue;
        if (tap.dy || tap.dx) source.local = false;
        source.back = std::max(source.back, -tap.dy);
        source.left = std::max(source.left, -tap.dx);
        source.right = std::max(source.right, tap.dx + unit.in_pairs);
        trace_need(pass, unit.source, tap);
      }
    }
  }

  // What a unit of that pass reads of stream s.
  void trace_need(int pass, int s, const SamplingStage::Tap& tap) {
    const int made = streams[s].pass;
    const int64_t right = tap.dx * streams[s].stride;
    if (pass == passes) {
      streams[s].read_late = true;
      late_right = std::max(late_right, right);
    } else if (made == passes ? tap.dy * streams[s].stride == -1 : tap.dy == 0 && made != pass) {
      needs[pass].push_back({made == passes ? -1 : made, right});
    }
  }

  void place() {
    for (SamplingStream& stream : streams) {
      stream.rows = stream.back + 1 + (ahead && stream.early && stream.read_late);
      for (int f = 0; f < kSamplingForms; ++f) {
        SamplingBuffer& form = stream.forms[f];
        if (!form.present) continue;
        const int64_t width = stream.layout_of(f).width();
        form.local = stream.local;
        if (form.local) {
          form.at = local;
          local += (stream.early ? chunk_rows() : images) * width;
        } else {
          form.at = shared;
          form.row = (stream.left + stream.columns + stream.right) * width;
          shared += stream.rows * form.row;
        }
      }
    }
    for (SamplingUnit& unit : units) {
      if (!unit.in_pairs) continue;
      unit.split = local;
      const int64_t rows = static_cast<int64_t>(taps_of(unit).size()) / 3;
      local += rows * split_size(unit);
    }
    for (SamplingUnit& unit : units) {
      if (is_lstm(unit)) place_cells(unit);
      if (unit.gate < 0 || !p.stages[unit.gate].cond) continue;
      unit.cond = shared;
      const SamplingStream& made = streams[unit.stream];
      shared += (cond_is_constant(unit) ? 1 : made.columns) * made.layout.width();
    }
  }

  void place_cells(SamplingUnit& unit) {
    const SamplingStream& made = streams[unit.gate_stream()];
    if (scans(unit)) {
      unit.cells = local;
      local += images * made.layout.width();
    } else {
      unit.cells = shared;
      shared += made.columns * made.layout.width();
    }
  }

  // Registers of a tile: two where there are rows enough.
  int columns_of(const SamplingUnit& unit) const {
    return streams[unit.stream].early && !scans(unit) ? 2 : sampling_columns(images);
  }

  SamplingPart make_part(const SamplingUnit& unit, int group, size_t phase) {
    SamplingPart part;
    part.phase = phase;
    const ChannelLayout& layout = streams[unit.stream].layout;
    const bool early = streams[unit.stream].early;
    int64_t steps = 0;
    if (unit.conv >= 0) {
      const ChannelLayout from = streams[unit.source].layout_of(unit.form);
      const std::vector<SamplingStage::Tap>& taps = p.stages[unit.conv].phases[phase].taps;
      for (size_t t = 0; t < taps.size(); ++t) {
        const SamplingStage::Tap& tap = taps[t];
        if (!reaches(tap, streams[unit.source]) || (unit.in_pairs && t % 3)) continue;
        int64_t limit = from.channels();
        if (!early && !streams[unit.source].early && tap.dy == 0 && tap.dx == 0)
          limit = from.channels() / p.groups * (group + !p.stages[unit.conv].strict);
        bool joins = false;  // the run before, as its block fills its vectors
        for (int64_t c = 0; c < limit; c += from.count) {
          const int64_t count = std::min(from.count, limit - c);
          if (joins) {
            part.runs.back().count += count;
          } else {
            part.runs.push_back({t, from.at(c), count});
          }
          joins = from.count == from.pitch;
          steps += unit.in_pairs ? kSamplingProducts * count : count;
        }
      }
    }
    const int64_t lanes = kRegLanes<Real>, blocks = early ? layout.blocks : layout.blocks / p.groups;
    const int64_t registers = blocks * ((layout.count + lanes - 1) / lanes), most = columns_of(unit);
    const int64_t tiles = (registers + most - 1) / most;
    int64_t made = 0;
    const bool other_layout = unit.add >= 0 && !layout.same_places(streams[unit.add].layout);
    for (int64_t block = group * blocks; block < (group + 1) * blocks; ++block) {
      for (int64_t r = 0; r < layout.count; r += lanes) {
        if (made++ == registers * static_cast<int64_t>(part.tiles.size()) / tiles) part.tiles.emplace_back();
        SamplingTile& tile = part.tiles.back();
        tile.at[tile.columns++] = block * layout.pitch + r;
        for (int64_t l = 0; other_layout && l < lanes; ++l)
          tile.add.push_back(streams[unit.add].layout.at(block * layout.count + std::min(r + l, layout.count - 1)));
      }
    }
    for (SamplingTile& tile : part.tiles) {
      tile.bias = packed;
      tile.weights = packed + tile.columns * lanes;
      packed += (steps + 1) * tile.columns * lanes;
    }
    return part;
  }
};

}  // namespace PYGEN_ISA
}  // namespace pygen
