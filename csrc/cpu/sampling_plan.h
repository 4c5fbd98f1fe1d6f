// A sampling program lowered for one size of image: which stages run together, and where each stream lies.
//
// Stages become units: a convolution with the gate behind it, if any. A stream lies in memory as [row][column][image]
// [channel], so that a row of a block of images, and one pixel of them, are both rows of one matrix, and a tap is an
// offset. It keeps as many rows as are still read, with zeros at both ends; what only its own pass reads is kept for
// the rows of that pass alone, in the cache. Early units form passes: within one, what a unit makes is read at the same
// pixel only, so that threads and chunks meet between passes.
#pragma once

#include <algorithm>
#include <cstdlib>

#include "cpu/sampling_parts.h"

namespace pygen {
inline namespace PYGEN_ISA {

template <class Real>
struct SamplingPlan {
  const Sampling& p;
  int64_t images;  // of a block
  bool ahead;      // the next row's early passes run beside this row's late units
  std::vector<SamplingStream> streams;
  std::vector<SamplingUnit> units;  // early ones first, pass after pass
  int passes = 0;
  std::vector<std::vector<SamplingNeed>> needs;  // of each pass
  int64_t late_right = 0;                        // how far right of a pixel its late units read early streams
  int64_t shared = 0, local = 0, packed = 0;     // numbers: of an image, of a thread, of all weights
  int logits() const { return static_cast<int>(p.stages.size()); }

  SamplingPlan(const Sampling& p, int64_t images, bool ahead, bool filtering)
      : p(p), images(images), ahead(ahead), streams(p.channels.size()) {
    for (size_t s = 0; s < streams.size(); ++s) streams[s].early = p.early[s];
    make_units();
    choose_layouts();
    form_passes();
    for (SamplingUnit& unit : units) unit.in_pairs = filtering && can_filter(unit);
    trace_uses();
    place();
    for (SamplingUnit& unit : units) {
      const int groups = streams[unit.stream].early ? 1 : static_cast<int>(p.groups);
      for (int g = 0; g < groups; ++g) unit.parts.push_back(make_part(unit, g));
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
    return chunk_rows() / 2 * kSamplingProducts * streams[unit.source].layout.width();
  }

 private:
  const std::vector<SamplingStage::Tap>& taps_of(const SamplingUnit& unit) const {
    return p.stages[std::max(unit.conv, unit.gate * (unit.conv < 0))].taps;  // a gate has none
  }
  bool reaches(const SamplingStage::Tap& tap) const { return -tap.dy < p.height && std::abs(tap.dx) < p.width; }

  void make_units() {
    const int n = static_cast<int>(p.stages.size());
    std::vector<int> gate_of(n + 1, -1);  // of each stream the gate that is computed with it
    for (int s = n - 1; s >= 0; --s)
      if (p.stages[s].gate) gate_of[p.stages[s].source] = s;
    gate_of[0] = -1;
    for (int s = 0; s < n; ++s) {
      const SamplingStage& stage = p.stages[s];
      SamplingUnit unit;
      if (!stage.gate) {
        unit.conv = s;
        unit.stream = s + 1;
        unit.gate = gate_of[s + 1];
        unit.source = static_cast<int>(stage.source);
        unit.add = static_cast<int>(stage.add);
        unit.relu = stage.relu;
      } else if (stage.source == 0 || gate_of[stage.source] != s || p.stages[stage.source - 1].gate) {
        unit.gate = s;
        unit.add = static_cast<int>(stage.source);
        unit.stream = static_cast<int>(streams.size());
        streams.emplace_back();
        streams.back().early = streams[unit.add].early;
      } else {
        continue;
      }
      units.push_back(unit);
    }
  }

  void choose_layouts() {
    const auto choose = [&](int s, int64_t channels, int64_t blocks) {
      streams[s].layout = ChannelLayout(channels, blocks);
      if (!streams[s].early && blocks % p.groups)
        throw std::invalid_argument("sampling: a late stream's blocks do not divide by the colour groups");
    };
    choose(0, p.channels[0], p.groups);
    for (const SamplingUnit& unit : units) {
      if (unit.gate < 0) continue;
      const SamplingStage& gate = p.stages[unit.gate];
      choose(unit.stream, p.channels[gate.source], 2 * gate.groups);
      choose(unit.gate_stream(), p.channels[unit.gate_stream()], gate.groups);
    }
    for (auto unit = units.rbegin(); unit != units.rend(); ++unit) {
      const SamplingStream& made = streams[unit->stream];
      if (!made.layout.blocks) choose(unit->stream, p.channels[unit->stream], made.early ? 1 : p.groups);
      if (unit->add > 0 && !streams[unit->add].layout.blocks)
        choose(unit->add, p.channels[unit->add], made.layout.blocks);
    }
  }

  void form_passes() {
    for (SamplingUnit& unit : units) {
      if (!streams[unit.stream].early) continue;
      if (passes == 0) passes = 1;
      for (const SamplingStage::Tap& tap : taps_of(unit))
        if (tap.dy == 0 && tap.dx != 0 && streams[unit.source].pass == passes - 1) {
          ++passes;
          break;
        }
      unit.pass = streams[unit.stream].pass = passes - 1;
      if (unit.gate >= 0) streams[unit.gate_stream()].pass = unit.pass;
    }
    std::stable_partition(units.begin(), units.end(), [&](const SamplingUnit& u) { return u.pass >= 0; });
    for (SamplingStream& stream : streams)
      if (stream.pass < 0) stream.pass = passes;  // late
  }

  // Rows of three taps side by side, one of them the present row, over a gate's result.
  bool can_filter(const SamplingUnit& unit) const {
    if (unit.pass < 0 || unit.conv < 0 || unit.add >= 0 || unit.source == 0 || !p.stages[unit.source - 1].gate)
      return false;
    const std::vector<SamplingStage::Tap>& taps = taps_of(unit);
    bool present = false;
    for (size_t t = 0; t < taps.size(); ++t) {
      if (taps[t].dx != static_cast<int64_t>(t % 3) - 1 || taps[t].dy != taps[t / 3 * 3].dy) return false;
      present = present || taps[t].dy == 0;
    }
    return present && taps.size() % 3 == 0 && p.width > 1;
  }

  void trace_uses() {
    needs.resize(passes);
    streams[0].local = false;
    streams[logits()].forms[0].present = true;
    streams[logits()].read_late = true;
    if (streams[logits()].early) streams[logits()].local = false;
    for (const SamplingUnit& unit : units) {
      const int pass = streams[unit.stream].pass;
      if (unit.gate >= 0) streams[unit.stream].forms[0].present = true;
      if (unit.add >= 0) {
        streams[unit.add].forms[0].present = true;
        if (streams[unit.add].pass != pass) streams[unit.add].local = false;
        trace_need(pass, unit.add, {0, 0});
      }
      if (unit.source < 0) continue;
      SamplingStream& source = streams[unit.source];
      source.forms[unit.relu].present = true;
      if (source.pass != pass) source.local = false;
      for (const SamplingStage::Tap& tap : taps_of(unit)) {
        if (!reaches(tap)) continue;
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
    if (pass == passes) {
      streams[s].read_late = true;
      late_right = std::max(late_right, tap.dx);
    } else if (made == passes ? tap.dy == -1 : tap.dy == 0 && made != pass) {
      needs[pass].push_back({made == passes ? -1 : made, tap.dx});
    }
  }

  void place() {
    for (SamplingStream& stream : streams) {
      stream.rows = stream.back + 1 + (ahead && stream.early && stream.read_late);
      for (SamplingBuffer& form : stream.forms) {
        if (!form.present) continue;
        form.local = stream.local;
        if (form.local) {
          form.at = local;
          local += (stream.early ? chunk_rows() : images) * stream.layout.width();
        } else {
          form.at = shared;
          form.row = (stream.left + p.width + stream.right) * stream.layout.width();
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
      if (unit.gate < 0 || !p.stages[unit.gate].cond) continue;
      unit.cond = shared;
      shared += (cond_is_constant(unit) ? 1 : p.width) * streams[unit.stream].layout.width();
    }
  }

  // Registers of a tile: two where there are rows enough.
  int columns_of(const SamplingUnit& unit) const { return streams[unit.stream].early ? 2 : sampling_columns(images); }

  SamplingPart make_part(const SamplingUnit& unit, int group) {
    SamplingPart part;
    const ChannelLayout& layout = streams[unit.stream].layout;
    const bool early = streams[unit.stream].early;
    int64_t steps = 0;
    if (unit.conv >= 0) {
      const ChannelLayout& from = streams[unit.source].layout;
      const std::vector<SamplingStage::Tap>& taps = p.stages[unit.conv].taps;
      for (size_t t = 0; t < taps.size(); ++t) {
        const SamplingStage::Tap& tap = taps[t];
        if (!reaches(tap) || (unit.in_pairs && t % 3)) continue;
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
