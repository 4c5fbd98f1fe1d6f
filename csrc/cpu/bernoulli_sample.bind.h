// Python arguments of bernoulli_sample -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/bernoulli_sample.h"
#include "cpu/isa.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void bernoulli_sample(const BernoulliSample&))

inline void bind_bernoulli_sample(py::module_& m) {
  m.def(
      "bernoulli_sample",
      [](std::string_view dtype, py::tuple sizes, py::tuple logits, py::tuple x, double inverse_temperature,
         int64_t seed, int threads) {
        BernoulliSample p;
        p.dtype = parse_dtype(dtype);
        p.images = py::handle(sizes[0]).cast<int64_t>();
        p.channels = py::handle(sizes[1]).cast<int64_t>();
        p.positions = py::handle(sizes[2]).cast<int64_t>();
        p.logits = parse_positions(logits);
        p.x = parse_positions(x);
        p.inverse_temperature = inverse_temperature;
        p.seed = static_cast<uint64_t>(seed);
        p.threads = threads;
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::bernoulli_sample) table[] = PYGEN_ISA_TABLE(bernoulli_sample);
        table[isa_in_use()](p);
      },
      "dtype, sizes (N, C, positions), (address, strides) of logits and of x (bytes, written), 1 / temperature, seed, "
      "threads");
}

}  // namespace pygen
