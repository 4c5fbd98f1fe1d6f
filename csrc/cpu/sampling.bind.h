// Python arguments of the sampling engine -> params -> the kernel of the instruction set in use.
#pragma once

#include <array>

#include "cpu/arguments.h"
#include "cpu/dense_network.bind.h"
#include "cpu/interrupt.bind.h"
#include "cpu/isa.h"
#include "cpu/sampling.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void sampling_draw(const Sampling&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void sampling_dense_draw(const DenseSampling&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void sampling_uniforms(const SamplingUniforms&))

inline SamplingStage::Tap parse_sampling_tap(py::tuple tap) {
  return {py::handle(tap[0]).cast<int64_t>(), py::handle(tap[1]).cast<int64_t>()};
}

// (taps, weight, its strides)
inline SamplingStage::Phase parse_sampling_phase(py::tuple phase) {
  SamplingStage::Phase p;
  for (py::handle tap : py::handle(phase[0]))
    p.taps.push_back(parse_sampling_tap(py::reinterpret_borrow<py::tuple>(tap)));
  p.weight = parse_pointer(phase[1]);
  const py::tuple strides = phase[2];
  p.tap_stride = py::handle(strides[0]).cast<int64_t>();
  p.out_stride = py::handle(strides[1]).cast<int64_t>();
  p.in_stride = py::handle(strides[2]).cast<int64_t>();
  return p;
}

// ("conv", source, phases, bias, relu, add, strict), ("up", source, phases, bias), ("gate", source, groups, cond,
// cond_is_map, linear, add), ("elu", source, concat), ("lstm", source, phases, groups, before, first_row) or ("sum",
// source, add).
inline SamplingStage parse_sampling_stage(py::tuple stage) {
  using Kind = SamplingStage::Kind;
  SamplingStage s;
  const auto kind = py::handle(stage[0]).cast<std::string_view>();
  for (const auto& [name, of_name] : {std::pair{"conv", Kind::Conv},
                                      {"gate", Kind::Gate},
                                      {"elu", Kind::Elu},
                                      {"up", Kind::Up},
                                      {"lstm", Kind::Lstm},
                                      {"sum", Kind::Sum}})
    if (kind == name) s.kind = of_name;
  s.source = py::handle(stage[1]).cast<int64_t>();
  const auto parse_add = [&](int at) {
    if (!py::handle(stage[at]).is_none()) s.add = py::handle(stage[at]).cast<int64_t>();
  };
  if (s.kind == Kind::Elu) s.concat = py::handle(stage[2]).cast<bool>();
  if (s.kind == Kind::Gate) {
    s.groups = py::handle(stage[2]).cast<int64_t>();
    s.cond = parse_pointer(stage[3]);
    s.cond_is_map = py::handle(stage[4]).cast<bool>();
    s.linear = py::handle(stage[5]).cast<bool>();
    parse_add(6);
  }
  if (s.kind == Kind::Sum) parse_add(2);
  if (s.kind == Kind::Lstm) {
    s.groups = py::handle(stage[3]).cast<int64_t>();
    s.before = parse_sampling_tap(stage[4]);
    s.first_row = py::handle(stage[5]).cast<int64_t>();
  }
  if (!s.convolves() && s.kind != Kind::Lstm) return s;
  for (py::handle phase : py::handle(stage[2]))
    s.phases.push_back(parse_sampling_phase(py::reinterpret_borrow<py::tuple>(phase)));
  if (s.kind == Kind::Lstm) return s;
  s.bias = parse_pointer(stage[3]);
  if (s.kind == Kind::Up) return s;
  s.relu = py::handle(stage[4]).cast<bool>();
  parse_add(5);
  s.strict = py::handle(stage[6]).cast<bool>();
  return s;
}

// (dtype, num_levels, address of levels (written), whether they are int64, addresses of u, known, known_mask,
// temperature, address of the scaled levels, threads)
inline void parse_sampling_draws(py::tuple draws, SamplingDraws& p) {
  p.dtype = parse_dtype(py::handle(draws[0]).cast<std::string_view>());
  p.num_levels = py::handle(draws[1]).cast<int64_t>();
  p.levels = const_cast<void*>(parse_pointer(draws[2]));
  p.wide_levels = py::handle(draws[3]).cast<bool>();
  p.u = static_cast<const float*>(parse_pointer(draws[4]));
  p.known = parse_pointer(draws[5]);
  p.known_mask = static_cast<const bool*>(parse_pointer(draws[6]));
  p.temperature = py::handle(draws[7]).cast<double>();
  p.scaled = parse_pointer(draws[8]);
  p.threads = py::handle(draws[9]).cast<int>();
}

inline void bind_sampling(py::module_& m) {
  using Kernel = void (*)(const Sampling&);
  static constexpr std::array<Kernel, kNumIsas> table PYGEN_ISA_TABLE(sampling_draw);
  m.def(
      "sampling_draw",
      [](py::tuple draws, py::tuple stages, py::tuple channels, py::tuple early, py::tuple strides, int64_t groups,
         py::tuple mixture, py::tuple sizes) {
        Sampling p;
        parse_sampling_draws(draws, p);
        for (py::handle stage : stages)
          p.stages.push_back(parse_sampling_stage(py::reinterpret_borrow<py::tuple>(stage)));
        for (py::handle c : channels) p.channels.push_back(c.cast<int64_t>());
        for (py::handle e : early) p.early.push_back(e.cast<bool>());
        for (py::handle t : strides) p.strides.push_back(t.cast<int64_t>());
        p.groups = groups;
        if (mixture.size()) {
          p.num_mixtures = py::handle(mixture[0]).cast<int64_t>();
          p.min_log_scale = py::handle(mixture[1]).cast<double>();
        }
        p.batch = py::handle(sizes[0]).cast<int64_t>();
        p.in_channels = py::handle(sizes[1]).cast<int64_t>();
        p.height = py::handle(sizes[2]).cast<int64_t>();
        p.width = py::handle(sizes[3]).cast<int64_t>();
        Signals signals;
        p.interrupt = &signals;
        run_interruptibly(signals, [&] { table[isa_in_use()](p); });
      },
      "what decisions need, stages, channels, early and stride of each stream, groups, (mixtures, min_log_scale) or "
      "(), "
      "(n, C, H, W)");
  using DenseKernel = void (*)(const DenseSampling&);
  static constexpr std::array<DenseKernel, kNumIsas> dense PYGEN_ISA_TABLE(sampling_dense_draw);
  m.def(
      "sampling_dense_draw",
      [](py::tuple draws, py::tuple layers, py::tuple degrees, int64_t batch) {
        DenseSampling p;
        parse_sampling_draws(draws, p);
        const py::tuple outputs = py::make_tuple(p.num_levels, p.num_levels, 1);
        p.network = parse_dense_network(layers, degrees, degrees[0], outputs, batch);
        Signals signals;
        p.interrupt = &signals;
        run_interruptibly(signals, [&] { dense[isa_in_use()](p); });
      },
      "what decisions need, layers and degrees (parse_dense_network), n");
  using Noise = void (*)(const SamplingUniforms&);
  static constexpr std::array<Noise, kNumIsas> noise PYGEN_ISA_TABLE(sampling_uniforms);
  m.def(
      "sampling_uniforms",
      [](int64_t seed, int64_t images, int64_t draws, uintptr_t out, int threads) {
        const py::gil_scoped_release release;
        noise[isa_in_use()]({static_cast<uint64_t>(seed), images, draws, reinterpret_cast<float*>(out), threads});
      },
      "seed, images, draws of each, address of float32 [images, draws] (written), threads");
}

}  // namespace pygen
