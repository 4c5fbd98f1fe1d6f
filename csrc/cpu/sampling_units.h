// A sampling program cut into what is computed together.
//
// Stages become units: a convolution with the gate or LSTM behind it, if any; an LSTM along the row is a unit of its
// own, whose convolution reads what it made of the pixel beside. Elu is no unit but a form of what it is taken of.
// Early units form passes: within one, what a unit makes is read at the same pixel only, so that threads and chunks
// meet between passes, and all streams have the same stride. An early LSTM along the row is a pass that scans.
#pragma once

#include <cstdlib>

#include "cpu/sampling_parts.h"

namespace pygen {
inline namespace PYGEN_ISA {

struct SamplingUnits {
  const Sampling& p;
  std::vector<SamplingStream> streams;
  std::vector<SamplingUnit> units;  // early ones first, pass after pass
  int passes = 0;
  std::vector<int64_t> pass_strides;
  std::vector<bool> pass_scans;
  std::vector<size_t> pass_ends;  // units of a pass lie before its end and behind the one before; the others are late
  int logits() const { return static_cast<int>(p.stages.size()); }
  bool is_lstm(const SamplingUnit& unit) const {
    return unit.gate >= 0 && p.stages[unit.gate].kind == SamplingStage::Kind::Lstm;
  }

 protected:
  explicit SamplingUnits(const Sampling& p) : p(p), streams(p.channels.size()) {
    for (size_t s = 0; s < streams.size(); ++s) {
      streams[s].early = p.early[s];
      set_stride(streams[s], p.strides[s]);
    }
    make_units();
    add_sums();
    choose_layouts();
    form_passes();
  }

  // Whether it goes along the row, pixel after pixel.
  bool scans(const SamplingUnit& unit) const { return is_lstm(unit) && unit.conv == unit.gate; }

  // All taps, of whatever phase.
  std::vector<SamplingStage::Tap> taps_of(const SamplingUnit& unit) const {
    std::vector<SamplingStage::Tap> taps;
    if (unit.conv < 0) return taps;  // a gate has none
    for (const SamplingStage::Phase& phase : p.stages[unit.conv].phases)
      taps.insert(taps.end(), phase.taps.begin(), phase.taps.end());
    return taps;
  }

 private:
  void set_stride(SamplingStream& stream, int64_t stride) const {
    stream.stride = stride;
    stream.columns = (p.width + stride - 1) / stride;
    stream.height = (p.height + stride - 1) / stride;
  }

  // The stream itself, or the one that it is elu of.
  int behind_elu(int64_t s) const {
    const bool elu = s > 0 && p.stages[s - 1].kind == SamplingStage::Kind::Elu;
    return static_cast<int>(elu ? p.stages[s - 1].source : s);
  }
  int form_read(const SamplingStage& stage) const {
    if (behind_elu(stage.source) == stage.source) return stage.relu ? kRectified : kRaw;
    return p.stages[stage.source - 1].concat ? kConcatElu : kElu;
  }
  int plain(int64_t s) const {
    if (s >= 0 && behind_elu(s) != s)
      throw std::invalid_argument("sampling: elu is read by something else than a convolution");
    return static_cast<int>(s);
  }

  void make_units() {
    using Kind = SamplingStage::Kind;
    const int n = static_cast<int>(p.stages.size());
    std::vector<int> gate_of(n + 1, -1);  // of each stream the gate that is computed with it
    for (int s = n - 1; s >= 0; --s) {
      const SamplingStage& stage = p.stages[s];
      const bool fits = stage.kind == Kind::Gate || (stage.kind == Kind::Lstm && stage.phases.empty());
      if (fits && stage.source > 0 && stage.add < stage.source && p.stages[stage.source - 1].kind == Kind::Conv &&
          p.early[stage.source] == p.early[s + 1])
        gate_of[stage.source] = s;
    }
    plain(logits());
    for (int s = 0; s < n; ++s) {
      const SamplingStage& stage = p.stages[s];
      SamplingUnit unit;
      if (stage.convolves()) {
        unit.conv = s;
        unit.stream = s + 1;
        unit.gate = gate_of[s + 1];
        unit.source = behind_elu(stage.source);
        unit.form = form_read(stage);
        unit.add = plain(stage.add);
        if (stage.kind == Kind::Up) {
          unit.reach = SamplingReach::Up;
        } else if (p.strides[s + 1] != p.strides[stage.source]) {
          unit.reach = SamplingReach::Down;
        }
        if ((stage.relu || p.groups > 1) && unit.source != stage.source)
          throw std::invalid_argument("sampling: elu is read through relu, or by colour groups");
      } else if ((stage.kind == Kind::Gate || stage.kind == Kind::Lstm) && gate_of[stage.source] != s) {
        unit.gate = s;
        unit.add = plain(stage.source);
        unit.stream = static_cast<int>(streams.size());
        streams.emplace_back();
        streams.back().early = p.early[s + 1];
        set_stride(streams.back(), p.strides[s + 1]);
        if (!stage.phases.empty()) {
          unit.conv = s;
          unit.source = s + 1;
        }
      } else {
        if (stage.kind == Kind::Elu) plain(stage.source);
        continue;
      }
      if (unit.gate >= 0) unit.gate_add = plain(p.stages[unit.gate].add);
      units.push_back(unit);
    }
  }

  void add_sums() {
    for (size_t s = 0; s < p.stages.size(); ++s) {
      const SamplingStage& stage = p.stages[s];
      if (stage.kind == SamplingStage::Kind::Lstm && stage.phases.empty() == (stage.before.dy == 0))
        throw std::invalid_argument("sampling: an LSTM along the row needs a weight, another one has none");
      if (stage.kind != SamplingStage::Kind::Sum) continue;
      const auto unit = std::find_if(units.begin(), units.end(), [&](const SamplingUnit& u) {
        return is_lstm(u) && u.gate_stream() == stage.source && u.sum < 0;
      });
      if (unit == units.end() || p.early[stage.source] || !p.early[stage.add])
        throw std::invalid_argument("sampling: a sum of other streams than an LSTM's and an early one");
      unit->sum = static_cast<int>(s);
      unit->gate_add = plain(stage.add);
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
      choose(unit.stream, p.channels[gate.source], (is_lstm(unit) ? 4 : 2) * gate.groups);
      choose(unit.gate_stream(), p.channels[unit.gate_stream()], gate.groups);
      if (unit.sum >= 0) choose(unit.sum_stream(), p.channels[unit.sum_stream()], gate.groups);
    }
    for (auto unit = units.rbegin(); unit != units.rend(); ++unit) {
      const SamplingStream& made = streams[unit->stream];
      if (!made.layout.blocks) choose(unit->stream, p.channels[unit->stream], made.early ? 1 : p.groups);
      const auto choose_added = [&](int s, const SamplingStream& to) {
        if (s > 0 && !streams[s].layout.blocks) choose(s, p.channels[s], to.layout.blocks);
      };
      choose_added(unit->add, made);
      if (unit->gate >= 0) choose_added(unit->gate_add, streams[unit->gate_stream()]);
    }
    for (const SamplingUnit& unit : units)
      if (unit.gate_add >= 0 && !streams[unit.gate_add].layout.same_places(streams[unit.gate_stream()].layout))
        throw std::invalid_argument("sampling: what is added to a gate has other blocks of channels");
  }

  void form_passes() {
    for (SamplingUnit& unit : units) {
      const SamplingStream& made = streams[unit.stream];
      if (!made.early) continue;
      bool begins = passes == 0 || pass_strides.back() != made.stride || scans(unit) || pass_scans.back();
      for (const SamplingStage::Tap& tap : taps_of(unit))
        begins = begins || (tap.dy == 0 && tap.dx != 0 && streams[unit.source].pass == passes - 1);
      if (begins) {
        ++passes;
        pass_strides.push_back(made.stride);
        pass_scans.push_back(scans(unit));
        pass_ends.push_back(0);
      }
      unit.pass = streams[unit.stream].pass = passes - 1;
      if (unit.gate >= 0) streams[unit.gate_stream()].pass = unit.pass;
    }
    std::stable_partition(units.begin(), units.end(), [&](const SamplingUnit& u) { return u.pass >= 0; });
    for (size_t i = 0; i < units.size() && units[i].pass >= 0; ++i) pass_ends[units[i].pass] = i + 1;
    for (SamplingStream& stream : streams)
      if (stream.pass < 0) stream.pass = passes;  // late
  }
};

}  // namespace PYGEN_ISA
}  // namespace pygen
