// Python arguments of logistic_mixture_nll -> params -> the kernel of the instruction set in use.
#pragma once

#include "cpu/arguments.h"
#include "cpu/isa.h"
#include "cpu/logistic_mixture_nll.h"

namespace pygen {

PYGEN_FOR_EACH_ISA(PYGEN_ISA_DECLARE, void logistic_mixture_nll(const LogisticMixtureNll&))

inline void bind_logistic_mixture_nll(py::module_& m) {
  m.def(
      "logistic_mixture_nll",
      [](std::string_view dtype, py::tuple sizes, int channels, int num_levels, double min_log_scale, py::tuple params,
         py::tuple x, bool wide_levels, bool reduce, double scale, py::handle nll, py::handle grad_nll,
         int64_t grad_nll_stride, py::handle grad_params, int threads) {
        LogisticMixtureNll p;
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
        p.reduce = reduce;
        p.scale = scale;
        p.nll = const_cast<void*>(parse_pointer(nll));
        p.grad_nll = parse_pointer(grad_nll);
        p.grad_nll_stride = grad_nll_stride;
        p.grad_params = parse_positions(grad_params);
        p.threads = threads;
        const py::gil_scoped_release release;
        constexpr decltype(&baseline::logistic_mixture_nll) table[] = PYGEN_ISA_TABLE(logistic_mixture_nll);
        table[isa_in_use()](p);
      },
      "dtype, sizes (N, K, positions), channels, num_levels, min_log_scale, (address, strides) of params and x [N, ., "
      "positions], whether x holds int64, whether nll is one number, its scale; nll or None (written); grad_nll or "
      "None, which is 1, its stride; grad_params or None (written), threads");
}

}  // namespace pygen
