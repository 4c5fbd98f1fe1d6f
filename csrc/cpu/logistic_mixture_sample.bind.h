// Python arguments of logistic_mixture_sample -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/logistic_mixture_sample.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void logistic_mixture_sample(const LogisticMixtureSample&))

inline void bind_logistic_mixture_sample(py::module_& m) {
  m.def(
      "logistic_mixture_sample",
      [](std::string_view dtype, py::tuple sizes, int64_t channels, int64_t num_levels, double min_log_scale,
         py::tuple params, py::tuple x, bool wide_levels, double inverse_temperature, double log_temperature,
         int64_t seed, int threads) {
        LogisticMixtureSample p;
        p.dtype = parse_dtype(dtype);
        p.images = py::handle(sizes[0]).cast<int64_t>();
        p.components = py::handle(sizes[1]).cast<int64_t>();
        p.positions = py::handle(sizes[2]).cast<int64_t>();
        p.channels = channels;
        p.num_levels = num_levels;
        p.min_log_scale = min_log_scale;
        p.params = parse_positions(params);
        p.x = parse_positions(x);
        p.wide_levels = wide_levels;
        p.inverse_temperature = inverse_temperature;
        p.log_temperature = log_temperature;
        p.seed = static_cast<uint64_t>(seed);
        p.threads = threads;
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::logistic_mixture_sample) table[] = PYGEN_ISA_TABLE(logistic_mixture_sample);
        table[isa_in_use()](p);
      },
      "dtype, sizes (N, K, positions), C, number of levels, least log scale, (address, strides) of params and of x "
      "(written), whether x holds int64, 1 / temperature, log temperature, seed, threads");
}

}  // namespace pygen
