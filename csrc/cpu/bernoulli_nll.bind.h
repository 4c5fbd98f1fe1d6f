// Python arguments of bernoulli_nll -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/bernoulli_nll.h"
#include "cpu/isa.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void bernoulli_nll(const BernoulliNll&))

inline void bind_bernoulli_nll(py::module_& m) {
  m.def(
      "bernoulli_nll",
      [](std::string_view dtype, py::tuple sizes, py::handle logits, py::handle x, std::string_view x_dtype,
         bool reduce, double scale, py::handle nll, py::handle grad_nll, int64_t grad_nll_stride,
         py::handle grad_logits, int threads) {
        BernoulliNll p;
        p.dtype = parse_dtype(dtype);
        p.rows = py::handle(sizes[0]).cast<int64_t>();
        p.cols = 1;
        for (size_t d = 1; d < sizes.size(); ++d) p.cols *= py::handle(sizes[d]).cast<int64_t>();
        p.logits = parse_view(logits, sizes);
        p.x = parse_view(x, sizes);
        p.levels = x_dtype == "uint8" ? Levels::Bytes : x_dtype == "int64" ? Levels::Words : Levels::None;
        p.reduce = reduce;
        p.scale = scale;
        p.nll = const_cast<void*>(parse_pointer(nll));
        p.grad_nll = parse_pointer(grad_nll);
        p.grad_nll_stride = grad_nll_stride;
        p.grad_logits = parse_view(grad_logits, sizes);
        p.threads = threads;
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::bernoulli_nll) table[] = PYGEN_ISA_TABLE(bernoulli_nll);
        table[isa_in_use()](p);
      },
      "dtype, sizes [N, ...], logits, x, \"uint8\", \"int64\" or logits' dtype of x, whether nll is one number, its "
      "scale; nll or None (written); grad_nll or None, which is 1, its stride; grad_logits or None (written), threads");
}

}  // namespace pygen
