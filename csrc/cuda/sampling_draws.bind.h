// Python's tuple of a sampler's draws (pygen/native/_sampling_draws.py) -> SamplingDraws; and the noise's arguments.
#pragma once

#include "cuda/arguments.h"
#include "cuda/sampling_draws.h"

namespace pygen::cuda {

inline SamplingDraws parse_draws(const py::tuple& given) {
  SamplingDraws draws;
  draws.num_levels = given[0].cast<int64_t>();
  draws.scale = given[1].cast<double>();
  draws.shift = given[2].cast<double>();
  draws.temperature = given[3].cast<double>();
  draws.levels = given[4].cast<std::uintptr_t>();
  draws.wide = given[5].cast<bool>();
  draws.known = parse_address(given[6]);
  draws.known_mask = parse_address(given[7]);
  draws.u = given[8].cast<std::uintptr_t>();
  return draws;
}

inline void bind_sampling_uniforms(py::module_& m) {
  m.def(
      "sampling_uniforms",
      [](std::uintptr_t seed, int64_t n, int64_t draws, std::uintptr_t out, int device, std::uintptr_t stream) {
        const py::gil_scoped_release release;
        sampling_uniforms({device, stream, seed, n, draws, out});
      },
      "seed, n, draws, out, device, stream");
}

}  // namespace pygen::cuda
