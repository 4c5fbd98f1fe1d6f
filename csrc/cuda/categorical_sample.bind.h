// Python arguments of categorical_sample -> a call of the launcher.
#pragma once

#include "cuda/arguments.h"
#include "cuda/categorical_sample.h"

namespace pygen::cuda {

inline void bind_categorical_sample(py::module_& m) {
  m.def(
      "categorical_sample",
      [](std::string dtype, py::tuple sizes, py::tuple logits, py::tuple x, bool wide_levels,
         double inverse_temperature, std::uintptr_t seed, int device, std::uintptr_t stream) {
        CategoricalSampleCall call{};
        call.device = device;
        call.stream = stream;
        call.dtype = std::move(dtype);
        call.images = py::handle(sizes[0]).cast<int64_t>();
        call.channels = py::handle(sizes[1]).cast<int64_t>();
        call.levels = py::handle(sizes[2]).cast<int64_t>();
        call.positions = py::handle(sizes[3]).cast<int64_t>();
        call.logits = parse_positions(logits);
        call.x = parse_positions(x);
        call.wide_levels = wide_levels;
        call.inverse_temperature = inverse_temperature;
        call.seed = seed;
        const py::gil_scoped_release release;
        categorical_sample(call);
      },
      "dtype, sizes (N, C, L, positions), (address, strides) of logits [N, C L, positions] and x [N, C, positions] "
      "(written), whether x holds int64, 1 / temperature, address of the seed, device, stream");
}

}  // namespace pygen::cuda
