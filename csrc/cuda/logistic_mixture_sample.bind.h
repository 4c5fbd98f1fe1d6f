// Python arguments of logistic_mixture_sample -> a call of the launcher.
#pragma once

#include "cuda/arguments.h"
#include "cuda/logistic_mixture_sample.h"

namespace pygen::cuda {

inline void bind_logistic_mixture_sample(py::module_& m) {
  m.def(
      "logistic_mixture_sample",
      [](std::string dtype, py::tuple sizes, int64_t channels, int64_t num_levels, double min_log_scale,
         py::tuple params, py::tuple x, bool wide_levels, double inverse_temperature, double log_temperature,
         std::uintptr_t seed, int device, std::uintptr_t stream) {
        LogisticMixtureSampleCall call{};
        call.device = device;
        call.stream = stream;
        call.dtype = std::move(dtype);
        call.images = py::handle(sizes[0]).cast<int64_t>();
        call.components = py::handle(sizes[1]).cast<int64_t>();
        call.positions = py::handle(sizes[2]).cast<int64_t>();
        call.channels = channels;
        call.num_levels = num_levels;
        call.min_log_scale = min_log_scale;
        call.params = parse_positions(params);
        call.x = parse_positions(x);
        call.wide_levels = wide_levels;
        call.inverse_temperature = inverse_temperature;
        call.log_temperature = log_temperature;
        call.seed = seed;
        const py::gil_scoped_release release;
        logistic_mixture_sample(call);
      },
      "dtype, sizes (N, K, positions), C, number of levels, least log scale, (address, strides) of params and of x "
      "(written), whether x holds int64, 1 / temperature, log temperature, address of the seed, device, stream");
}

}  // namespace pygen::cuda
