// Python arguments of bernoulli_sample -> a call of the launcher.
#pragma once

#include "cuda/arguments.h"
#include "cuda/bernoulli_sample.h"

namespace pygen::cuda {

inline void bind_bernoulli_sample(py::module_& m) {
  m.def(
      "bernoulli_sample",
      [](std::string dtype, py::tuple sizes, py::tuple logits, py::tuple x, double inverse_temperature,
         std::uintptr_t seed, int device, std::uintptr_t stream) {
        BernoulliSampleCall call{};
        call.device = device;
        call.stream = stream;
        call.dtype = std::move(dtype);
        call.images = py::handle(sizes[0]).cast<int64_t>();
        call.channels = py::handle(sizes[1]).cast<int64_t>();
        call.positions = py::handle(sizes[2]).cast<int64_t>();
        call.logits = parse_positions(logits);
        call.x = parse_positions(x);
        call.inverse_temperature = inverse_temperature;
        call.seed = seed;
        const py::gil_scoped_release release;
        bernoulli_sample(call);
      },
      "dtype, sizes (N, C, positions), (address, strides) of logits and of x (bytes, written), 1 / temperature, "
      "address "
      "of the seed, device, stream");
}

}  // namespace pygen::cuda
