// Python arguments of categorical_nll -> calls of the launchers.
#pragma once

#include "cuda/arguments.h"
#include "cuda/categorical_nll.h"

namespace pygen::cuda {

inline void bind_categorical_nll(py::module_& m) {
  m.def("categorical_nll_workspace", &categorical_nll_workspace,
        "N, C, L, positions: how many partial sums forward needs room for.");
  m.def(
      "categorical_nll",
      [](std::string dtype, py::tuple sizes, py::tuple logits, py::tuple x, bool wide_levels, bool reduce, double scale,
         py::handle nll, py::handle grad_nll, int64_t grad_nll_stride, py::handle grad_logits, int device,
         std::uintptr_t stream, std::uintptr_t workspace) {
        CategoricalCall call{};
        call.device = device;
        call.stream = stream;
        call.dtype = std::move(dtype);
        call.images = py::handle(sizes[0]).cast<int64_t>();
        call.channels = py::handle(sizes[1]).cast<int64_t>();
        call.levels = py::handle(sizes[2]).cast<int64_t>();
        call.positions = py::handle(sizes[3]).cast<int64_t>();
        call.logits = parse_positions(logits);
        call.x = parse_positions(x);
        call.wide_levels = wide_levels;
        call.reduce = reduce;
        call.scale = scale;
        call.nll = parse_address(nll);
        call.grad_nll = parse_address(grad_nll);
        call.grad_nll_stride = grad_nll_stride;
        call.grad_logits = parse_positions(grad_logits);
        call.workspace = workspace;
        const py::gil_scoped_release release;
        categorical_nll(call);
      },
      "dtype, sizes (N, C, L, positions), (address, strides) of logits [N, C L, positions] and x [N, C, positions], "
      "whether x holds int64, whether nll is one number, its scale; nll or None (written); grad_nll or None, its "
      "stride; grad_logits or None (written); device, stream, workspace");
}

}  // namespace pygen::cuda
