// Python arguments of logistic_mixture_nll -> calls of the launchers.
#pragma once

#include "cuda/arguments.h"
#include "cuda/logistic_mixture_nll.h"

namespace pygen::cuda {

inline void bind_logistic_mixture_nll(py::module_& m) {
  m.def("logistic_mixture_nll_workspace", &logistic_mixture_nll_workspace,
        "N, positions: how many partial sums forward needs room for.");
  m.def(
      "logistic_mixture_nll",
      [](std::string dtype, py::tuple sizes, int channels, int num_levels, double min_log_scale, py::tuple params,
         py::tuple x, bool wide_levels, bool reduce, double scale, py::handle nll, py::handle grad_nll,
         int64_t grad_nll_stride, py::handle grad_params, int device, std::uintptr_t stream, std::uintptr_t workspace) {
        LogisticMixtureCall call{};
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
        call.reduce = reduce;
        call.scale = scale;
        call.nll = parse_address(nll);
        call.grad_nll = parse_address(grad_nll);
        call.grad_nll_stride = grad_nll_stride;
        call.grad_params = parse_positions(grad_params);
        call.workspace = workspace;
        const py::gil_scoped_release release;
        logistic_mixture_nll(call);
      },
      "dtype, sizes (N, K, positions), channels, num_levels, min_log_scale, (address, strides) of params and x [N, ., "
      "positions], whether x holds int64, whether nll is one number, its scale; nll or None (written); grad_nll or "
      "None, its stride; grad_params or None (written); device, stream, workspace");
}

}  // namespace pygen::cuda
