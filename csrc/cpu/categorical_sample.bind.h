// Python arguments of categorical_sample -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/categorical_sample.h"
#include "cpu/isa.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void categorical_sample(const CategoricalSample&))

inline void bind_categorical_sample(py::module_& m) {
  m.def(
      "categorical_sample",
      [](std::string_view dtype, py::tuple sizes, py::tuple logits, py::tuple x, bool wide_levels,
         double inverse_temperature, int64_t seed, int threads) {
        CategoricalSample p;
        p.dtype = parse_dtype(dtype);
        p.images = py::handle(sizes[0]).cast<int64_t>();
        p.channels = py::handle(sizes[1]).cast<int64_t>();
        p.levels = py::handle(sizes[2]).cast<int64_t>();
        p.positions = py::handle(sizes[3]).cast<int64_t>();
        p.logits = parse_positions(logits);
        p.x = parse_positions(x);
        p.wide_levels = wide_levels;
        p.inverse_temperature = inverse_temperature;
        p.seed = static_cast<uint64_t>(seed);
        p.threads = threads;
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::categorical_sample) table[] = PYGEN_ISA_TABLE(categorical_sample);
        table[isa_in_use()](p);
      },
      "dtype, sizes (N, C, L, positions), (address, strides) of logits [N, C L, positions] and x [N, C, positions] "
      "(written), whether x holds int64, 1 / temperature, seed, threads");
}

}  // namespace pygen
