// Python arguments of sample_dot -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/sample_dot.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void sample_dot_forward(const SampleDot&))
PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void sample_dot_backward(const SampleDot&))

inline void bind_sample_dot(py::module_& m) {
  const auto parse = [](SampleDot& p, std::string_view dtype, py::tuple sizes, py::handle x, int threads) {
    p.dtype = parse_dtype(dtype);
    p.rows = py::handle(sizes[0]).cast<int64_t>();
    p.row_size = product(sizes) / p.rows;
    p.x = parse_view(x, sizes);
    p.threads = threads;
  };
  m.def(
      "sample_dot_forward",
      [parse](std::string_view dtype, py::tuple sizes, py::handle x, py::handle y, py::handle sums, int threads) {
        SampleDot p;
        parse(p, dtype, sizes, x, threads);
        p.y = parse_view(y, sizes);
        p.sums = const_cast<void*>(parse_pointer(sums));
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::sample_dot_forward) table[] = PYGEN_ISA_TABLE(sample_dot_forward);
        table[isa_in_use()](p);
      },
      "dtype, sizes [N >= 1, ...], x, y or None, sums (written), threads");
  m.def(
      "sample_dot_backward",
      [parse](std::string_view dtype, py::tuple sizes, py::handle factor, int64_t factor_stride, py::handle x,
              py::handle out, int threads) {
        SampleDot p;
        parse(p, dtype, sizes, x, threads);
        p.factor = parse_pointer(factor);
        p.factor_stride = factor_stride;
        p.out = parse_view(out, sizes);
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::sample_dot_backward) table[] = PYGEN_ISA_TABLE(sample_dot_backward);
        table[isa_in_use()](p);
      },
      "dtype, sizes, factor, its stride, x, out (written), threads");
}

}  // namespace pygen
