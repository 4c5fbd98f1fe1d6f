// Python arguments of the sampling engine -> params -> the kernel of the instruction set in use.
#pragma once

#include <array>

#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/sampling.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void sampling_draw(const Sampling&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void sampling_uniforms(const SamplingUniforms&))

// ("conv", source, taps, weight, its strides, bias, relu, add, strict) or ("gate", source, groups, cond, cond_is_map).
inline SamplingStage parse_sampling_stage(py::tuple stage) {
  SamplingStage s;
  s.gate = py::handle(stage[0]).cast<std::string_view>() == "gate";
  s.source = py::handle(stage[1]).cast<int64_t>();
  if (s.gate) {
    s.groups = py::handle(stage[2]).cast<int64_t>();
    s.cond = parse_pointer(stage[3]);
    s.cond_is_map = py::handle(stage[4]).cast<bool>();
    return s;
  }
  for (py::handle tap : py::handle(stage[2])) {
    const py::tuple pair = py::reinterpret_borrow<py::tuple>(tap);
    s.taps.push_back({py::handle(pair[0]).cast<int64_t>(), py::handle(pair[1]).cast<int64_t>()});
  }
  s.weight = parse_pointer(stage[3]);
  const py::tuple strides = stage[4];
  s.tap_stride = py::handle(strides[0]).cast<int64_t>();
  s.out_stride = py::handle(strides[1]).cast<int64_t>();
  s.in_stride = py::handle(strides[2]).cast<int64_t>();
  s.bias = parse_pointer(stage[5]);
  s.relu = py::handle(stage[6]).cast<bool>();
  if (!py::handle(stage[7]).is_none()) s.add = py::handle(stage[7]).cast<int64_t>();
  s.strict = py::handle(stage[8]).cast<bool>();
  return s;
}

inline void bind_sampling(py::module_& m) {
  using Kernel = void (*)(const Sampling&);
  static constexpr std::array<Kernel, kNumIsas> table PYGEN_ISA_TABLE(sampling_draw);
  m.def(
      "sampling_draw",
      [](std::string_view dtype, py::tuple stages, py::tuple channels, py::tuple early, int64_t groups,
         int64_t num_levels, py::tuple sizes, py::handle levels, bool wide_levels, py::handle u, py::handle known,
         py::handle known_mask, double temperature, py::handle scaled, int threads) {
        Sampling p;
        p.dtype = parse_dtype(dtype);
        for (py::handle stage : stages)
          p.stages.push_back(parse_sampling_stage(py::reinterpret_borrow<py::tuple>(stage)));
        for (py::handle c : channels) p.channels.push_back(c.cast<int64_t>());
        for (py::handle e : early) p.early.push_back(e.cast<bool>());
        p.groups = groups;
        p.num_levels = num_levels;
        p.batch = py::handle(sizes[0]).cast<int64_t>();
        p.height = py::handle(sizes[1]).cast<int64_t>();
        p.width = py::handle(sizes[2]).cast<int64_t>();
        p.levels = const_cast<void*>(parse_pointer(levels));
        p.wide_levels = wide_levels;
        p.u = static_cast<const float*>(parse_pointer(u));
        p.known = parse_pointer(known);
        p.known_mask = static_cast<const bool*>(parse_pointer(known_mask));
        p.temperature = temperature;
        p.scaled = parse_pointer(scaled);
        p.threads = threads;
        const py::gil_scoped_release release;
        table[isa_in_use()](p);
      },
      "dtype, stages, channels and early of each stream, groups, num_levels, (n, H, W), address of levels (written), "
      "whether they are int64, addresses of u, known, known_mask, temperature, address of the scaled levels, threads");
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
