// Python arguments of categorical_nll -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/categorical_nll.h"
#include "cpu/isa.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void categorical_nll(const CategoricalNll&))

inline void bind_categorical_nll(py::module_& m) {
  m.def(
      "categorical_nll",
      [](std::string_view dtype, py::tuple sizes, py::tuple logits, py::tuple x, bool wide_levels, bool reduce,
         double scale, py::handle nll, py::handle grad_nll, int64_t grad_nll_stride, py::handle grad_logits,
         int threads) {
        CategoricalNll p;
        p.dtype = parse_dtype(dtype);
        p.images = py::handle(sizes[0]).cast<int64_t>();
        p.channels = py::handle(sizes[1]).cast<int64_t>();
        p.levels = py::handle(sizes[2]).cast<int64_t>();
        p.positions = py::handle(sizes[3]).cast<int64_t>();
        p.logits = parse_positions(logits);
        p.x = parse_positions(x);
        p.wide_levels = wide_levels;
        p.reduce = reduce;
        p.scale = scale;
        p.nll = const_cast<void*>(parse_pointer(nll));
        p.grad_nll = parse_pointer(grad_nll);
        p.grad_nll_stride = grad_nll_stride;
        p.grad_logits = parse_positions(grad_logits);
        p.threads = threads;
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::categorical_nll) table[] = PYGEN_ISA_TABLE(categorical_nll);
        table[isa_in_use()](p);
      },
      "dtype, sizes (N, C, L, positions), (address, strides) of logits [N, C L, positions] and x [N, C, positions], "
      "whether x holds int64, whether nll is one number, its scale; nll or None (written); grad_nll or None, which is "
      "1, its stride; grad_logits or None (written), threads");
}

}  // namespace pygen
